"""`metrics-app load`: sends response times at a fixed rate, then compares every aggregate with its own ledger.

Called by `main`.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from metrics_app.cli.query import DEFAULT_URL, TokenFile, shown
from metrics_app.cli.terminal import examples, out, print_json, progress_bar
from metrics_app.verify.plan import Form, Plan

EXAMPLES = examples(
    "metrics-app load --rate 10000 --keys 10 --duration 60",
    "metrics-app load --rate 1000000 --batch 10000 --form msgpack",
    "metrics-app load --url http://127.0.0.1:8080 --query-url http://127.0.0.1:8081",
    "metrics-app load --url http://127.0.0.1:8080 --url http://127.0.0.1:8081 --until-kept 60 --json",
)


def load(
    rate: Annotated[float, typer.Option(min=1, help="Values per second.")] = 10_000,
    keys: Annotated[int, typer.Option(min=1, help="Number of keys.")] = 10,
    duration: Annotated[float, typer.Option(min=0.1, help="Seconds of sending.")] = 30,
    batch: Annotated[int, typer.Option(min=1, max=100_000, help="Values per request.")] = 100,
    form: Annotated[Form, typer.Option(help="Form of the request bodies.")] = Form.PAIRS,
    url: Annotated[
        list[str] | None,
        typer.Option(envvar="METRICS_URL", help="Address; repeat for several.", show_default=DEFAULT_URL),
    ] = None,
    query_url: Annotated[
        list[str] | None,
        typer.Option(help="Address that answers questions; repeat for several.", show_default="that of --url"),
    ] = None,
    until_kept: Annotated[
        float,
        typer.Option(min=0, help="Send a request again, as the same one, for so many seconds until it is accepted."),
    ] = 0,
    in_flight: Annotated[int, typer.Option(min=1, max=4096, help="Most requests unanswered at a time.")] = 256,
    drain: Annotated[float, typer.Option(min=0, help="Longest wait, in seconds, until all accepted is counted.")] = 30,
    seed: Annotated[int, typer.Option(help="Seed of the response times.")] = 1,
    token_file: TokenFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send made-up response times at a fixed rate and check that each is counted once.

    The rate never waits for replies. Afterwards every statistic of every key and hour is read back and compared with
    what was sent. Exit code 1 when anything is lost, counted twice, or off by more than the answer says.
    """
    from metrics_app.verify.load_report import pretty, report  # with numpy and aiohttp behind them: only here
    from metrics_app.verify.run import perform

    urls = tuple(url or [DEFAULT_URL])
    plan = Plan(
        rate,
        keys,
        duration,
        batch,
        form,
        urls,
        until_kept,
        in_flight,
        drain,
        seed,
        query_urls=tuple(query_url or ()),
        credentials=shown(token_file),
    )
    done = asyncio.run(perform(plan, progress=progress_bar))
    if json:
        print_json(report(plan, done))
    else:
        out.print(pretty(plan, done))
    if not done.is_right:
        raise typer.Exit(1)
