"""Who may come in: tokens, scopes, key prefixes, hosts, origins and hostile headers, over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from metrics_app.configuration import load
from metrics_app.errors import SettingsError
from metrics_app.http.access import check_settings
from metrics_app.http.hosts import Hosts
from metrics_app.http.problems import HEADERS, PROBLEM
from metrics_app.http.tokens import Caller, Tokens, new_token
from metrics_app.kafka.ports import free_port
from tests.collector.fakes import Collector, FakeSink, collector
from tests.conftest import MakeSettings
from tests.faults.process import Process
from tests.query.fakes import HOUR, PATH, ask, row, worker
from tests.query.fakes import Worker as QueryWorker

Line = tuple[str, list[str], list[str]]


class TokenFile:
    """A file of tokens; `of[name]` is the newest token of a name."""

    def __init__(self, path: Path, *lines: Line) -> None:
        self.path = path
        self.of: dict[str, str] = {}
        self.write(*lines)

    def write(self, *lines: Line) -> None:
        made = [(name, *new_token(name, scopes, prefixes)) for name, scopes, prefixes in lines]
        self.of = {name: token for name, token, _ in made}
        self.path.touch(mode=0o600)
        self.path.write_text("# who may come in\n\n" + "\n".join(line for _, _, line in made))

    def bearer(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.of[name]}"}


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(
        tmp_path / "tokens",
        ("app", ["ingest"], []),
        ("shop", ["ingest", "query"], ["shop/", "check"]),
        ("reader", ["query"], []),
    )


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
async def taking(make_settings: MakeSettings, sink: FakeSink, file: TokenFile) -> AsyncIterator[Collector]:
    async with collector(make_settings(tokens_file=file.path), sink) as running:
        yield running


@asynccontextmanager
async def answering(file: TokenFile, **settings: Any) -> AsyncIterator[QueryWorker]:
    async with worker(found=row(4.0), tokens_file=file.path, cluster_token="c", **settings) as running:
        yield running


# tokens and scopes


@pytest.mark.parametrize(
    ("authorization", "status"),
    [(None, 401), ("Bearer nobody", 401), ("Bearer", 401), ("Basic YTpi", 401), ("reader", 403), ("app", 202)],
)
async def test_samples_need_a_token_with_the_scope_ingest(taking, file, sink, authorization, status):
    headers = file.bearer(authorization) if authorization in file.of else {}
    if authorization is not None and not headers:
        headers = {"Authorization": authorization}
    reply = await taking.post(b'["checkout", 1]', headers)
    assert reply.status == status
    assert reply.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
    assert (reply.headers["Content-Type"] == PROBLEM) == (status != 202)
    assert len(sink.chunks) == (status == 202)
    assert all(token not in json.dumps(reply.json) for token in file.of.values())


async def test_the_scheme_is_written_in_any_case_and_the_token_is_not(taking, file):
    token = file.of["app"]
    assert (await taking.post(b"[]", {"Authorization": f"bEARER {token}"})).status == 202
    assert (await taking.post(b"[]", {"Authorization": f"Bearer {token.swapcase()}"})).status == 401


async def test_samples_of_other_keys_are_rejected_one_by_one(taking, file, sink):
    body = b'[["shop/a", 1], ["other", 2], ["checkout", 3]]'
    reply = await taking.post(body, file.bearer("shop"))
    assert (reply.status, reply.json["accepted"]) == (202, 2)
    assert [(each["index"], each["reason"]) for each in reply.json["rejected"]] == [(1, "forbidden")]
    columns = b'{"series":[{"key":"a","hour":%d,"values":[1]},{"key":"shop/","hour":%d,"values":[1]}]}'
    hour = int(time.time()) // 3600
    reply = await taking.post(columns % (hour, hour), file.bearer("shop"))
    assert [(each["index"], each["reason"]) for each in reply.json["rejected"]] == [(0, "forbidden")]
    assert {chunk.key for chunk in sink.chunks} == {b"shop/a", b"checkout", b"shop/"}
    assert taking.counts() == {"received": 5, "accepted": 3, "rejected": 2, "refused": 0}


async def test_a_request_of_other_keys_alone_is_a_403(taking, file, sink):
    reply = await taking.post(b'[["a", 1], ["b", 1]]', file.bearer("shop"))
    assert (reply.status, len(reply.json["rejected"]), sink.chunks) == (403, 2, [])


async def test_questions_need_the_scope_query_and_a_key_of_ones_own(file):
    async with answering(file) as running:
        assert (await ask(running.url)).status == 401
        assert (await ask(running.url, **file.bearer("app"))).status == 403
        for name in ("reader", "shop"):
            assert (await ask(running.url, **file.bearer(name))).json["value"] == 4.0
        other = await ask(running.url, f"/other/{PATH}", **file.bearer("shop"))
        assert (other.status, other.headers["Content-Type"]) == (403, PROBLEM)
        assert (await ask(running.url, f"/other/{PATH}", **file.bearer("reader"))).status == 404


async def test_what_is_no_reading_needs_the_scope_admin(file):
    async with answering(file) as running:
        for method in ("DELETE", "PUT", "POST"):
            assert (await ask(running.url, method=method, **file.bearer("reader"))).status == 403
            assert (await ask(running.url, method=method)).status == 401
        assert (await ask(running.url, "/admin/top-senders", **file.bearer("reader"))).status == 403


async def test_an_answer_to_somebody_with_a_token_is_not_for_shared_caches(file):
    async with answering(file) as running:
        assert (await ask(running.url, **file.bearer("reader"))).headers["Cache-Control"] == "private, max-age=60"
    async with worker(found=row(4.0)) as running:
        assert (await ask(running.url)).headers["Cache-Control"] == "public, max-age=60"


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_keys_are_those_of_ones_own_page_by_page(file, limit):
    keys = ["a", "check", "checkout", "chess", "shop", "shop/a", "shop/b", "z"]
    async with answering(file) as running:
        running.reader.rows = {(key.encode(), HOUR): row() for key in keys}
        found, after = [], "&after=a"
        while after:
            page = await ask(running.url, f"/keys?date=2025-11-23&limit={limit}{after}", **file.bearer("shop"))
            found += page.json["keys"]
            after = page.json["next"] and f"&after={page.json['next'].replace('/', '%2F')}"
        assert found == ["check", "checkout", "shop/a", "shop/b"]
        of = {prefix: await ask(running.url, f"/keys?date=2025-11-23&prefix={prefix}", **file.bearer("shop"))
              for prefix in ("checkout", "shop", "z")}  # fmt: skip
    assert [of["checkout"].json["keys"], of["shop"].json["keys"], of["z"].status] == [
        ["checkout"], ["shop/a", "shop/b"], 403,
    ]  # fmt: skip


async def test_keys_of_ones_own_are_found_at_other_workers(file):
    async with answering(file) as holder, answering(file) as asked:
        holder.reader.rows = {(key.encode(), HOUR): row() for key in ("a", "checkout", "shop/a", "z")}
        asked.reader.roles = {}
        asked.owners.known = [holder.url]
        page = await ask(asked.url, "/keys?date=2025-11-23&limit=2", **file.bearer("shop"))
    assert (page.json["keys"], page.json["unanswered"]) == (["checkout", "shop/a"], [])


@pytest.mark.parametrize(
    ("asked", "found"),
    [("", ["a/", "b"]), ("a", ["a/"]), ("a/x", ["a/x"]), ("bc", ["bc"]), ("c", [])],
)
def test_the_prefixes_of_ones_own_within_another(asked, found):
    assert Caller("x", frozenset(), ("b", "a/", "a/b", "a/")).within(asked) == found
    assert Caller("x", frozenset()).within(asked) == [asked]


# the file


def name_of(tokens: Tokens, token: str) -> str | None:
    caller = tokens.caller(token)
    return caller and caller.name


def test_a_broken_file_keeps_the_last_good_one_and_says_so(file, caplog):
    tokens, old = Tokens(file.path), file.of["app"]
    assert name_of(tokens, old) == "app"
    file.path.write_text(f"{old} is no line")
    tokens.look()
    assert name_of(tokens, old) == "app"
    assert "line 1: JSON is malformed" in (tokens.problem() or "")
    file.write(("app", ["ingest"], []))
    tokens.look()
    assert (tokens.problem(), tokens.caller(old)) == (None, None)
    assert name_of(tokens, file.of["app"]) == "app"
    file.path.unlink()
    tokens.look()
    assert "No such file" in (tokens.problem() or "")
    assert name_of(tokens, file.of["app"]) == "app"
    assert old not in caplog.text


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o666])
def test_a_file_that_others_may_read_or_write_is_refused(file, mode):
    file.path.chmod(mode)
    with pytest.raises(SettingsError, match=rf"mode {mode:04o}.*chmod 600"):
        Tokens(file.path)
    file.path.chmod(0o640)
    Tokens(file.path)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "no token in it"),
        ('{"name":"a","scopes":["query"]}', "either sha256 or cn"),
        ('{"name":"a","scopes":["query"],"sha256":"00"}', "matching regex"),
        ('{"name":"a","scopes":["root"],"cn":"x"}', "Invalid enum value 'root'"),
        ('{"name":"a","scopes":[],"cn":"x"}', "length >= 1"),
        ('{"name":"a b","scopes":["query"],"cn":"x"}', "matching regex"),
        ('{"name":"a","scopes":["query"],"cn":"x","prefix":"a"}', "unknown field"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, line, problem):
    path = tmp_path / "tokens"
    path.touch(mode=0o600)
    path.write_text(f"# a comment\n{line}")
    with pytest.raises(SettingsError, match=problem):
        Tokens(path)


# hosts and origins


@pytest.mark.parametrize(
    ("host", "listening", "known"),
    [
        ("127.0.0.1:8080", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", True),
        ("[::1]:8080", "::1", True),
        ("LOCALHOST:1", "127.0.0.1", True),
        ("localhost.", "127.0.0.1", True),
        ("metrics.example:443", "127.0.0.1", True),
        ("evil.example", "127.0.0.1", False),
        ("evil.example", "0.0.0.0", False),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("10.0.0.1", "127.0.0.1", False),
        ("0.0.0.0:8080", "127.0.0.1", False),
        ("10.0.0.1:80", "0.0.0.0", True),
        ("[2001:db8::1]", "::", True),
        ("", "127.0.0.1", False),
        ("[", "127.0.0.1", False),
    ],
)
def test_hosts_that_are_ours(host, listening, known):
    assert Hosts(listening, ["metrics.example", ""]).know(host) == known


async def test_a_host_of_somebody_else_is_a_421_wherever_it_asks(make_settings, sink):
    settings = make_settings(allowed_hosts="metrics.example, b.example", advertised_url="http://w.example:1")
    async with collector(settings, sink) as running:
        for host, status in (
            ("evil.example", 421),
            ("b.example", 202),
            ("w.example", 202),
            (f"localhost:{settings.port}", 202),
        ):
            reply = await running.post(b"[]", {"Host": host})
            assert reply.status == status
    async with worker(found=row()) as running:
        assert [(await ask(running.url, Host=host)).status for host in ("localhost", "v.example")] == [200, 421]


async def test_a_page_of_the_service_itself_may_ask_and_one_beside_it_may_not():
    async with worker(found=row()) as running:
        own = running.url.removesuffix("/")
        assert (await ask(running.url, Origin=own)).status == 200
        for other in (f"{own}0", own.replace("127.0.0.1", "localhost"), f"{own}/x", "://", "http://"):
            assert (await ask(running.url, Origin=other)).status == 403


async def test_a_page_may_ask_only_if_its_origin_is_allowed():
    origin = "https://dashboard.example"
    async with worker(found=row()) as running:
        assert (await ask(running.url, Origin=origin)).status == 403
        assert (await ask(running.url, Origin="null")).status == 403
    async with worker(found=row(), allowed_origins=f"http://x.example, {origin}") as running:
        for other in ("https://evil.example", "https://dashboard.example.evil", "null"):
            refused = await ask(running.url, Origin=other)
            assert (refused.status, refused.headers.get("Access-Control-Allow-Origin")) == (403, None)
        reply = await ask(running.url, Origin=origin)
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, origin)
        assert reply.headers["Vary"] == "Accept, Origin"
        preflight = await ask(running.url, "/samples", "OPTIONS", Origin=origin, Access_Control_Request_Method="POST")
        assert (preflight.status, preflight.body) == (204, b"")
        assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]


async def test_a_page_is_told_what_it_may_ask_before_it_shows_a_token(file):
    async with answering(file, allowed_origins="https://d.example") as running:
        origin = "https://d.example"
        asked = await ask(running.url, method="OPTIONS", Origin=origin, Access_Control_Request_Method="GET")
        assert asked.status == 204
        assert (await ask(running.url, Origin="https://d.example")).status == 401


# hostile headers


HEADS = [
    b"X-Metrics-Hop: 1\r\nX-Metrics-Token: \xff\r\n",
    b"X-Metrics-Hop: \xff\r\nX-Metrics-Proof: 1 \xff 2\r\n",
    b"X-Metrics-Hop: 1\r\nX-Metrics-Within: \xff\r\n",
    b"Accept: \xff\r\n",
    b"Authorization: Bearer \xff\r\n",
    b"Origin: \xff\r\n",
    b"Content-Type: \xff\r\nIdempotency-Key: a\r\n",
    b"Idempotency-Key: \xff\r\n",
    b"Content-Encoding: \xff\r\n",
    b"Metrics-Dropped: \xff=1\r\n",
    b"Metrics-Dropped: overflow=999999999999999999\r\n",
    b"Metrics-Dropped: overflow=1000000000, overflow=1\r\n",
    b"Expect: \xff\r\n",
]


async def said(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(10):
        reply = await reader.read()
    writer.close()
    return reply


@pytest.mark.parametrize("head", HEADS)
async def test_a_hostile_header_is_a_400(real: Process, head: bytes) -> None:
    port = int(real.url.rpartition(":")[2])
    request = b"POST /samples HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n%s\r\n[]" % head
    reply = await said(port, request)
    assert reply.startswith((b"HTTP/1.1 400", b"HTTP/1.1 417" if b"Expect" in head else b"HTTP/1.1 400")), reply


@pytest.mark.parametrize("head", [*HEADS[:6], *HEADS[-1:]])
@pytest.mark.parametrize("cluster_token", ["", "c"])
async def test_a_hostile_header_of_a_question_is_a_400(head, cluster_token):
    async with worker(found=row(), cluster_token=cluster_token) as running:
        request = b"GET /checkout/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n" % (PATH.encode(), head)
        reply = await said(int(running.url.rpartition(":")[2]), request)
        # standing on its own, aiohttp's server knows no refusals of ours
        assert reply.startswith(b"HTTP/1.1 400") or b"Expect" in head, reply


@pytest.mark.parametrize("path", [b"/\xff", b"/\xff/median/2025-11-23/22", b"/a/median?\xff=1", b"/keys?prefix=\xff"])
async def test_a_hostile_path_is_no_500(real: Process, path: bytes) -> None:
    for method in (b"GET", b"POST", b"OPTIONS"):
        request = b"%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % (method, path)
        assert int((await said(int(real.url.rpartition(":")[2]), request)).split()[1]) < 500


async def test_a_tag_that_is_not_ascii_is_not_passed_on_and_blames_nobody():
    async with worker(found=row()) as owner, worker(owner.url, role=None) as other:
        request = b"GET /checkout/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIf-None-Match: \xff\r\n\r\n"
        assert (await said(int(other.url.rpartition(":")[2]), request % PATH.encode())).startswith(b"HTTP/1.1 200")
        assert other.forwards() == {"answered": 1}


# settings


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"host": "0.0.0.0"}, "METRICS_ALLOW_ANYBODY"),
        ({"host": "metrics.example"}, "METRICS_ALLOW_ANYBODY"),
        ({"host": "::"}, "METRICS_ALLOW_ANYBODY"),
        ({"host": "0.0.0.0", "allow_anybody": True}, None),
        ({"host": "127.0.0.2"}, None),
        ({"host": "::1"}, None),
        ({"tokens_file": "tokens"}, "METRICS_CLUSTER_TOKEN"),
        ({"tokens_file": "tokens", "cluster_token": "x", "host": "::"}, None),
        ({"tls_cert_file": "c", "tls_key_file": "k", "host": "::", "allow_anybody": True}, "METRICS_CLUSTER_TOKEN"),
        ({"tls_cert_file": "c", "tls_key_file": "k"}, None),
    ],
)
def test_a_service_is_open_to_nobody_by_accident(make_settings, given, problem):
    settings = make_settings(**given)
    if problem is None:
        check_settings(settings, "all")
    else:
        with pytest.raises(SettingsError, match=problem):
            check_settings(settings, "all")


def test_a_collector_needs_no_cluster_token(make_settings):
    check_settings(make_settings(tokens_file="tokens"), "collector")


def test_client_certificates_need_a_certificate_of_the_server():
    with pytest.raises(SettingsError, match="tls_client_ca_file needs tls_cert_file"):
        load(tls_client_ca_file="ca.pem")


# real workers


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts a worker without a Kafka, and returns once it answers or has ended."""
    started: list[Process] = []

    def run(role: str = "all", host: str = "127.0.0.1", **settings: str) -> Process:
        port = free_port()
        arguments = [role, "--host", host, "--port", str(port), "--data-dir", str(tmp_path / f"data-{port}")]
        environment = {"METRICS_KAFKA": f"127.0.0.1:{free_port()}", "METRICS_STOP_GRACE_S": "2", **settings}
        process = Process(f"{role}-{port}", arguments, port, tmp_path, environment)
        started.append(process)
        process.start()
        while process.is_running and not process.is_listening():
            time.sleep(0.1)
        return process

    yield run
    for process in started:
        process.end()


