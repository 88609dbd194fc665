"""How commands talk: data to stdout, progress and errors to stderr; colours only where a person reads them.

Rich obeys NO_COLOR and drops every escape sequence when the output is not a terminal.
"""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import Console

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """One plain line of progress, on stderr."""
    err.print(line, markup=False)


def print_line(line: str) -> None:
    """One plain line of data, on stdout, flushed so that a pipe sees it at once."""
    out.print(line, markup=False)
    out.file.flush()


def print_json(document: Any) -> None:
    """A document on stdout, indented, in a form that every JSON reader takes."""
    print_line(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def examples(*lines: str) -> str:
    """The epilog of a command: what to type, a line each; indented, so that Markdown takes it for code."""
    return "Examples:\n\n" + "\n".join(f"    {line}" for line in lines)
