"""`metrics-app dlq`: the records that could not be folded, and how they are brought back.

Called by `main`; `archive` and `doctor` ask it where Kafka is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metrics_app.cli.terminal import examples, print_json, print_line, say

if TYPE_CHECKING:
    from metrics_app.aggregator.dead_letters import Letter
    from metrics_app.settings import Settings

LIST_EXAMPLES = examples("metrics-app dlq list", "metrics-app dlq list --limit 10 --json")
REPLAY_EXAMPLES = examples("metrics-app dlq replay --dry-run", "metrics-app dlq replay --only fold")
PATIENCE_S = 30.0  # for Kafka: a command that somebody waits for has an end, unlike a worker

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@app.command("list", epilog=LIST_EXAMPLES)
def list_letters(
    limit: Annotated[int, typer.Option(min=1, help="Show at most that many, the newest.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the dead letters that were not replayed: where each record was, and why it could not be folded."""
    letters = asyncio.run(_open_letters(where_kafka_is()))
    shown = letters[-limit:]
    if json:
        print_json([_described(letter) for letter in shown])
        return
    for letter in shown:
        topic, partition, offset = letter.origin
        at = datetime.fromtimestamp(letter.timestamp_ms / 1000, UTC)
        print_line(f"{at:%Y-%m-%dT%H:%M:%SZ}  {topic}-{partition} at {offset}  {letter.reason}")
    say(f"{len(letters):,} dead letters" + (f", {len(shown):,} shown" if len(shown) < len(letters) else ""))


@app.command("replay", epilog=REPLAY_EXAMPLES)
def replay(
    only: Annotated[
        str | None,
        typer.Option(help="Replay the letters of this reason only: its part before the colon, such as fold."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Send dead letters that can be read to the samples topic again; those that cannot stay where they are.

    However often it is run or interrupted, each sample counts once: samples without an id get one from their origin.
    """
    done = asyncio.run(_replay(where_kafka_is(), only, dry_run))
    if json:
        print_json({"dry_run": dry_run, **{name: done[name] for name in ("replayed", "unreadable", "other")}})
        return
    verb = "would be replayed" if dry_run else "replayed"
    say(f"{done['replayed']:,} {verb}, {done['unreadable']:,} cannot be read and stay, {done['other']:,} not asked for")


def where_kafka_is() -> Settings:
    """Our settings, with the Kafka that `up` started in the data folder unless METRICS_KAFKA names one."""
    from metrics_app import configuration
    from metrics_app.kafka.storage import found_in

    ours = configuration.load()
    addresses = [address for storage in found_in(ours.data_dir) if (address := storage.address())]
    if not addresses or configuration.origins()["kafka"] != "default":
        say(f"asking Kafka at {ours.kafka}")
        return ours
    kafka = ",".join(address.bootstrap for address in addresses)
    say(f"asking the Kafka of {ours.data_dir} at {kafka}; METRICS_KAFKA names another")
    return ours.model_copy(update={"kafka": kafka, "kafka_cluster_id": addresses[0].broker.cluster_id})


def _described(letter: Letter) -> dict[str, Any]:
    return {
        **letter.origin._asdict(),
        "reason": letter.reason,
        "timestamp_ms": letter.timestamp_ms,
        "bytes": len(letter.value),
    }


async def _open_letters(settings: Settings) -> list[Letter]:
    from metrics_app.aggregator import letter_box
    from metrics_app.kafka import reaching, topics

    await reaching.wait(settings, say, PATIENCE_S)
    await topics.ensure(settings)
    found = await letter_box.read(settings)
    for each in found.left_out:
        say(f"left out: {each}")
    return found.waiting


async def _replay(settings: Settings, only: str | None, dry_run: bool) -> Counter[str]:
    from metrics_app.aggregator import letter_box

    return await letter_box.replay(settings, await _open_letters(settings), only, dry_run=dry_run)
