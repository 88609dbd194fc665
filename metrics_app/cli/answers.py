"""Prints answers of the service for people: the value with its unit first, then how good and how complete it is.

Called by `query`, `top` and `tail`.
"""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from metrics_app.cli.sparks import bar

Answer = dict[str, Any]
PLOT_WIDTH = 20  # characters of the longest bar


def pretty(answer: Answer) -> RenderableType:
    """The whole in two columns; below it the hours that have data, or the quantiles compared."""
    parts = [_whole(answer)]
    if "shifts" in answer:
        parts.append(_shifts(answer))
    if any(each["count"] for each in answer.get("hours", ())):
        parts.append(_hours(answer))
    return Group(*parts)


def _whole(answer: Answer) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in _values(answer).items():
        table.add_row(name, f"[bold]{shown(name, value, answer)}[/bold]")
    window, base = answer.get("window", {}), answer.get("baseline")
    table.add_row("window", f"{window.get('start')} to {window.get('end')}")
    table.add_row("values", f"{answer.get('count', 0):,}")
    if isinstance(base, dict):
        table.add_row(
            "compared with", f"{base['window']['start']} to {base['window']['end']}, {base['count']:,} values"
        )
    else:
        table.add_row("precision", precision(answer))
    table.add_row("completeness", completeness(answer))
    return table


def _values(answer: Answer) -> dict[str, Any]:
    """What was asked for by name; several for `summary`."""
    if "verdict" in answer:
        return {"verdict": f"{answer['verdict']}: {answer['reason']}"}
    several: dict[str, float] | None = answer.get("values")
    return {answer["stat"]: answer["value"]} if several is None else several


def _hours(answer: Answer) -> Table:
    table = Table(box=None, header_style="dim")
    names = list(_values(answer))
    plotted = names[0] if len(names) == 1 else None
    most = max((each["value"] for each in answer["hours"] if each["count"]), default=0.0) if plotted else 0.0
    for name in ("hour", *names, "values", *([""] if plotted else [])):
        table.add_column(name, justify="left" if name in ("hour", "") else "right")
    for each in filter(lambda each: each["count"], answer["hours"]):
        values = each.get("values") or {names[0]: each["value"]}
        plot = [bar(each["value"], most, PLOT_WIDTH)] if plotted else []
        numbers = [shown(name, values[name], answer) for name in names]
        table.add_row(each["start"], *numbers, f"{each['count']:,}", *plot)
    if answer.get("next"):
        table.caption = f"and more after {answer['next']}"
    return table


def _shifts(answer: Answer) -> Table:
    table = Table(box=None, header_style="dim")
    for name in ("", "then", "now", "shift", "surely in", "ratio"):
        table.add_column(name, justify="left" if not name else "right")
    for each in answer["shifts"]:
        ci95 = each["shift_ci95"]
        within = f"[{number(ci95['lo'])}, {number(ci95['hi'])}]" if ci95 else "too few values"
        ratio = "" if each["ratio"] is None else number(each["ratio"])
        numbers = (number(each[name]) for name in ("baseline", "value", "shift"))
        table.add_row(each["stat"], *numbers, escape(within), ratio)
    return table


def shown(name: str, value: Any, answer: Answer) -> str:
    """A value with its unit; a share as a percentage, a text as it is."""
    if isinstance(value, str):
        return escape(value)
    if answer.get("unit") == "share":
        return f"{100 * value:.6g} % up to {number(answer['threshold'])} {escape(answer['threshold_unit'])}"
    return number(value) if name == "count" else f"{number(value)} {escape(answer.get('unit', ''))}"


def precision(answer: Answer) -> str:
    """How close the value is to the true one, in words."""
    ci95 = answer.get("ci95")
    chance = f"; chance alone: [{number(ci95['lo'])}, {number(ci95['hi'])}] (95 %)" if ci95 else ""
    if answer.get("exact", True):
        return f"exact{chance}"
    bound = f"within {100 * answer.get('error_bound', 0):.2f} %"
    low, high = answer.get("lo"), answer.get("hi")
    return (bound if low is None or high is None else f"{bound}, surely in [{number(low)}, {number(high)}]") + chance


def completeness(answer: Answer) -> str:
    """What is known to be missing or still to come, in words."""
    parts = ["final" if answer.get("final") else "still open"]
    parts += [f"{answer[name]:,} {name}" for name in ("missing", "duplicates", "late") if answer.get(name)]
    if answer.get("stale"):
        parts.append("may lag")
    if "as_of" in answer:
        parts.append(f"as of {answer['as_of']}")
    return ", ".join(parts)


def number(value: float) -> str:
    """A number for people: thousands separated, six significant digits or the whole integer part."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.1f}"
