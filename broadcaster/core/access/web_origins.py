"""Origins of pages that may call across origins, as a browser sends them in ``Origin`` (RFC 6454, section 6.2).

A browser compares the response's ``access-control-allow-origin`` with its own origin byte by byte. So each is listed
exactly as a browser sends it: in lower case, without a path, and without the default port of its scheme.
"""

from __future__ import annotations

import re
from typing import Final

_HOST: Final = r"(?:[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])"
_ORIGIN: Final = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*)://{_HOST}(?P<port>:[1-9][0-9]{{0,4}})?", re.ASCII)
_USUAL_PORTS: Final = {"http": ":80", "https": ":443"}
_MAX_PORT: Final = 65_535

_REMEDY: Final = "list each origin as its browser sends it, scheme://host[:port], such as https://app.example.com"
_FORM: Final = f"in lower case and without a path; {_REMEDY}"


def check_origin(origin: str) -> None:
    """Raises ValueError for (1) ``*``, (2) ``null``, (3) what no browser sends as the origin of a page."""
    if "*" in origin:
        raise ValueError(f"{origin!r} would let pages of other sites call with their visitors' rights; {_REMEDY}")
    if origin == "null":
        raise ValueError(f"'null' is the origin of every file and every sandboxed frame; {_REMEDY}")
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        raise ValueError(f"{origin!r} is no origin: it is scheme://host[:port], {_FORM}")
    port = found["port"] or ""
    if port and int(port[1:]) > _MAX_PORT:
        raise ValueError(f"{origin!r} has a port above {_MAX_PORT}; {_REMEDY}")
    if port and port == _USUAL_PORTS.get(found["scheme"]):
        raise ValueError(f"{origin!r} never matches, as browsers leave {port} out: write {origin.removesuffix(port)}")
