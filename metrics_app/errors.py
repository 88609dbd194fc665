"""Every exception the product raises on purpose.

Called by `holdings`, `serving`, `settings`, `aggregator`, `cli` and others.

    MetricsError                     500   not retriable
    |- SettingsError                 (exit 2)  a setting is missing or out of range
    |- BrokerError                   (exit 3)  Kafka cannot be started, reached, or is set up differently
    |  |- DownloadError              (exit 3)  what the embedded Kafka needs is not here and cannot be fetched
    |  |- PortTakenError             (exit 3)  another program listens where Kafka is to
    |  `- BrokerDiedError            (exit 70) the embedded Kafka has ended: a new start may do
    |- ProcessError                  (exit 1)  a process of `up` keeps dying
    |- ClientError                   (exit 1)  a command got no usable answer from the service
    |- ArchiveError                (exit 1)  the archive cannot be written or read, or is another one's
    |- DrillError                    (exit 1)  a drill would have to kill what it must not, or nobody would restart it
    |- FormatError                   500   stored or transported bytes that cannot be read
    |  `- NewerFormatError           500   a newer release has written them
    |- InvalidBodyError              400   a request body, or every item in it, is unusable
    |  |- UnsupportedTypeError       415   a content type that is not taken
    |  |- KeyReuseError            422   an Idempotency-Key that came before with another body
    |  |- SlowBodyError              408   the body did not arrive in time
    |  |- ForbiddenSamplesError      403   every key in it is somebody else's
    |  `- BodyTooLargeError          413   over a size limit
    |- those of `http/not_admitted.py`     who may not come in
    |- InvalidQueryError             400   a part of a query URL is malformed
    |- ElsewhereError                421   another role answers that
    |- NoDataError                   404   nothing was recorded for that key and time
    |- OverloadedError               503 r the collector cannot keep it now
    |- BusyError                     503 r too many questions are before it
    `- OwnerUnavailableError         503 r nobody who holds the key can answer now
       `- NotYetError                503 r a copy has no such row, and may get it yet

`process.py` explains the exit codes. `status` is the HTTP status, `retriable` whether the same request may succeed
later (it then carries `retry_after_s`). Constructors take the facts; `str()` makes the sentence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

MAX_RETRY_AFTER_S = 30
# what msgspec raises for bytes that it cannot decode: the last two for texts that are not UTF-8, and for deep nesting
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Progress(msgspec.Struct, frozen=True):
    """How far the recovery of a partition has come, in changelog records.

    Attributes:
        eta_s: seconds it may still take, by its speed so far; None before that is known.
    """

    partition: int
    done: int
    total: int
    eta_s: float | None

    def __str__(self) -> str:
        share = f"{self.done / self.total:.0%}" if self.total else "0%"
        eta = "" if self.eta_s is None else f", about {self.eta_s:.0f} s to go"
        return f"partition {self.partition} is being recovered: {self.done:,} of {self.total:,} records ({share}){eta}"


class MetricsError(Exception):
    """Base of all of them; on its own an internal error."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    retriable: ClassVar[bool] = False
    retry_after_s: int = 1

    def extras(self) -> dict[str, Any]:
        """Members to add to the problem document, JSON-serialisable."""
        return {}

    def headers(self) -> dict[str, str]:
        """Headers of the reply."""
        return {"Retry-After": str(self.retry_after_s)} if self.retriable else {}


class SettingsError(MetricsError):
    """One or more settings are unusable; `problems` has one sentence each."""

    title = "Unusable settings"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class BrokerError(MetricsError):
    """Kafka cannot be started or reached, or its topics differ from what this configuration needs."""

    title = "Kafka is not usable"


class BrokerDiedError(BrokerError):
    """The embedded Kafka has ended, or does not answer: a new start may do."""


class PortTakenError(BrokerError):
    """Somebody else listens where Kafka is to."""

    def __init__(self, port: int, host: str) -> None:
        super().__init__(f"port {port} on {host} is taken: stop what listens there or choose another --port")


class DownloadError(BrokerError):
    """The embedded Kafka needs files that are not on this machine and cannot be fetched or kept."""

    title = "Kafka is not here"


class ProcessError(MetricsError):
    """A child process that cannot go on, or ends again and again without getting ready: the reason comes first."""

    title = "A process keeps dying"

    def __init__(self, what: str, status: int | None, reason: str, log: Path, end: Sequence[str] = ()) -> None:
        code = "" if status is None else f"last exit code {status}; "
        shown = "" if reason or not end else "; it ends with:\n" + "\n".join(end)
        super().__init__(f"{what}: {reason or 'it does not say why'} ({code}its log is {log}){shown}")


class ArchiveError(MetricsError):
    """The archive cannot be written or read, is damaged, or is of another changelog."""


class ClientError(MetricsError):
    """A command of the CLI that got no answer from the service, or one that says no."""

    title = "No usable answer"


class DrillError(MetricsError):
    """An installation that cannot be drilled; nothing has been killed."""

    title = "No drill here"


class FormatError(MetricsError):
    """Bytes from a log, a store or a peer that this version cannot read."""

    title = "Unreadable bytes"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.what = what
        self.reason = reason


class NewerFormatError(FormatError):
    """Bytes that a newer release has written, and that only it may interpret."""


