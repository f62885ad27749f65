"""The TLS of every connection to Redis, whether for commands or for pushes, from redis-py's ``ssl_*`` options.

Certificates are renewed while a process runs, often every day: a context is made anew once a file has changed.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any, Final

_CERT_REQS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class RedisTls:
    """The context that the ``ssl_*`` options describe; redis-py calls ``get`` for each connection that it opens."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._context: ssl.SSLContext | None = None
        self._versions: list[tuple[int, int, int]] = []

    def get(self) -> ssl.SSLContext:
        """The context. Raises LookupError, ValueError or OSError for an option or a file that cannot be used.

        A certificate and a key that do not match, because only one of them is renewed yet, are such files; the next
        call reads them again.
        """
        versions = [_version(name, self._options[name]) for name in _FILES if self._options.get(name)]
        if self._context is None or versions != self._versions:
            self._context, self._versions = _context(self._options), versions
        return self._context


def _version(option: str, path: str) -> tuple[int, int, int]:
    """What changes when the file is renewed; a link, as in a Kubernetes secret, is followed."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise OSError(error.errno, f"{option}: {error.strerror}") from None  # no message repeats a part of the URL
    return found.st_mtime_ns, found.st_ino, found.st_size


def _context(options: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cafile=options.get("ssl_ca_certs"), capath=options.get("ssl_ca_path"), cadata=options.get("ssl_ca_data")
    )
    requirement = _CERT_REQS[str(options.get("ssl_cert_reqs", "required")).lower()]
    if requirement is ssl.CERT_NONE or not options.get("ssl_check_hostname", True):
        context.check_hostname = False
    context.verify_mode = requirement
    for flag in options.get("ssl_include_verify_flags") or ():
        context.verify_flags |= flag
    for flag in options.get("ssl_exclude_verify_flags") or ():
        context.verify_flags &= ~flag
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_password"))
    if options.get("ssl_min_version") is not None:
        context.minimum_version = ssl.TLSVersion(options["ssl_min_version"])
    if options.get("ssl_ciphers"):
        context.set_ciphers(options["ssl_ciphers"])
    return context
