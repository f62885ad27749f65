#!/bin/sh
# Start Valkey (or Redis) with valkey.conf and the users of users.acl, both beside this file.
#
#   VALKEY_PASSWORD        of the user `broadcaster`; required
#   VALKEY_ADMIN_PASSWORD  of the user `admin`; unset or empty: nobody is admin
#   VALKEY_SERVER          the program; default valkey-server
#   VALKEY_DATA            where the data and the finished users go; default /data
#
# Further words go to the server, after the file, so that they win: start.sh --maxmemory 4gb
# Passwords go into the users as digests, and are taken out of the server's environment.
set -eu
umask 077

server=${VALKEY_SERVER:-valkey-server}
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
data=${VALKEY_DATA:-/data}

digest() {
    printf %s "$1" | sha256sum | cut -c 1-64
}

if [ "$(printf %s "${VALKEY_PASSWORD:-}" | wc -c)" -lt 16 ]; then
    echo "VALKEY_PASSWORD must have at least 16 characters: openssl rand -hex 24" >&2
    exit 2
fi
case $VALKEY_PASSWORD in
    *[!A-Za-z0-9._~-]*)
        echo "VALKEY_PASSWORD stands in a URL: letters, digits, '.', '_', '~' and '-' alone" >&2
        exit 2
        ;;
esac
admin=off
if [ -n "${VALKEY_ADMIN_PASSWORD:-}" ]; then
    admin="on #$(digest "$VALKEY_ADMIN_PASSWORD")"
fi

# Redis 7.0 does not start with a right that it does not know.
unknown='{nothing}'
case $("$server" --version) in
    *" v=7.0."*) unknown='+client|setinfo ' ;;
esac

# One line for each user.
users=
while read -r line || [ -n "$line" ]; do
    case $line in
        '' | '#'*) ;;
        'user '*) users="$users
$line" ;;
        *) users="$users $line" ;;
    esac
done <"$here/users.acl"
printf '%s\n' "$users" |
    sed -e "s/{PASSWORD_SHA256}/$(digest "$VALKEY_PASSWORD")/" -e "s/{ADMIN}/$admin/" -e "s/$unknown//" >"$data/users.acl"

exec env -u VALKEY_PASSWORD -u VALKEY_ADMIN_PASSWORD "$server" "$here/valkey.conf" \
    --dir "$data" --aclfile "$data/users.acl" "$@"