@pytest.fixture
def real(start: Callable[..., Process]) -> Process:
    return start()


@pytest.fixture
def guarded(start: Callable[..., Process], file: TokenFile) -> Process:
    return start(METRICS_TOKENS_FILE=str(file.path), METRICS_CLUSTER_TOKEN="c")


def get(process: Process, path: str, **headers: str) -> Any:
    return urllib3.request("GET", process.url + path, headers=headers, retries=False)


def test_a_worker_shows_its_life_to_anybody_and_the_rest_to_whoever_has_a_token(guarded, file):
    assert get(guarded, "/livez").status == 200
    probe = get(guarded, "/readyz?verbose")
    assert (probe.status, set(probe.json())) == (503, {"type", "title", "status", "detail"})
    told = get(guarded, "/readyz", **file.bearer("app"))
    assert (told.status, "kafka" in told.json()["checks"]) == (503, True)
    assert get(guarded, "/readyz", Authorization="Bearer x").status == 401
    for path in ("/metrics", "/openapi.json"):
        assert (get(guarded, path).status, get(guarded, path, **file.bearer("app")).status) == (401, 200)
    for path in ("/nothing", "/keys", f"/a/{PATH}", f"/ui/{PATH}", f"/ui/static/{PATH}", "/ui/p99", "/ui", "/ui/"):
        assert get(guarded, path).status == 401
    for path in ("/", "/ui/key", "/ui/system", "/ui/static/app.css"):  # the page, which has no data in it
        assert get(guarded, path).status == 200
    for path in ("/livez", "/metrics", "/nothing"):
        assert get(guarded, path).headers.items() >= HEADERS.items()


