"""Who may do what: callers, their scopes and key prefixes, and the file of tokens they are known by.

Called by `access`, `health`, `app`, `cli.token`, `collector.views`, `query.keys` and `query.views`.

    {"name": "shop", "scopes": ["ingest", "query"], "prefixes": ["shop/"], "sha256": "<hash of the token>"}
    {"name": "grafana", "scopes": ["query"], "cn": "grafana.example"}

Each line is a JSON object; blank lines and those that begin with # are left out. A name may have several lines, so that
a new token works before the old one goes. The file has no secrets: a token is 256 random bits, so its SHA-256 tells
nothing about it. But whoever can write the file can let anybody in, so it must be the owner's.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from mode import Service

from metrics_app.errors import SettingsError
from metrics_app.http.not_admitted import ForbiddenError

logger = logging.getLogger(__name__)

Scope = Literal["ingest", "query", "admin"]
INGEST: Scope = "ingest"
QUERY: Scope = "query"
ADMIN: Scope = "admin"
SCOPES: tuple[Scope, ...] = (INGEST, QUERY, ADMIN)

MARK = "metrics_"  # begins every token, so that a search for leaked secrets finds it
TOKEN_BYTES = 32
LOOK_INTERVAL_S = 1.0
NOT_OTHERS = stat.S_IWGRP | stat.S_IRWXO


class Caller(NamedTuple):
    """Who sent a request, and what that allows.

    Attributes:
        name: of the token or certificate; empty where nobody has to show one, and of another worker.
        prefixes: how keys must begin; empty: any key.
    """

    name: str
    scopes: frozenset[Scope]
    prefixes: tuple[str, ...] = ()

    def check(self, scope: Scope) -> None:
        """Raises ForbiddenError unless it has the scope."""
        if scope not in self.scopes:
            raise ForbiddenError(f"this needs a token with the scope {scope}")

    def reaches(self, key: str) -> bool:
        """Whether the key is one of its own."""
        return not self.prefixes or key.startswith(self.prefixes)

    def check_key(self, key: str) -> None:
        """Raises ForbiddenError unless the key is one of its own."""
        if not self.reaches(key):
            raise ForbiddenError("the token is for keys that begin otherwise")

    def within(self, prefix: str) -> list[str]:
        """The prefixes of the keys that begin with `prefix` and are its own, in the order of their keys."""
        if not self.prefixes or prefix.startswith(self.prefixes):
            return [prefix]
        found = sorted({each for each in self.prefixes if each.startswith(prefix)}, key=str.encode)
        return [each for each in found if not each.startswith(tuple(other for other in found if other != each))]


ANYBODY = Caller("", frozenset(SCOPES))
NOBODY = Caller("", frozenset())
WORKER = Caller("", frozenset({QUERY}))


class TokenLine(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """A line of the file; either `sha256` or `cn`, the common name of a client certificate, says whom it is about."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1)]
    prefixes: list[Annotated[str, msgspec.Meta(min_length=1)]] = []
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None
    cn: Annotated[str, msgspec.Meta(min_length=1)] | None = None

    def __post_init__(self) -> None:
        if (self.sha256 is None) == (self.cn is None):
            raise ValueError("expected either sha256 or cn")

    @property
    def caller(self) -> Caller:
        """Whom it lets in."""
        return Caller(self.name, frozenset(self.scopes), tuple(self.prefixes))


def new_token(name: str, scopes: list[str], prefixes: list[str]) -> tuple[str, str]:
    """A new token, and its line for the file.

    Raises:
        SettingsError: no such line can be.
    """
    token = MARK + secrets.token_urlsafe(TOKEN_BYTES)
    given = {"name": name, "scopes": scopes, "prefixes": prefixes, "sha256": _digest(token).hex()}
    try:
        line = msgspec.convert(given, TokenLine)
    except msgspec.ValidationError as error:
        raise SettingsError([str(error)]) from None
    return token, msgspec.json.encode(line).decode()


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


class _Read(NamedTuple):
    """A file that was read: what tells whether it has changed since, and its lines by hash and by common name."""

    signature: tuple[int, ...]
    by_digest: dict[bytes, Caller]
    by_cn: dict[str, Caller]


class Tokens:
    """The tokens of a file, as it is now or, while it is broken, as it was last.

    Raises:
        SettingsError: it cannot be used to begin with.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = _read(path)
        self._seen = self._read.signature
        self._verified: dict[str, Caller] = {}
        self._problem: str | None = None

    def caller(self, token: str) -> Caller | None:
        """Whom a token lets in; None for one that is none. It is hashed once, then remembered."""
        known = self._verified.get(token)
        if known is None and token.isascii():
            digest = _digest(token)
            for each, caller in self._read.by_digest.items():
                if hmac.compare_digest(each, digest):
                    known = self._verified[token] = caller
        return known

    def of_certificate(self, cn: str) -> Caller | None:
        """Whom a client certificate with that common name lets in; None when no line is about it."""
        return self._read.by_cn.get(cn)

    def problem(self) -> str | None:
        """Why the file as it is now is not in effect; None while it is."""
        return self._problem

    def look(self) -> None:
        """Reads the file again if it has changed."""
        signature = _signature(self._path)
        if signature != self._seen:
            self._seen = signature
            self.read_again()

    def read_again(self) -> None:
        """Reads the file again; one that cannot be used changes nothing."""
        try:
            self._read = _read(self._path)
        except SettingsError as error:
            self._problem = f"the tokens stay as they were: {error}"
            logger.warning("%s", self._problem)
            return
        self._verified, self._problem, self._seen = {}, None, self._read.signature
        logger.info("the tokens of %s were read again", self._path)


class TokensWatch(Service):
    """Has the file looked at again and again."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self._tokens = tokens

    async def on_start(self) -> None:
        """Begins."""
        self.add_future(self._look())

    async def _look(self) -> None:
        while not self.should_stop:
            await self.sleep(LOOK_INTERVAL_S)
            self._tokens.look()


def _signature(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError as error:
        return (error.errno or 0,)
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


def _read(path: Path) -> _Read:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            text = file.read().decode()
    except OSError as error:
        raise SettingsError([f"METRICS_TOKENS_FILE {path}: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise SettingsError([f"METRICS_TOKENS_FILE {path}: not UTF-8: {error.reason}"]) from None
    if found.st_mode & NOT_OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        problem = f"others may read or write it (mode {mode:04o}); its owner must do: chmod 600 {path}"
        raise SettingsError([f"METRICS_TOKENS_FILE {path}: {problem}"])
    lines = list(_lines(path, text))
    if not lines:
        raise SettingsError([f"METRICS_TOKENS_FILE {path}: no token in it; `metrics-app token new` makes one"])
    by_digest = {bytes.fromhex(line.sha256): line.caller for line in lines if line.sha256 is not None}
    by_cn = {line.cn: line.caller for line in lines if line.cn is not None}
    return _Read((found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size), by_digest, by_cn)


def _lines(path: Path, text: str) -> Iterator[TokenLine]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            yield msgspec.json.decode(line, type=TokenLine)
        except msgspec.MsgspecError as error:
            raise SettingsError([f"METRICS_TOKENS_FILE {path}, line {number}: {error}"]) from None
