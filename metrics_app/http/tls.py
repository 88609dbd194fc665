"""TLS of the HTTP server and towards other workers.

Called by `app`, `cli.stages` and `query.views`.
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
    if settings.tls_client_ca_file is not None:
        try:
            context.load_verify_locations(settings.tls_client_ca_file)
        except OSError as error:
            raise SettingsError([f"METRICS_TLS_CLIENT_CA_FILE {settings.tls_client_ca_file}: {error}"]) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_side(settings: Settings) -> ssl.SSLContext:
    """Whom this worker trusts to be another one, and, where others must show a certificate, its own.

    Raises:
        SettingsError: a file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca_file)
        show_own(context, settings)
    except OSError as error:
        raise SettingsError([f"METRICS_TLS_CA_FILE {settings.tls_ca_file}: {error}"]) from error
    return context


def show_own(context: ssl.SSLContext, settings: Settings) -> None:
    """Has connections of ours show the certificate of this worker, where METRICS_TLS_CLIENT_CA_FILE asks for one.

    Raises:
        OSError: a file cannot be read.
    """
    if settings.tls_client_ca_file is not None and settings.tls_cert_file is not None:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)


def unchecking(settings: Settings) -> ssl.SSLContext:
    """For a probe of a worker of this machine: shows our certificate, and takes any.

    Raises:
        SettingsError: a file cannot be read.
    """
    context = client_side(settings)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def trust_anew(context: ssl.SSLContext, settings: Settings) -> None:
    """Reads the file of authorities again; those trusted before stay trusted until the process ends.

    Raises:
        SettingsError: it cannot be read.
    """
    if settings.tls_ca_file is None:
        return
    try:
        context.load_verify_locations(settings.tls_ca_file)
        show_own(context, settings)
    except OSError as error:
        raise SettingsError([f"METRICS_TLS_CA_FILE {settings.tls_ca_file}: {error}"]) from error
