"""The command line `metrics-app`: one function a command, each in a file of its own.

Called by `__main__`.

An expected error is one line on stderr and a line that says what to do next; the exit codes are those of
`process.py`. Commands import what they need when they run, so that `send` does not wait for Faust.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

try:
    import typer
    from typer.core import TyperGroup
except ModuleNotFoundError:  # an app that only sends
    sys.exit(
        "error: only the client is installed, and the command line comes with the service\n  see metrics-app[server]"
    )

from metrics_app.cli import (
    archive,
    capacity,
    dlq,
    doctor,
    drill,
    export,
    import_files,
    kafka,
    load,
    query,
    roles,
    send,
    settings,
    status,
    tail,
    token,
    top,
    up,
)
from metrics_app.cli.terminal import examples, print_line, say
from metrics_app.errors import (
    BrokerDiedError,
    BrokerError,
    ClientError,
    DownloadError,
    MetricsError,
    PortTakenError,
    SettingsError,
)
from metrics_app.process import EXIT_CRASHED, EXIT_SETTINGS, EXIT_UNUSABLE

HINTS: dict[type, tuple[int, str]] = {
    SettingsError: (EXIT_SETTINGS, "`metrics-app settings` shows every value and where it comes from"),
    BrokerError: (
        EXIT_UNUSABLE,
        "see that Kafka runs where METRICS_KAFKA says; without it `metrics-app up` brings a Kafka along",
    ),
    BrokerDiedError: (EXIT_CRASHED, "start it again; its log has more"),
    PortTakenError: (EXIT_UNUSABLE, ""),
    DownloadError: (
        EXIT_UNUSABLE,
        "mend that and start again, or name a Kafka that runs already: METRICS_KAFKA=host:port",
    ),
    ClientError: (1, "is the service running? `metrics-app up` starts it; --url says where it is"),
}


def outcome_of(kind: type[MetricsError]) -> tuple[int, str]:
    """Exit code of an error and a hint what to do, taken from its nearest base class that has them."""
    return next((HINTS[each] for each in kind.__mro__ if each in HINTS), (1, ""))


class Commands(TyperGroup):
    """The commands, with our own errors turned into a line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command and returns its result."""
        try:
            return super().invoke(ctx)
        except MetricsError as error:
            code, hint = outcome_of(type(error))
            problems = error.problems if isinstance(error, SettingsError) else [str(error)]
            for problem in problems:
                say(f"error: {problem}")
            if hint:
                say(f"  {hint}")
            raise typer.Exit(code) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # a bug shows Python's own traceback, without the values of local variables
    rich_markup_mode="rich",
    epilog=examples("metrics-app up", "metrics-app send checkout 12.5", "metrics-app query checkout median"),
)


def _version(wanted: bool) -> None:
    if wanted:
        from metrics_app import __version__

        print_line(f"metrics-app {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Hourly response-time statistics that are counted exactly once and say how good they are."""


SERVICE, USE = "Run the service", "Use it"
KAFKA_EXAMPLES = examples("metrics-app kafka", "metrics-app kafka --port 9092 --data-dir data/kafka")
for name, command, panel, epilog in (
    ("up", up.up, SERVICE, up.EXAMPLES),
    ("kafka", kafka.kafka, SERVICE, KAFKA_EXAMPLES),
    ("collector", roles.collector, SERVICE, roles.COLLECTOR_EXAMPLES),
    ("aggregator", roles.aggregator, SERVICE, roles.AGGREGATOR_EXAMPLES),
    ("all", roles.all_roles, SERVICE, roles.ALL_EXAMPLES),
    ("archive", archive.archive, SERVICE, archive.EXAMPLES),
    ("send", send.send, USE, send.EXAMPLES),
    ("import", import_files.import_files, USE, import_files.EXAMPLES),
    ("query", query.query, USE, query.EXAMPLES),
    ("keys", query.keys, USE, query.KEYS_EXAMPLES),
    ("export", export.export, USE, export.EXAMPLES),
    ("top", top.top, USE, top.EXAMPLES),
    ("tail", tail.tail, USE, tail.EXAMPLES),
    ("status", status.status, USE, status.EXAMPLES),
    ("doctor", doctor.doctor, USE, doctor.EXAMPLES),
    ("capacity", capacity.capacity, USE, capacity.EXAMPLES),
    ("load", load.load, USE, load.EXAMPLES),
    ("drill", drill.drill, USE, drill.EXAMPLES),
    ("settings", settings.settings, USE, settings.EXAMPLES),
):
    app.command(name, rich_help_panel=panel, epilog=epilog)(command)
app.add_typer(dlq.app, name="dlq", rich_help_panel=SERVICE, help="Look at records that could not be folded.")
app.add_typer(token.app, name="token", rich_help_panel=SERVICE, help="Make tokens for those who may come in.")
