"""Workers that speak TLS to everybody, and to each other."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError

from metrics_app.configuration import load
from metrics_app.errors import SettingsError
from metrics_app.http import tls
from tests import certificates

from .fakes import PATH, ask, row, worker


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


# client certificates


def showing(files: dict[str, Path], own: bool = True) -> ssl.SSLContext:
    """A client that trusts the workers, and shows their certificate as its own."""
    context = ssl.create_default_context(cafile=files["tls_ca_file"])
    if own:
        context.load_cert_chain(files["tls_cert_file"], files["tls_key_file"])
    return context


async def test_nobody_comes_in_without_a_certificate_where_one_is_asked_for(files):
    settings = {**files, "tls_client_ca_file": files["tls_ca_file"]}
    async with worker(found=row(4.0), **settings) as running:
        with pytest.raises(ClientError):
            await ask(running.url, trusted=showing(files, own=False))
        assert (await ask(running.url, trusted=showing(files))).json["value"] == 4.0


async def test_a_certificate_of_somebody_else_is_none(files, tmp_path):
    other = certificates.make(tmp_path, "stranger")
    context = ssl.create_default_context(cafile=files["tls_ca_file"])
    context.load_cert_chain(other["tls_cert_file"], other["tls_key_file"])
    async with worker(found=row(), **files, tls_client_ca_file=files["tls_ca_file"]) as running:
        with pytest.raises(ClientError):
            await ask(running.url, trusted=context)


async def test_workers_show_each_other_their_certificates(files):
    settings = {**files, "tls_client_ca_file": files["tls_ca_file"], "cluster_token": "c"}
    async with worker(found=row(4.0), **settings) as owner, worker(owner.url, role=None, **settings) as other:
        assert (await ask(other.url, trusted=showing(files))).json["value"] == 4.0


@pytest.mark.parametrize(("name", "status"), [("worker", 200), ("somebody", 401)])
async def test_with_tokens_a_certificate_is_worth_what_the_line_of_its_name_says(files, tmp_path, name, status):
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(f'{{"name":"grafana","scopes":["query"],"prefixes":["check"],"cn":"{name}"}}')
    access: dict[str, Any] = {"tls_client_ca_file": files["tls_ca_file"], "tokens_file": tokens, "cluster_token": "c"}
    async with worker(found=row(), **files, **access) as running:
        assert (await ask(running.url, trusted=showing(files))).status == status
        if status == 200:
            assert (await ask(running.url, f"/other/{PATH}", trusted=showing(files))).status == 403


def test_a_file_of_client_authorities_that_cannot_be_used_is_named(files, tmp_path):
    with pytest.raises(SettingsError, match=r"METRICS_TLS_CLIENT_CA_FILE.*none\.pem"):
        tls.server_side(load(**files, tls_client_ca_file=tmp_path / "none.pem"))


async def test_up_asks_a_worker_that_wants_a_certificate_how_it_is(files):
    settings = {**files, "tls_client_ca_file": files["tls_ca_file"]}
    async with worker(found=row(), **settings) as running:
        assert (await ask(running.url, trusted=tls.unchecking(load(**settings)))).status == 200