def test_tokens_change_without_a_restart_and_are_never_logged(guarded, file):
    def statuses(*tokens: str) -> list[int]:
        return [get(guarded, "/metrics", Authorization=f"Bearer {token}").status for token in tokens]

    old = file.of["app"]
    assert statuses(old) == [200]
    file.write(("app", ["ingest"], []))
    new = file.of["app"]
    until(lambda: statuses(old, new) == [401, 200])
    file.path.chmod(0o644)
    until(lambda: "others may read" in str(get(guarded, "/readyz", **file.bearer("app")).json().get("warnings")))
    assert statuses(old, new) == [401, 200]
    file.path.chmod(0o600)
    guarded.send_signal(signal.SIGHUP)
    until(lambda: "warnings" not in get(guarded, "/readyz", **file.bearer("app")).json())
    log = guarded.log.read_text()
    assert "others may read" in log
    assert old not in log
    assert new not in log
    assert guarded.is_running


def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("settings", [{}, {"METRICS_TOKENS_FILE": "missing"}])
def test_a_worker_that_would_be_open_to_everybody_does_not_start(start, settings):
    process = start(host="0.0.0.0", **settings, METRICS_CLUSTER_TOKEN="c")
    assert process.exit_code == 2
    assert ("METRICS_ALLOW_ANYBODY" if not settings else "missing: No such file") in process.tail()


def test_a_worker_that_is_told_to_be_open_to_everybody_is(start):
    process = start(host="0.0.0.0", METRICS_ALLOW_ANYBODY="true")
    assert get(process, "/metrics").status == 200


def test_samples_of_a_real_worker_pass_the_same_rules(real, guarded, file):
    """Also those that are small and arrive whole."""

    def status(process: Process, **headers: str) -> int:
        return urllib3.request("POST", f"{process.url}/samples", body=b"[]", headers=headers, retries=False).status

    kept = {status(real), status(guarded, **file.bearer("app"))}
    assert kept <= {202, 503}
    assert status(guarded) == 401
    assert status(guarded, **file.bearer("reader")) == 403
    assert (status(real, Host="evil.example"), status(real, Origin="https://evil.example")) == (421, 403)
