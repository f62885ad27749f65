"""Certificates for servers of a test that speak TLS."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def loopback_certificate(folder: Path) -> Path:
    """A self-signed one for 127.0.0.1, with its key in the same file."""
    return self_signed_certificate(folder, name="localhost", alternative="IP:127.0.0.1")


def self_signed_certificate(folder: Path, *, name: str, alternative: str) -> Path:
    """One of this common name and alternative name, with its key in the same file."""
    path = folder / "both.pem"
    options = f"-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name}"
    command = ["openssl", "req", *options.split(), "-addext", f"subjectAltName={alternative}"]
    subprocess.run([*command, "-keyout", str(path), "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def serving_with(certificate: Path) -> ssl.SSLContext:
    """What a server that has this certificate listens with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
