"""`MetricsClient` and `AsyncMetricsClient`: response times from an app to the collectors, without the app noticing.

Called by apps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic, time_ns
from typing import Self
from urllib.parse import urlsplit

from metrics_app.client import lifecycle
from metrics_app.client.asgi import aside
from metrics_app.client.engine import Engine
from metrics_app.client.intake import Intake
from metrics_app.client.options import Options, Stats
from metrics_app.client.timer import Timer
from metrics_app.credentials import Credentials

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULTS = Options()

_OFF = ("", "0", "false", "no")
_LEAST_IN_LISTS = 10_000  # values between two collections, 20 of which there are a second
_MOST_IN_LISTS = 100_000
_LISTED_BYTES = 40  # a float and its place in a list


class BaseClient:
    """What both clients have in common.

    Args:
        urls: base URLs of collectors; the next one is tried at once when one cannot be reached. None: the environment's
            METRICS_URL, separated by commas, or http://127.0.0.1:8080.
        options: limits and times.
        clock: nanoseconds since the epoch, by the clock of this machine; tests give another one.
        token: shown to the collectors; None: the environment's METRICS_TOKEN, or what is in the file METRICS_TOKEN_FILE
            at each request.

    Raises:
        ValueError: a URL, the token or an option is unusable. Nothing raises from then on.
        OSError: the folder of the spool is unusable.
    """

    def __init__(
        self,
        urls: str | Sequence[str] | None = None,
        options: Options = DEFAULTS,
        clock: Callable[[], int] = time_ns,
        *,
        token: str | None = None,
    ) -> None:
        self._urls = _checked(urls)
        self._options = options
        self._clock = clock
        self._credentials = Credentials.given(token)
        self.enabled = os.environ.get("METRICS_DISABLED", "").strip().lower() in _OFF
        self._closed = False
        in_lists = min(_MOST_IN_LISTS, max(_LEAST_IN_LISTS, options.max_bytes // 4 // _LISTED_BYTES))
        self._intake = Intake(options.max_keys, in_lists, self._relieve, clock)
        self._engine = Engine(self._intake, self._urls, options, clock, self._credentials)
        # an attribute, so that a call costs one step less than through the method below
        self.record = self._intake.record if self.enabled else _ignore  # type: ignore[method-assign]
        if self.enabled:
            self._engine.open()
            lifecycle.register(self)

    def record(self, key: str, ms: float) -> None:
        """Takes a response time; never raises, never waits.

        Args:
            key: what was timed: 1 to 256 bytes of UTF-8 without control characters. Few of them: "GET /users/{id}", not
                "GET /users/4711".
            ms: from 0 to 2^44. What is no such number, and no such key, is counted in `stats().dropped`, logged once.
        """

    def timer(self, key: str) -> Timer:
        """Times a `with` block, or each call of a function that it decorates, sync or async."""
        return Timer(self, key)

    def stats(self) -> Stats:
        """What was recorded, sent and dropped so far."""
        return self._engine.stats()

    @property
    def exit_timeout_s(self) -> float:
        """Longest time, in seconds, that the client delays the end of the process."""
        return self._options.exit_timeout_s

    @property
    def heeds_signals(self) -> bool:
        """Whether the client sends its values when a signal is about to end the process."""
        return self._options.signals

    def begin_again(self) -> None:
        """Resets the client in the child of a fork: no values, a new sender id, no threads until the first value."""
        self._intake.clear()
        self._engine.abandon()
        self._engine = Engine(self._intake, self._urls, self._options, self._clock, self._credentials)
        if self._closed:
            self._intake.close()

    def stop(self, within_s: float) -> None:
        """Refuses further values and starts to send the waiting ones, for so many seconds; returns at once."""
        if not self._closed and self.enabled:
            self._closed = True
            self._intake.close()
            self._engine.stop(within_s)

    def join(self, timeout_s: float) -> None:
        """Waits until the sending that `stop` started has ended."""
        self._engine.join(timeout_s)

    def hurry(self, within_s: float) -> None:
        """Starts to send all waiting values because the process may end; the client stays usable. Returns at once.

        Also in the midst of `stop`, which a signal may interrupt before it has begun to send.
        """
        if self.enabled:
            self._engine.hurry(within_s)

    def settle(self, until: float) -> None:
        """Waits until the sending that `hurry` started has ended, at most until that monotonic time."""
        self._engine.settle(until)

    def send_now(self) -> None:
        """Sends all waiting values within `exit_timeout_s`; for code that knows that the process is about to end."""
        until = monotonic() + self._options.exit_timeout_s
        self.hurry(self._options.exit_timeout_s)
        self.settle(until)

    def _relieve(self) -> None:
        lifecycle.look_out()
        self._engine.relieve()

    def _flush(self, timeout_s: float) -> bool:
        return not self.enabled or self._engine.flush(timeout_s)

    def _close(self, timeout_s: float | None) -> None:
        timeout_s = self._options.exit_timeout_s if timeout_s is None else timeout_s
        until = monotonic() + timeout_s
        self.stop(timeout_s)
        self.join(until - monotonic())


class MetricsClient(BaseClient):
    """A client for threads; see `BaseClient` for its arguments. Make one per process and share it.

    >>> client = MetricsClient(["http://collector-1:8080", "http://collector-2:8080"])
    >>> client.record("checkout", 12.5)
    """

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Waits until everything recorded until now is in Kafka.

        False when it is not after so many seconds, or when values were dropped, for whatever reason, and no call has
        said so yet: `stats().dropped` has them. What is no value, or has no key, does not matter here.
        """
        return self._flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Sends what is left, for at most so many seconds (None: `exit_timeout_s`), and ends. May be called again.

        Without it the end of the process does the same.
        """
        self._close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncMetricsClient(BaseClient):
    """A client for asyncio: `record` costs the loop a microsecond, what waits is awaited. See `BaseClient`.

    Values are sent by two threads of its own, so a loop that is busy delays nothing and is delayed by nothing.
    """

    async def flush(self, timeout_s: float = 5.0) -> bool:
        """Waits until everything recorded until now is in Kafka.

        False when it is not after so many seconds, or when values were dropped, for whatever reason, and no call has
        said so yet: `stats().dropped` has them. What is no value, or has no key, does not matter here.
        """
        return await aside(partial(self._flush, timeout_s))

    async def close(self, timeout_s: float | None = None) -> None:
        """Sends what is left, for at most so many seconds (None: `exit_timeout_s`), and ends. May be called again."""
        await aside(partial(self._close, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


def _ignore(key: str, ms: float) -> None:
    """Takes the place of `record` under METRICS_DISABLED."""


def _checked(urls: str | Sequence[str] | None) -> list[str]:
    if urls is None:
        urls = os.environ.get("METRICS_URL") or DEFAULT_URL
    found = [str(url).strip() for url in (urls.split(",") if isinstance(urls, str) else urls)]
    for url in found:
        if not _is_base(url):
            raise ValueError(f"url {url!r}: expected http://host:port or https://host:port")
    if not found:
        raise ValueError("urls: expected at least one")
    return found


def _is_base(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is no number, or too great
    except ValueError:
        return False
    plain = url.isprintable() and " " not in url and not parts.query and not parts.fragment
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname)
