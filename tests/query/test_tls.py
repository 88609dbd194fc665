"""Workers that speak TLS to everybody, and to each other."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from metrics_app.errors import SettingsError
from metrics_app.http import tls
from metrics_app.settings import load
from tests import certificates

from .fakes import ask, row, worker


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A certificate for 127.0.0.1 that is its own authority, as settings."""
    return certificates.make(tmp_path_factory.mktemp("tls"))


async def test_a_question_is_passed_on_over_tls_to_a_worker_that_is_trusted(files):
    trusted = tls.client_side(load(**files))
    async with worker(found=row(4.0), **files) as owner, worker(owner.url, role=None, **files) as other:
        assert owner.url.startswith("https://")
        assert (await ask(other.url, trusted=trusted)).json["value"] == 4.0


async def test_nothing_is_sent_to_a_worker_whose_certificate_is_not_trusted(files):
    async with worker(found=row(4.0), **files) as impostor, worker(impostor.url, role=None) as other:
        assert (await ask(other.url)).status == 503
        assert other.forwards() == {"unreachable": 1}
        assert next(iter(impostor.telemetry.requests.collect())).samples == []


def test_old_protocols_are_not_spoken(files):
    context = tls.server_side(load(**files))
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("name", ["tls_cert_file", "tls_key_file"])
def test_certificate_and_key_go_together(files, name):
    with pytest.raises(SettingsError, match="tls_cert_file and tls_key_file go together"):
        load(**{name: files[name]})


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_a_file_that_cannot_be_used_is_named(files, tmp_path, content):
    broken = tmp_path / "broken.pem"
    if content:
        broken.write_text(content)
    with pytest.raises(SettingsError, match=r"METRICS_TLS_CERT_FILE.*broken\.pem"):
        tls.server_side(load(**(files | {"tls_cert_file": broken})))
    with pytest.raises(SettingsError, match=r"METRICS_TLS_CA_FILE.*broken\.pem"):
        tls.client_side(load(tls_ca_file=broken))


def test_authorities_that_are_read_again_are_trusted_beside_the_old_ones(files, tmp_path):
    settings = load(**certificates.make(tmp_path, "old"))
    context = tls.client_side(settings)
    certificates.make(tmp_path, "new")
    tls.trust_anew(context, settings)
    assert len(context.get_ca_certs()) == 2
    (tmp_path / "cert.pem").write_text("not a certificate")
    with pytest.raises(SettingsError, match="METRICS_TLS_CA_FILE"):
        tls.trust_anew(context, settings)
