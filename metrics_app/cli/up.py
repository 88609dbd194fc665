"""`metrics-app up`: a whole system on this machine, kept alive until it is told to stop.

Called by `main`.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.markup import escape
from rich.status import Status

from metrics_app.cli.child import Child, Program, RestartPace, cancel
from metrics_app.cli.reasons import size_of, tail
from metrics_app.cli.roles import Host
from metrics_app.cli.supervisor import Supervisor, sole_use
from metrics_app.cli.terminal import err, examples, print_line, say
from metrics_app.errors import SettingsError
from metrics_app.settings import Settings

EXAMPLES = examples(
    "metrics-app up",
    "metrics-app up --workers 2 --port 9000 --data-dir /var/lib/metrics",
    "metrics-app up --brokers 3",
    "METRICS_KAFKA=kafka-1:9092,kafka-2:9092 metrics-app up",
)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAY_INTERVAL_S = 5.0
EXIT_S = 5.0
SECRET_BYTES = 32
LOOK_INTERVAL_S = 0.25


def up(
    port: Annotated[
        int | None,
        typer.Option(help="Port of the first worker; worker i has port + i.", show_default="METRICS_PORT, else 8080"),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Number of workers.")] = 1,
    brokers: Annotated[
        int,
        typer.Option(min=1, max=9, help="Number of brokers of the embedded Kafka; each value is kept on 3 of them."),
    ] = 1,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of everything that is kept.", show_default="METRICS_DATA_DIR, else data")
    ] = None,
    host: Host = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs of all processes.")] = False,
) -> None:
    """Bring a whole system up: Kafka and the workers, and restart whatever of them dies.

    Nothing else is needed on the machine. With METRICS_KAFKA set, that Kafka is used instead. Ctrl-C stops it cleanly.

    Logs are in <data-dir>/logs, process ids in <data-dir>/run.
    """
    from metrics_app import configuration
    from metrics_app.cli.stages import plan
    from metrics_app.http.access import check_settings
    from metrics_app.kafka import jars
    from metrics_app.kafka.durability import SAFE_REPLICATION

    effective = _with_secret(configuration.load(port=port, data_dir=data_dir, host=host))
    check_settings(effective, "all")
    origins = configuration.origins()
    embedded = origins["kafka"] == "default"
    if brokers != 1 and not embedded:
        raise SettingsError([f"--brokers {brokers}: METRICS_KAFKA names a Kafka, whose brokers are not ours to start"])
    if origins["replication"] == "default" and embedded:
        effective = effective.model_copy(update={"replication": min(brokers, SAFE_REPLICATION)})
    if embedded:
        jars.install()  # here rather than in Kafka's own process: its progress is seen, and a failure is said once
    with sole_use(effective.data_dir):
        stages = plan(effective, workers, embedded, brokers)
        asyncio.run(_run(stages, effective, verbose))


def _with_secret(settings: Settings) -> Settings:
    """Adds a secret that the workers of this run share, unless one is set."""
    if settings.cluster_token.get_secret_value():
        return settings
    return settings.model_copy(update={"cluster_token": SecretStr(secrets.token_hex(SECRET_BYTES))})


async def _run(stages: Sequence[Sequence[Program]], settings: Settings, verbose: bool) -> None:
    started = time.monotonic()
    # a worker that takes all its grace is still to end by itself
    grace_s = settings.stop_delay_s + settings.stop_grace_s + EXIT_S
    pace = RestartPace(silence_s=settings.silence_timeout_s, free_mb=settings.min_free_mb)
    supervisor = Supervisor(stages, settings.data_dir, say, grace_s, pace)
    children = [child for stage in supervisor.stages for child in stage]
    stop = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    spinner = err.status("starting")

    def on_ready() -> None:
        spinner.stop()
        _invite(settings.url, time.monotonic() - started)

    say(f"starting {', '.join(child.name for child in children)}; logs are in {settings.data_dir / 'logs'}")
    tasks = [asyncio.create_task(_show_waiting(children, spinner))]
    if verbose:
        tasks.append(asyncio.create_task(_follow(children)))
    try:
        await supervisor.run(stop, on_ready)
    finally:
        spinner.stop()
        await cancel(tasks)
    say("stopped")


async def _show_waiting(children: Sequence[Child], spinner: Status) -> None:
    """Shows which children are not ready yet, with the last line of their log; returns when all are ready.

    On a terminal all the time, else a line every SAY_INTERVAL_S.
    """
    if err.is_terminal:
        spinner.start()
    said = time.monotonic()
    before = {
        child.name: size_of(child.log) for child in children
    }  # what an earlier run logged is not what we wait for
    while waiting := [child for child in children if not child.ready.is_set()]:
        last = tail(waiting[0].log, lines=1) if size_of(waiting[0].log) != before[waiting[0].name] else []
        doing = last[0][:100] if last else ""
        spinner.update(f"waiting for {waiting[0].name}  [dim]{escape(doing)}[/dim]")
        if not err.is_terminal and time.monotonic() - said > SAY_INTERVAL_S:
            say(f"waiting for {waiting[0].name}: {doing}")
            said = time.monotonic()
        await asyncio.sleep(LOOK_INTERVAL_S)


async def _follow(children: Sequence[Child]) -> None:
    """Prints what the children log from now on, each line with the child's name; returns never."""
    seen = {child.name: size_of(child.log) for child in children}
    while True:
        for child in children:
            if child.log.exists():
                seen[child.name] = _print_from(child, seen[child.name])
        await asyncio.sleep(LOOK_INTERVAL_S)


def _print_from(child: Child, position: int) -> int:
    with child.log.open("rb") as log:
        log.seek(position if position <= child.log.stat().st_size else 0)  # smaller than before: it was set aside
        for line in log:
            say(f"{child.name} | {line.decode(errors='replace').rstrip()}")
        return log.tell()


def _invite(url: str, took_s: float) -> None:
    now = datetime.now(UTC)
    print_line(f"ready in {took_s:.1f} s: {url}")
    print_line("Try:")
    print_line(f"  curl -d '[\"checkout\", 12.5]' {url}/samples")
    print_line(f"  curl {url}/checkout/median/{now:%Y-%m-%d}/{now.hour}")
