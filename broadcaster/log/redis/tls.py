"""The TLS of every connection to Redis, whether for commands or for pushes, from redis-py's ``ssl_*`` options."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

_CERT_REQS: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class RedisTls:
    """The context that the ``ssl_*`` options describe; redis-py calls ``get`` for each connection that it opens."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._context: ssl.SSLContext | None = None

    def get(self) -> ssl.SSLContext:
        """The context. Raises LookupError, ValueError or OSError for an option or a file that cannot be used."""
        if self._context is None:
            self._context = _context(self._options)
        return self._context


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
