"""`metrics-app token new`: a token for whoever sends or asks, and its line for METRICS_TOKENS_FILE.

Called by `main`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from metrics_app.cli.terminal import examples, print_json, print_line, say
from metrics_app.errors import SettingsError

EXAMPLES = examples(
    "metrics-app token new --name shop --scope ingest --scope query --prefix shop/",
    "metrics-app token new --name grafana --scope query --json",
)


class ScopeChoice(StrEnum):
    """What a token may allow."""

    INGEST = "ingest"
    QUERY = "query"
    ADMIN = "admin"


app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def token() -> None:
    """Make tokens (docs/access.md)."""


@app.command("new", epilog=EXAMPLES)
def new(
    name: Annotated[str, typer.Option(help="Whose it is; a new token of the same name counts as the same sender.")],
    scope: Annotated[list[ScopeChoice], typer.Option(help="What it allows; several times.")],
    prefix: Annotated[
        list[str] | None, typer.Option(help="How its keys begin; several times.", show_default="any key")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a token. It is shown once, here; the file of tokens gets its hash alone.

    The line goes to METRICS_TOKENS_FILE of every worker, which takes it within seconds.
    """
    from metrics_app.http.tokens import new_token

    try:
        secret, line = new_token(name, [*dict.fromkeys(scope)], prefix or [])
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None
    if json:
        print_json({"token": secret, "line": msgspec.json.decode(line)})
        return
    say("the token, which nobody can show again:")
    print_line(secret)
    say("the line for METRICS_TOKENS_FILE (mode 600):")
    print_line(line)
