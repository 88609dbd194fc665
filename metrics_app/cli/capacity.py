"""`metrics-app capacity`: what a value costs each worker, and what breaks first when more is sent.

Called by `main`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from metrics_app.cli.query import DEFAULT_URL, TokenFile, shown
from metrics_app.cli.status import Urls, ask_all
from metrics_app.cli.terminal import examples, print_json, print_page

if TYPE_CHECKING:
    from metrics_app.system.capacity import Capacity

EXAMPLES = examples(
    "metrics-app capacity",
    "metrics-app capacity --url http://collector-1:8080 --url http://aggregator-1:8080",
    "metrics-app capacity --json",
)


def capacity(
    url: Urls = None,
    token_file: TokenFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Forecast at how many times of today's rate something breaks, and what, from the last five minutes.

    The forecast holds for requests like those of today: larger batches make a value cheaper.
    """
    import msgspec

    from metrics_app.system.capacity import capacity_of

    found = capacity_of(ask_all(url or [DEFAULT_URL], shown(token_file)))
    if json:
        print_json(msgspec.to_builtins(found))
    else:
        print_page(_page(found))


def _page(found: Capacity) -> RenderableType:
    table = Table(box=None, header_style="dim")
    for name in ("worker", "role", "values/s", "busy", "a value", "folding", "lag grows", "breaks at", "disk full in"):
        table.add_column(name, justify="left" if name in ("worker", "role") else "right", overflow="fold")
    for each in found.workers:
        most, days = each.breaks_at_values_per_s, each.disk_full_in_days
        table.add_row(
            escape(each.url),
            each.role,
            f"{each.values_per_s:,.0f}",
            f"{each.busy:.0%}",
            f"{each.us_per_value:,.2f} µs",
            f"{each.fold_us_per_value:,.2f} µs",
            f"{each.lag_per_s:,.1f}/s",
            "" if most is None else f"{most:,.0f}/s ({each.times:,.1f}x)",
            "" if days is None else f"{days:,.1f} days",
        )
    hot = f"partition {found.hottest} has {found.hottest_share:.0%} of the values; see metrics-app top --sort count"
    hottest = [] if found.hottest is None else [hot]
    laggiest = [] if found.laggiest is None else [f"most records wait in partition {found.laggiest}"]
    return Group(f"[bold]{escape(found.forecast)}[/bold]", "", table, *hottest, *laggiest)
