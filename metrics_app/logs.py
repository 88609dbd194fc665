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


AGAIN_S = 10.0
MOST_LINES = 1000  # remembered


class RepeatedLines(logging.Filter):
    """Lets a line of a library through once in a while: some say the same at each try, hundreds of times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is to be written."""
        if not record.name.startswith(QUIET):
            return True
        line = record.name, f"{record.msg} {record.args}"  # not put together: where that fails, the handler says so
        if record.created - self._said.get(line, 0.0) < AGAIN_S:
            return False
        if len(self._said) >= MOST_LINES:
            self._said.clear()
        self._said[line] = record.created
        return True


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
