"""`metrics-app keys`: the keys recorded on a day, one a line."""

from __future__ import annotations

from typing import Annotated

import typer

from metrics_app.cli.query import fetch
from metrics_app.cli.service import DEFAULT_URL, Url
from metrics_app.cli.terminal import examples, print_json, print_line, say

EXAMPLES = examples(
    "metrics-app keys",
    "metrics-app keys --date 2026-11-23 --prefix checkout",
    "metrics-app keys | wc -l",
)


def keys(
    date: Annotated[str | None, typer.Option(help="UTC date, YYYY-MM-DD.", show_default="today")] = None,
    prefix: Annotated[str, typer.Option(help="Only keys that begin so.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.", show_default="all")] = None,
    url: Url = DEFAULT_URL,
    json: Annotated[bool, typer.Option("--json", help="Print one document with all of them.")] = False,
) -> None:
    """List the keys recorded on a day. Exits with 1 when a part of the service did not answer."""
    asked = {name: value for name, value in (("date", date), ("prefix", prefix)) if value}
    found: list[str] = []
    unanswered: set[int] = set()
    while True:
        left = {} if limit is None else {"limit": str(min(limit - len(found), 100))}
        page = fetch(url, ["keys"], asked | left)
        asked |= {"date": page["date"], "after": page["next"]}
        found += page["keys"]
        unanswered.update(page["unanswered"])
        if not json:
            for key in page["keys"]:
                print_line(key)
        if page["next"] is None or len(found) == limit:
            break
    if json:
        whole = {"complete": not unanswered, "unanswered": sorted(unanswered), "lost_records": page["lost_records"]}
        print_json({"date": page["date"], "keys": found, **whole})
    if page["lost_records"] != 0:
        say("Kafka deleted records of that time before they were counted; keys that only they had are not listed")
    if unanswered:
        say(f"not complete: nobody answered for partitions {', '.join(map(str, sorted(unanswered)))}; try again")
        raise typer.Exit(1)
