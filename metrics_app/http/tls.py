"""TLS of the HTTP server and towards other workers.

Called by `app` and `query.views`.
"""

from __future__ import annotations

import ssl

from metrics_app.errors import SettingsError
from metrics_app.settings import Settings


def server_side(settings: Settings) -> ssl.SSLContext | None:
    """What the HTTP server shows; None for plain HTTP.

    Raises:
        SettingsError: a file cannot be read, or certificate and key do not fit.
    """
    if settings.tls_cert_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except OSError as error:
        names = f"{settings.tls_cert_file}, {settings.tls_key_file}"
        raise SettingsError([f"METRICS_TLS_CERT_FILE, METRICS_TLS_KEY_FILE {names}: {error}"]) from error
    return context


def client_side(settings: Settings) -> ssl.SSLContext:
    """Whom this worker trusts to be another one.

    Raises:
        SettingsError: the file of authorities cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=settings.tls_ca_file)
    except OSError as error:
        raise SettingsError([f"METRICS_TLS_CA_FILE {settings.tls_ca_file}: {error}"]) from error


def trust_anew(context: ssl.SSLContext, settings: Settings) -> None:
    """Reads the file of authorities again; those trusted before stay trusted until the process ends.

    Raises:
        SettingsError: it cannot be read.
    """
    if settings.tls_ca_file is None:
        return
    try:
        context.load_verify_locations(settings.tls_ca_file)
    except OSError as error:
        raise SettingsError([f"METRICS_TLS_CA_FILE {settings.tls_ca_file}: {error}"]) from error
