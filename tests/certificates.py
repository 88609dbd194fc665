"""Certificates for 127.0.0.1, each its own authority."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make(folder: Path, name: str = "worker") -> dict[str, Path]:
    """A certificate and its key, made with openssl, as settings; what was there before is replaced."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return {"tls_cert_file": cert, "tls_key_file": key, "tls_ca_file": cert}
