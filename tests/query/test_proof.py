"""Workers that share a secret: it is never sent, and whoever does not know it is neither asked for nor believed."""

from __future__ import annotations

import time
from typing import Any

import pytest
from aiohttp import ClientSession, web
from yarl import URL

from metrics_app.errors import SettingsError
from metrics_app.http.proof import ANSWER_PROOF, HOP, OLD_TOKEN, PROOF, Asked, ClusterSecret
from metrics_app.http.tokens import new_token
from metrics_app.query.members import Members

from .fakes import PATH, Handler, ask, peer, row, worker

SECRET = "a secret of the cluster"
ASKED = Asked("GET", "http://a:1", "/k/median/2025-11-23/22?x=%2F", "1")


@pytest.fixture
def secret() -> ClusterSecret:
    return ClusterSecret(SECRET, 10.0)


async def test_a_question_is_passed_on_with_a_proof_and_without_the_secret():
    seen: list[dict[str, str]] = []

    async def record(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(status=503)

    async with peer(record) as rogue, worker(rogue, role=None, cluster_token=SECRET) as asked:
        assert (await ask(asked.url, X_Metrics_Token=SECRET)).status == 503
    assert len(seen) == 1
    assert PROOF in seen[0]
    assert SECRET not in str(seen)


async def test_workers_that_share_a_secret_answer_for_each_other():
    async with (
        worker(found=row(4.0), cluster_token=SECRET) as owner,
        worker(owner.url, role=None, cluster_token=SECRET) as other,
    ):
        reply = await ask(other.url)
        assert (reply.status, reply.json["value"]) == (200, 4.0)
        assert not {ANSWER_PROOF, PROOF, HOP} & set(reply.headers)
        assert (await ask(other.url, f"/nothing/{PATH}")).status == 404
        assert (await ask(other.url, If_None_Match=reply.headers["ETag"])).status == 304
        assert other.forwards() == {"answered": 3}
        assert owner.forwards() == {}


def answers_with(**headers: str) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=b'{"value": 666}', headers={"X-Metrics-Role": "active", **headers})

    return answer


@pytest.mark.parametrize("headers", [{}, {ANSWER_PROOF: ""}, {ANSWER_PROOF: "0" * 64}, {OLD_TOKEN: SECRET}])
async def test_what_a_stranger_in_the_group_answers_is_never_served(headers):
    async with peer(answers_with(**headers)) as rogue, worker(rogue, role=None, cluster_token=SECRET) as other:
        reply = await ask(other.url)
        assert (reply.status, b"666" in reply.body) == (503, False)
        assert other.forwards() == {"unusable": 1}


async def test_what_a_stranger_says_of_a_recovery_is_not_repeated():
    async def refuse(_: web.Request) -> web.Response:
        told = b'{"recovering":[{"partition":0,"done":666,"total":667,"eta_s":1.0}]}'
        return web.Response(status=503, body=told, content_type="application/problem+json")

    async with peer(refuse) as rogue, worker(rogue, role=None, cluster_token=SECRET) as other:
        assert b"666" not in (await ask(other.url)).body


async def test_a_stranger_who_passes_the_question_on_to_a_real_worker_gets_no_proof():
    async with worker(found=row(4.0), cluster_token=SECRET) as owner:

        async def relay(request: web.Request) -> web.Response:
            url = URL(owner.url + request.raw_path, encoded=True)
            headers = {name: request.headers[name] for name in (HOP, PROOF)}
            async with ClientSession() as session, session.get(url, headers=headers) as got:
                assert ANSWER_PROOF not in got.headers
                return web.Response(body=await got.read(), headers={"X-Metrics-Role": got.headers["X-Metrics-Role"]})

        async with peer(relay) as rogue, worker(rogue, role=None, cluster_token=SECRET) as other:
            assert (await ask(other.url)).status == 503


@pytest.mark.parametrize("accepted", [False, True])
async def test_an_old_worker_is_believed_during_an_upgrade_if_a_setting_says_so(accepted):
    async with (
        peer(answers_with()) as old,
        worker(old, role=None, cluster_token=SECRET, cluster_token_accept_old=accepted) as other,
    ):
        assert (await ask(other.url)).status == (200 if accepted else 503)


