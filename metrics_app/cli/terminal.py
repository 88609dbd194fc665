"""How commands talk: data goes to stdout, progress and errors to stderr; colours appear only where a person reads.

Called by `dlq`, `drill`, `kafka`, `load`, `main` and others.

Rich obeys NO_COLOR and drops every escape sequence when the output is not a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class _Progress(Console):
    def on_broken_pipe(self) -> None:
        """Does nothing, where Rich would end the process: a closed stderr must not end the command."""


PAGE_WIDTH = 200  # characters that no table of ours exceeds
out = Console(highlight=False, soft_wrap=True)
err = _Progress(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """One plain line of progress, on stderr; lost where that cannot be written, such as to a file on a full disk."""
    with suppress(OSError):
        err.print(line, markup=False)


def print_line(line: str) -> None:
    """One plain line of data, on stdout, flushed so that a pipe sees it at once."""
    out.print(line, markup=False)
    out.file.flush()


def print_page(page: RenderableType) -> None:
    """Tables and lines for people, on stdout: as wide as the window, or, into a pipe or file, as wide as they need."""
    # not `width` of `print`, which is no more than that of the console
    console = out if out.is_terminal else Console(file=out.file, highlight=False, width=PAGE_WIDTH)
    console.print(page)


def literal(text: str) -> str:
    """A text of somebody else for a table: no markup, and no character that moves or turns round what is beside it."""
    plain = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return escape(plain)


def print_json(document: Any) -> None:
    """A document on stdout, indented, in a form that every JSON reader takes."""
    print_line(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def examples(*lines: str) -> str:
    """The epilog of a command: what to type, a line each; indented, so that Markdown takes it for code."""
    return "Examples:\n\n" + "\n".join(f"    {line}" for line in lines)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, else a line of text; gives the function that takes the number done so far."""
    if not err.is_terminal:
        say(title)
        yield lambda done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)
