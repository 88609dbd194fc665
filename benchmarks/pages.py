"""Writes the tables and plots of the documentation from the results document, so that no figure is typed by hand.

A page says where: between `<!-- figures: NAME -->` and `<!-- figures end -->`. NAME is a table, `plot-` and a plot, or
`flames`, the flame graphs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks import plots
from benchmarks.tables import CASES, TABLES

ROOT = Path(__file__).parent.parent
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "DESIGN.md",
    ROOT / "docs" / "performance.md",
    ROOT / "docs" / "clients.md",
    ROOT / "docs" / "scale.md",
    ROOT / "docs" / "adr" / "0003-quantiles.md",
)
PLOTS = ROOT / "docs" / "plots"
PLACE = re.compile(r"(<!-- figures: (?P<name>[a-z-]+) -->\n).*?(<!-- figures end -->)", re.DOTALL)


def rendered(text: str, document: dict[str, Any]) -> str:
    """The text of a page with its figures as the document says; what was not measured stays as it is.

    Raises:
        KeyError: the page names a table that there is not.
    """

    def fresh(place: re.Match[str]) -> str:
        section, text = _content(place["name"])
        return f"{place[1]}{text(document)}\n{place[3]}" if section in document else place[0]

    return PLACE.sub(fresh, text)


def _content(name: str) -> tuple[str, Callable[[dict[str, Any]], str]]:
    """The section that something is made of, and how."""
    if name.startswith("plot-"):
        plot = name.removeprefix("plot-")
        return plots.PLOTS[plot][0], lambda document: f"![the table above as bars](plots/{plot}.svg)"
    if name == "flames":
        return "profile", _flames
    shown = TABLES[name]
    return shown.section, lambda document: shown.table(document).markdown()


def _flames(document: dict[str, Any]) -> str:
    links = [f"[{CASES[name]}](plots/flame-{name}.svg)" for name in document["profile"]]
    return f"Flame graphs, as wide as the time, the outermost frame on top: {'; '.join(links)}."


def drawn(document: dict[str, Any]) -> dict[Path, str]:
    """Every plot that the document has figures for, and its SVG."""
    return {
        PLOTS / f"{name}.svg": plot(document) for name, (section, plot) in plots.PLOTS.items() if section in document
    }


def write(document: dict[str, Any]) -> Iterator[Path]:
    """Brings pages and plots up to date; gives those that changed."""
    PLOTS.mkdir(exist_ok=True)
    wanted = {page: rendered(page.read_text(), document) for page in PAGES} | drawn(document)
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            yield path


def show(console: Console, document: dict[str, Any], sections: Iterable[str]) -> None:
    """The tables of these sections on a terminal."""
    for name, shown in TABLES.items():
        if shown.section not in sections:
            continue
        table = shown.table(document)
        out = RichTable(title=name, title_justify="left", box=None)
        for number, column in enumerate(table.header):
            out.add_column(column, justify="right" if number else "left")
        for row in table.rows:
            out.add_row(*row)
        console.print(out)
