"""Bars as SVG, drawn from the results document alone: the same figures give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from benchmarks.tables import NAMES, us

WIDTH, LABELS, FIGURES = 760, 230, 150
SPACE = WIDTH - LABELS - FIGURES  # of the longest bar
ROW, BAR, TOP = 30, 18, 58
OURS, OTHERS = "#2563eb", "#9ca3af"
# readable on a light page and on a dark one: the text follows the reader's scheme
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1f2937 }
.title { font-weight: 600; font-size: 15px } .note, .tick { fill: #6b7280 } .tick { font-size: 10px }
@media (prefers-color-scheme: dark) { text { fill: #e5e7eb } .note, .tick { fill: #9ca3af } }
</style>"""


class Bar(NamedTuple):
    """One bar: what it is of, its length in the unit of the plot, the figure behind it, and whether it is ours."""

    label: str
    length: float
    figure: str
    ours: bool = False


class Scale(NamedTuple):
    """From a figure to its share of the width, and the figures at which a line is drawn."""

    share: Callable[[float], float]
    ticks: list[float]


def bars(title: str, note: str, rows: Sequence[Bar], *, logarithmic: bool = False) -> str:
    """Horizontal bars under a title and a note; on a logarithmic scale with a line at each power of ten."""
    scale = _logarithmic(rows) if logarithmic else _linear(rows)
    bottom = TOP + ROW * len(rows)
    height = bottom + (20 if scale.ticks else 4)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
        f"<title>{escape(title)}</title>",
        STYLE,
        f'<text class="title" x="8" y="22">{escape(title)}</text>',
        f'<text class="note" x="8" y="42">{escape(note)}</text>',
    ]
    for tick in scale.ticks:
        x = f"{LABELS + scale.share(tick) * SPACE:.1f}"
        parts += [
            f'<line x1="{x}" x2="{x}" y1="{TOP - 4}" y2="{bottom - 6}" stroke="{OTHERS}" stroke-opacity="0.4"/>',
            f'<text class="tick" x="{x}" y="{bottom + 8}" text-anchor="middle">{tick:,.10g}</text>',
        ]
    for number, bar in enumerate(rows):
        y = TOP + ROW * number
        length = max(2.0, scale.share(bar.length) * SPACE)
        fill, middle = OURS if bar.ours else OTHERS, y + BAR - 4
        parts += [
            f'<text x="{LABELS - 8}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{fill}"/>',
            f'<text x="{LABELS + length + 8:.1f}" y="{middle}">{escape(bar.figure)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _linear(rows: Sequence[Bar]) -> Scale:
    longest = max(bar.length for bar in rows)
    return Scale(lambda length: length / longest, [])


def _logarithmic(rows: Sequence[Bar]) -> Scale:
    lengths = [math.log10(bar.length) for bar in rows]
    first, last = math.floor(min(lengths) - 0.1), math.ceil(max(lengths))
    ticks = [10.0**power for power in range(first, last + 1)]
    return Scale(lambda length: (math.log10(length) - first) / (last - first), ticks)


def peers(document: dict[str, Any]) -> str:
    """Samples a second of each."""
    rates: dict[str, int] = document["rates"]
    rows = [Bar(NAMES[name], rate, f"{rate:,}/s", name == "ours") for name, rate in rates.items()]
    note = "samples a second out of Kafka, ten keys, two cores; logarithmic"
    return bars("Hourly statistics: one worker", note, rows, logarithmic=True)


def cpu(document: dict[str, Any]) -> str:
    """CPU a sample of each, from its way in to its row."""
    rows = []
    for name, cost in document["peers"]["cpu"].items():
        both = cost["way_in_ns"] + cost["worker_ns"]
        rows.append(Bar(NAMES[name], both / 1000, us(both), name.startswith("ours")))
    note = "CPU a sample in µs: collector or producer, and worker; ten keys; logarithmic; less is better"
    return bars("What a sample costs", note, rows, logarithmic=True)


def ladder(document: dict[str, Any]) -> str:
    """CPU a value at each rung."""
    rows = []
    for row in document["ladder"]:
        cost = row["cpu_ns_per_value"]["worker"] + row["cpu_ns_per_value"]["kafka"]
        rows.append(Bar(f"{row['times']:,} x: {row['accepted_per_s']:,} values/s", cost / 1000, us(cost), ours=True))
    return bars(
        "What a value costs as load grows",
        "CPU a value in µs, worker and Kafka; logarithmic; less is better",
        rows,
        logarithmic=True,
    )


def ingest(document: dict[str, Any]) -> str:
    """CPU a value by form."""
    rows = [Bar(row["form"], row["cpu_ns"] / 1000, us(row["cpu_ns"]), ours=True) for row in document["ingest"]]
    return bars(
        "The way in, by form of the body",
        "CPU a value of the collector in µs; logarithmic; less is better",
        rows,
        logarithmic=True,
    )


def sketches(document: dict[str, Any]) -> str:
    """The error at p99 of each."""
    rows = []
    for row in document["sketches"]["rows"]:
        error = 100 * row["errors"][1]
        rows.append(Bar(row["name"], error, f"{error:.3f} %, {row['bulk_ns']:.0f} ns", row["name"].startswith("ours")))
    note = "worst relative error of a p99 on heavy tails in %, logarithmic, and ns a value in bulk; less is better"
    return bars("Quantile sketches", note, rows, logarithmic=True)


PLOTS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "peers": ("peers", peers),
    "cpu": ("peers", cpu),
    "ladder": ("ladder", ladder),
    "ingest": ("ingest", ingest),
    "sketches": ("sketches", sketches),
}
