"""Who may come in: every request is looked at before its handler, and every reply after it.

Called by `app`.

    hostile bytes 400 -> Host 421 -> Origin 403 -> another worker | token | certificate 401 -> scope 403 -> handler

Handlers look at keys themselves: `caller_of` says whose request it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from aiohttp import web

from metrics_app.accepted import names
from metrics_app.errors import SettingsError
from metrics_app.http.hosts import EXPOSED, PREFLIGHT, Hosts, is_loopback
from metrics_app.http.not_admitted import ForbiddenError, InvalidHeaderError, MisdirectedError, UnauthorizedError
from metrics_app.http.proof import ANSWER_PROOF, HOP, OLD_TOKEN, PROOF, ROLE, Asked, ClusterSecret
from metrics_app.http.tokens import ADMIN, ANYBODY, INGEST, NOBODY, QUERY, WORKER, Caller, Scope, Tokens
from metrics_app.settings import Settings

CALLER = web.RequestKey("caller", Caller)
NONCE = web.RequestKey(
    "nonce", str
)  # of a question that another worker has proved; empty: it has shown the token itself

LIVE, READY = "/livez", "/readyz"
# the page for people, without any data: what it shows it asks for
PAGE_KEYS, PAGE_KEY, PAGE_SYSTEM, PAGE_FILE = "/", "/ui/key", "/ui/system", re.compile(r"/ui/static/[^/]+")
PAGES = {PAGE_KEYS, PAGE_KEY, PAGE_SYSTEM}
ANY_SCOPE = frozenset({"/metrics", "/openapi.json"})
SEND = {("POST", path) for path in ("/samples", "/v1/traces", "/v1/metrics")}
ADMIN_PATHS = "/admin/"
READS = frozenset({"GET", "HEAD"})
KNOWN_HOSTS = 256  # values of the header that are remembered
# headers that are read somewhere, and whose text goes into an error or a log
READ = frozenset(
    name.lower().encode()
    for name in (
        *("Accept", "Authorization", "Content-Encoding", "Content-Type", "Expect", "Host", "Idempotency-Key"),
        *("Metrics-Dropped", "Origin", "X-Metrics-Within", HOP, PROOF, OLD_TOKEN),
    )
)


def caller_of(request: web.Request) -> Caller:
    """Who sent a request."""
    caller: Caller = request.get(CALLER, ANYBODY)
    return caller


def is_from_worker(request: web.Request) -> bool:
    """Whether another worker has proved to be one."""
    return NONCE in request


def check_settings(settings: Settings, role: Literal["collector", "aggregator", "all"]) -> None:
    """Raises SettingsError for a service that would be open to more people than its settings say."""
    problems = []
    asks = settings.tokens_file is not None or settings.tls_client_ca_file is not None
    if not (is_loopback(settings.host) or asks or settings.allow_anybody):
        problems.append(
            f"METRICS_HOST {settings.host}: everybody who reaches it could read and write everything; set "
            "METRICS_TOKENS_FILE, or METRICS_TLS_CLIENT_CA_FILE, or, in a network you trust, METRICS_ALLOW_ANYBODY=true"
        )
    shared = asks or (settings.tls_cert_file is not None and not is_loopback(settings.host))
    if role != "collector" and shared and not settings.cluster_token.get_secret_value():
        problems.append(
            "METRICS_CLUSTER_TOKEN: with tokens, client certificates or TLS, workers must be able to prove to each "
            "other who they are; give all of them the same random text, such as `openssl rand -hex 32` prints"
        )
    if problems:
        raise SettingsError(problems)


class Access:
    """The rules of one process.

    Attributes:
        tokens: of METRICS_TOKENS_FILE; None without one.
    """

    def __init__(self, settings: Settings) -> None:
        self.tokens = None if settings.tokens_file is None else Tokens(settings.tokens_file)
        self._secret = ClusterSecret(settings.cluster_token.get_secret_value(), settings.clock_tolerance_s)
        self._url = settings.url
        self._hosts = Hosts.of(settings)
        self._known_hosts: set[str] = set()
        self._origins = frozenset(names(settings.allowed_origins))

    def enter(self, request: web.Request) -> web.Response | None:
        """Notes who it is; the reply when there is one already, to a browser that asks whether it may ask.

        Raises:
            InvalidHeaderError, MisdirectedError, ForbiddenError, UnauthorizedError: the request is not taken.
        """
        headers = request.headers
        for name, value in request.raw_headers:
            if not value.isascii() and name.lower() in READ:
                raise InvalidHeaderError(name.decode("ascii", "replace"))
        host = headers.get("Host")
        if host is not None and host not in self._known_hosts:
            self._check_host(host)
        if "Origin" in headers and (preflight := self._preflight(request)) is not None:
            return preflight
        if HOP in headers and self._secret:
            self._meet_worker(request)
        if self.tokens is not None:
            request[CALLER] = self._caller(request, self.tokens)
        return None

    def passes(self, headers: Mapping[str, str]) -> bool:
        """Whether anybody may come in who shows a known host, and `enter` and `leave` change nothing for him.

        Args:
            headers: ASCII, with a Host and none of the others that these two read.
        """
        host = headers["Host"]
        return self.tokens is None and (host in self._known_hosts or self._hosts.know(host))

    def leave(self, request: web.Request, reply: web.StreamResponse) -> None:
        """Adds what the asking worker, browser or cache has to know."""
        headers = reply.headers
        if (nonce := request.get(NONCE)) and isinstance(reply, web.Response):
            body = reply.body if isinstance(reply.body, bytes) else b""
            proof = self._secret.prove_answer(nonce, reply.status, headers.get(ROLE, ""), body)
            headers[ANSWER_PROOF] = proof
        if self.tokens is not None and "public" in headers.get("Cache-Control", ""):
            headers["Cache-Control"] = headers["Cache-Control"].replace("public", "private")
        if (origin := request.headers.get("Origin")) in self._origins and origin is not None:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = EXPOSED
            headers["Vary"] = f"{headers['Vary']}, Origin" if "Vary" in headers else "Origin"

    def _check_host(self, host: str) -> None:
        if not self._hosts.know(host):
            raise MisdirectedError(host)
        if len(self._known_hosts) < KNOWN_HOSTS:
            self._known_hosts.add(host)

    def _preflight(self, request: web.Request) -> web.Response | None:
        origin = request.headers["Origin"]
        if origin.partition("://")[2] == request.headers.get("Host"):  # our own page; a known Host, see above
            return None
        if origin not in self._origins:
            raise ForbiddenError("a page of that origin may not use this service; see METRICS_ALLOWED_ORIGINS")
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return web.Response(status=204, headers=PREFLIGHT)
        return None

    def _meet_worker(self, request: web.Request) -> None:
        headers = request.headers
        if self._secret.is_shown_by(headers.get(OLD_TOKEN, "")):
            request[NONCE] = ""
        asked = Asked(request.method, self._url, request.raw_path, headers[HOP])
        if (nonce := self._secret.nonce_of(asked, headers.get(PROOF, ""))) is not None:
            request[NONCE] = nonce

    def _caller(self, request: web.Request, tokens: Tokens) -> Caller:
        path = request.path
        if path == LIVE or is_of_page(request.method, path):
            return NOBODY
        if NONCE in request:
            caller: Caller | None = WORKER
        else:
            caller = _by_token(request, tokens) or _by_certificate(request, tokens)
        if caller is None:
            if path == READY and "Authorization" not in request.headers:
                return NOBODY
            raise UnauthorizedError("Authorization" in request.headers)
        if path != READY and path not in ANY_SCOPE:
            caller.check(_scope_of(request.method, path))
        return caller


def is_of_page(method: str, path: str) -> bool:
    """Whether a request is for a file of the page, which anybody may have; not for a key that is called "ui"."""
    return method in READS and (path in PAGES or PAGE_FILE.fullmatch(path) is not None)


def _scope_of(method: str, path: str) -> Scope:
    """What a request needs; whatever is not known to be less needs ADMIN."""
    if (method, path) in SEND:
        return INGEST
    return QUERY if method in READS and not path.startswith(ADMIN_PATHS) else ADMIN


def _by_token(request: web.Request, tokens: Tokens) -> Caller | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return tokens.caller(token.strip()) if scheme.lower() == "bearer" else None


def _by_certificate(request: web.Request, tokens: Tokens) -> Caller | None:
    shown = request.get_extra_info("peercert") or {}
    for part in shown.get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return tokens.of_certificate(value)
    return None
