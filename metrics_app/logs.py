"""Log lines: one format for our modules, Faust, aiokafka and aiohttp, as text or as JSON; never a value of a secret.

Called by `serving`.
"""

from __future__ import annotations

import logging
import sys

import structlog

from metrics_app.settings import Settings

# what these say at INFO is a line a commit or a table of every offset
QUIET = ("aiokafka", "faust", "mode", "aiohttp.access", "kafka")


# and what is said for them: of futures and callbacks that nobody waits for any more
SPEAK_FOR_OTHERS = ("asyncio",)

AGAIN_S = 10.0
CAUSE_S = 1.0
CAUSE_CHARACTERS = 60  # of a line, by which it is of the same cause as another: behind them are addresses and numbers
MOST_LINES = 1000  # remembered
KAFKA_CLIENT = "aiokafka"


class RepeatedLines(logging.Filter):
    """Lets the same line of a library through once in a while, and one of each cause a second.

    Some say the same at each try, hundreds of times a second while a broker is away, often with another number in it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}
        self._causes: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is to be written."""
        if not record.name.startswith((*QUIET, *SPEAK_FOR_OTHERS)):
            return True
        tame(record)
        line = record.name, f"{record.msg} {record.args}"  # not put together: where that fails, the handler says so
        cause = record.name, f"{record.msg}"[:CAUSE_CHARACTERS]
        return self._is_due(self._said, line, record.created, AGAIN_S) and self._is_due(
            self._causes, cause, record.created, CAUSE_S
        )

    def _is_due(self, said: dict[tuple[str, str], float], what: tuple[str, str], now_s: float, again_s: float) -> bool:
        if now_s - said.get(what, 0.0) < again_s:
            return False
        if len(said) >= MOST_LINES:
            said.clear()
        said[what] = now_s
        return True


def tame(record: logging.LogRecord) -> None:
    """Makes one line of the traceback of a future or callback that aiokafka left behind when it lost a broker.

    Whoever waited for it has been told by another way; to the others a traceback is a bug that there is not.
    """
    if record.name not in SPEAK_FOR_OTHERS or not record.exc_info or not _is_of_kafka_client(record):
        return
    error = record.exc_info[1]
    first, _, _ = record.getMessage().partition("\n")
    record.msg, record.args = f"{KAFKA_CLIENT} left this behind: {type(error).__name__} {error}: {first}", ()
    record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"


def _is_of_kafka_client(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__module__.startswith(KAFKA_CLIENT) or KAFKA_CLIENT in record.getMessage()


def configure_logging(settings: Settings) -> None:
    """Sends everything to standard error in the form the settings ask for."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # the other kind prints local variables, so secrets
        )
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            last,
        ]
        if settings.log_format == "json"
        else [structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(RepeatedLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = getattr(logging, settings.log_level.upper())
    root.setLevel(level)
    # what clients send that is no HTTP is theirs to see, not a traceback of ours for each line of it
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)