def other_version(what: str, found: int, known: int) -> FormatError:
    """The error for bytes of another version than the one this release reads."""
    kind = NewerFormatError if found > known else FormatError
    return kind(what, f"version {found}, this release reads {known}")


class InvalidBodyError(MetricsError):
    """A request body that cannot be taken, with the items at fault where they are known."""

    status = 400
    title = "Unusable samples"

    def __init__(self, detail: str, rejected: list[dict[str, Any]] | None = None) -> None:
        super().__init__(detail)
        self.rejected = rejected or []

    def extras(self) -> dict[str, Any]:
        """The rejected items."""
        return {"accepted": 0, "rejected": self.rejected} if self.rejected else {}


class UnsupportedTypeError(InvalidBodyError):
    """A body in a content type or encoding that is not taken."""

    status = 415
    title = "Unsupported content type"


class KeyReuseError(InvalidBodyError):
    """An idempotency key that came before with another body: its values would be taken for a repetition."""

    status = 422
    title = "Idempotency-Key reused"

    def __init__(self) -> None:
        super().__init__(
            "the Idempotency-Key came before with another body; nothing was kept: send the same body again, "
            "or another one under a key of its own"
        )


class ForbiddenSamplesError(InvalidBodyError):
    """A body of samples whose keys are none of those of the token."""

    status = 403
    title = "Not allowed"


class SlowBodyError(InvalidBodyError):
    """A body that did not arrive in time."""

    status = 408
    title = "Body too slow"

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the body did not arrive within {limit_s:g} s")


class BodyTooLargeError(InvalidBodyError):
    """A body, or the number of items in it, over the limit."""

    status = 413
    title = "Body too large"

    def __init__(self, what: str, limit: int, unit: str) -> None:
        super().__init__(f"{what} is over the limit of {limit:,} {unit}; send it in smaller requests")
        self.limit = limit

    def extras(self) -> dict[str, Any]:
        """The limit, as a number."""
        return {"limit": self.limit}


class InvalidQueryError(MetricsError):
    """A malformed part of a query URL."""

    status = 400
    title = "Malformed query"

    def __init__(self, part: str, value: str, expected: str) -> None:
        super().__init__(f"{part} {value!r}: expected {expected}")
        self.part = part
        self.value = value
        self.expected = expected

    def extras(self) -> dict[str, Any]:
        """The part at fault, for a program."""
        return {"part": self.part, "value": self.value, "expected": self.expected}


class ElsewhereError(MetricsError):
    """A request to a process of the wrong role.

    Args:
        role: the one that answers it.
        url: the same request there; empty when no process of that role is known.
    """

    status = 421
    title = "Another role answers this"

    def __init__(self, role: str, url: str = "") -> None:
        setting = f"METRICS_{role.upper()}_URL"
        where = url or f"ask one of those ({setting} has this process say where that is)"
        super().__init__(f"not answered here but by a process of the role {role}: {where}")
        self.role = role
        self.url = url

    def extras(self) -> dict[str, Any]:
        """The role and, where it is known, the URL."""
        return {"role": self.role} | ({"url": self.url} if self.url else {})


class NoDataError(MetricsError):
    """Nothing was recorded; never answered as a zero."""

    status = 404
    title = "No data"


class OverloadedError(MetricsError):
    """The collector cannot keep the samples now; nothing of the request was acknowledged.

    `reason` is one word for the counters: kafka, deadline, memory, busy or stopping; `nothing_kept` says that no part
    of the request can be in Kafka.
    """

    status = 503
    title = "Cannot keep samples now"
    retriable = True

    def __init__(
        self, detail: str, retry_after_s: int = 1, reason: str = "kafka", *, nothing_kept: bool = False
    ) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        self.reason = reason
        self.nothing_kept = nothing_kept


class OwnerUnavailableError(MetricsError):
    """No worker that holds the key can answer now."""

    status = 503
    title = "Owner not available"
    retriable = True

    def __init__(self, detail: str, recovering: Sequence[Progress] = ()) -> None:
        super().__init__("; ".join([detail, *map(str, recovering)]))
        self.detail = detail
        self.recovering = list(recovering)
        waits = [each.eta_s for each in recovering if each.eta_s is not None]
        self.retry_after_s = max(1, min(MAX_RETRY_AFTER_S, math.ceil(min(waits, default=1))))

    def extras(self) -> dict[str, Any]:
        """What is being recovered, as numbers."""
        return {"recovering": self.recovering} if self.recovering else {}


class BusyError(MetricsError):
    """This worker has too many questions before this one. Another worker is not asked: it would be busy next."""

    status = 503
    title = "Too many questions"
    retriable = True


class SlowRankingError(MetricsError):
    """There are more keys than are ranked in time."""

    status = 503
    title = "Ranking took too long"
    retriable = True

    def __init__(self, deadline_s: float) -> None:
        super().__init__(
            f"the keys were not ranked within {deadline_s:g} s (METRICS_RANKING_DEADLINE_S): ask for an hour, for a "
            "prefix, or sort by count"
        )


class NotYetError(OwnerUnavailableError):
    """The copy asked has no such row, and not everything that was accepted is in it."""


def reason(error: BaseException) -> str:
    """The innermost sentence of a library's error: what the operating system said, where it said something."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