async def test_a_question_of_an_old_worker_is_answered():
    async with worker(found=row(4.0, role="standby"), role="standby", cluster_token=SECRET) as asked:
        assert (await ask(asked.url, X_Metrics_Hop="1", X_Metrics_Token=SECRET)).json["value"] == 4.0
        assert asked.forwards() == {}


async def test_another_worker_needs_no_token_of_ours_and_a_hop_alone_is_none(tmp_path):
    token, line = new_token("reader", ["query"], [])
    (tmp_path / "tokens").touch(mode=0o600)
    (tmp_path / "tokens").write_text(line)
    settings: dict[str, Any] = {"tokens_file": tmp_path / "tokens", "cluster_token": SECRET}
    async with worker(found=row(4.0), **settings) as owner, worker(owner.url, role=None, **settings) as other:
        assert (await ask(other.url, Authorization=f"Bearer {token}")).json["value"] == 4.0
        for hop in ("1", "2"):
            assert (await ask(owner.url, X_Metrics_Hop=hop)).status == 401
            assert (await ask(owner.url, X_Metrics_Hop=hop, X_Metrics_Token="x")).status == 401


# the proof itself


def test_a_question_is_proved_for_this_url_path_hop_and_moment(secret, monkeypatch):
    shown, nonce = secret.prove(ASKED)
    assert secret.nonce_of(ASKED, shown) == nonce
    assert secret.nonce_of(ASKED._replace(url="http://a:1/"), shown) == nonce
    for other in ({"url": "http://b:1"}, {"target": "/k"}, {"hop": "2"}, {"method": "POST"}):
        assert secret.nonce_of(ASKED._replace(**other), shown) is None
    assert ClusterSecret("another", 10.0).nonce_of(ASKED, shown) is None
    assert ClusterSecret("", 10.0).nonce_of(ASKED, shown) is None
    at, _, mac = shown.split()
    for broken in ("", "1 2", f"{at} other {mac}", f"{int(at) + 1} {nonce} {mac}", f"x {nonce} {mac}", "\xff a b"):
        assert secret.nonce_of(ASKED, broken) is None
    now = time.time()
    for later, taken in ((9.0, True), (11.0, False), (-11.0, False)):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert (secret.nonce_of(ASKED, shown) is not None) == taken


def test_an_answer_is_proved_for_this_question_with_status_role_and_body(secret):
    right = ("nonce", 200, "active", b"body")
    shown = secret.prove_answer(*right)
    assert secret.is_answer(shown, *right)
    for at, other in enumerate(("other", 404, "standby", b"bodx")):
        wrong = [*right[:at], other, *right[at + 1 :]]
        assert not secret.is_answer(shown, *wrong)
    assert not secret.is_answer("\xff", *right)


# where other workers may be


@pytest.mark.parametrize(
    ("allowed", "url", "has"),
    [
        ("", "http://anywhere", True),
        ("10.0.0.0/8", "http://10.1.2.3:80", True),
        ("10.0.0.0/8", "http://11.1.2.3:80", False),
        ("10.0.0.0/8", "http://ten.example", False),
        ("2001:db8::/32", "http://[2001:db8::1]:1", True),
        ("http://a.example:81", "http://a.example:81", True),
        ("http://a.example:81", "http://a.example:82", False),
        ("http://a.example:81", "https://a.example:81", False),
        ("http://a.example", "http://a.example.evil", False),
        ("http://a.example", "http://a.example@evil", False),
        ("https://*.example, 10.0.0.0/8", "https://x.example", True),
        ("https://*.example", "https://example", False),
    ],
)
def test_workers_are_asked_where_they_may_be(allowed, url, has):
    assert Members(allowed).has(url) == has


@pytest.mark.parametrize("text", ["a.example", "ftp://a", "http://a/b", "10.0.0.1/8", "http://"])
def test_a_place_that_is_none_is_an_unusable_setting(text):
    with pytest.raises(SettingsError, match="METRICS_PEERS"):
        Members(text)


async def test_a_member_that_is_elsewhere_is_not_contacted():
    seen: list[str] = []

    async def record(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=503)

    async with peer(record) as elsewhere, worker(elsewhere, role=None, peers="10.0.0.0/8") as asked:
        assert (await ask(asked.url)).status == 503
        assert (seen, asked.forwards()) == ([], {"unusable": 1})
