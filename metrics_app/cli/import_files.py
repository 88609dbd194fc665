"""`metrics-app import`: response times out of logs and files, each line once.

Called by `main`.

    file -> blocks of lines -> format -> values by key and hour, numbered -> POST /samples -> position
"""

from __future__ import annotations

import csv
import time
import uuid
from contextlib import closing
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from metrics_app.cli.log_file import LOOK_S, STDIN, LogBlock, LogFile, followed
from metrics_app.cli.query import DEFAULT_URL, TokenFile, Url, shown
from metrics_app.cli.terminal import examples, print_json, print_line, progress_bar, say
from metrics_app.credentials import Credentials
from metrics_app.errors import ClientError

if TYPE_CHECKING:
    from metrics_app.cli.import_sending import Imported, ImportSending
    from metrics_app.sources.log_fields import FieldRules
    from metrics_app.sources.log_formats import LogFormat
    from metrics_app.sources.log_lines import Read

EXAMPLES = examples(
    "metrics-app import --format nginx /var/log/nginx/access.log",
    "metrics-app import --format nginx --follow /var/log/nginx/access.log",
    "metrics-app import --time at --value took_s --value-unit s --key '{service} {route}' requests.csv",
    "metrics-app import --pattern '(?P<time>\\S+) (?P<key>\\S+) (?P<value>\\S+)' app.log",
    "zcat old.log.gz | metrics-app import --format haproxy --timezone Europe/Berlin --name old -",
)
LISTED = 20  # bad lines that are printed; --json has up to 10,000
STATE = Path("~/.local/state/metrics-app/import")


class Rules(NamedTuple):
    """How lines become samples, and the text that stands for all of it."""

    form: LogFormat
    fields: FieldRules
    delimiter: str
    columns: list[str]
    text: str


class Given(NamedTuple):
    """The options that say how lines are read, as they were given."""

    form: str | None
    pattern: str | None
    key: str | None
    time: str | None
    value: str | None
    value_unit: str | None
    unit: str
    timezone: str
    raw_paths: bool
    delimiter: str | None
    columns: str | None


class Way(NamedTuple):
    """Where samples go, and how long that is tried."""

    url: str
    credentials: Credentials
    state: Path
    patience_s: float
    name: str
    follow: bool
    last_line: bool


_SUFFIX = "by the suffix: .csv, .tsv, .ndjson, .jsonl"
_FORMATS = "nginx, apache, haproxy, alb, envoy, caddy, ndjson or csv."
_PATTERN = "Regular expression of a line, with groups time, value and those of --key."
_AS_FORMAT = "as the format has it"
_ROUTES = "Keep ids in routes: /users/42, not /users/{id}."
_FOLLOW = "Go on as the log grows, and over rotation; one file."
_LAST = "Take a last line without an end: nobody writes to the file any more."
_NAME = "Tells this log from others, whatever file it is in."
_PATIENCE = "Seconds that a service which does not answer is waited for."

Format = Annotated[str | None, typer.Option("--format", help=_FORMATS, show_default=_SUFFIX)]
Pattern = Annotated[str | None, typer.Option(help=_PATTERN)]
Key = Annotated[str | None, typer.Option(help="Fields in braces.", show_default="{method} {route}, or {key}")]
TimeField = Annotated[str | None, typer.Option("--time", help="Field of the time.", show_default=_AS_FORMAT)]
ValueField = Annotated[str | None, typer.Option("--value", help="Field of the duration.", show_default=_AS_FORMAT)]
ValueUnit = Annotated[str | None, typer.Option(help="Its unit: ns, us, ms, s or min.", show_default=_AS_FORMAT)]
Unit = Annotated[str, typer.Option(envvar="METRICS_UNIT", help="Unit of the service.")]
Timezone = Annotated[str, typer.Option(help="Zone of times that do not say theirs.")]
RawPaths = Annotated[bool, typer.Option("--raw-paths", help=_ROUTES)]
Delimiter = Annotated[str | None, typer.Option(help="Of columns.", show_default="comma; tab for .tsv")]
Columns = Annotated[str | None, typer.Option(help="Names of columns, with commas.", show_default="the first line")]
Follow = Annotated[bool, typer.Option("--follow", help=_FOLLOW)]
LastLine = Annotated[bool, typer.Option("--last-line", help=_LAST)]
Name = Annotated[str, typer.Option(help=_NAME, show_default="the file on disk")]
State = Annotated[Path, typer.Option(help="Folder that notes how far each log is imported.")]
Patience = Annotated[float, typer.Option(min=0, help=_PATIENCE)]


def import_files(
    files: Annotated[list[str], typer.Argument(help="Logs, also .gz; - is stdin.")],
    form: Format = None,
    pattern: Pattern = None,
    key: Key = None,
    time_field: TimeField = None,
    value_field: ValueField = None,
    value_unit: ValueUnit = None,
    unit: Unit = "ms",
    timezone: Timezone = "UTC",
    raw_paths: RawPaths = False,
    delimiter: Delimiter = None,
    columns: Columns = None,
    follow: Follow = False,
    last_line: LastLine = False,
    name: Name = "",
    state: State = STATE,
    patience: Patience = 60.0,
    url: Url = DEFAULT_URL,
    token_file: TokenFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Take response times out of logs; exit code 1 when a line was not accepted.

    Run again, after a kill or when the log has grown, it goes on where it was, and no line counts twice. Lines that are
    no sample are listed and never stop the others. A log is known by its file on the disk and its first line; --name
    says that a copy, or what comes by stdin, is one that was imported before: without it stdin counts each time.
    """
    if follow and (len(files) != 1 or files[0] == STDIN or files[0].endswith(".gz")):
        raise typer.BadParameter("--follow takes one file that grows")
    way = Way(url, shown(token_file), state.expanduser(), patience, name, follow, last_line)
    fields = time_field, value_field, value_unit, unit
    given = Given(form, pattern, key, *fields, timezone, raw_paths, delimiter, columns)
    total: list[tuple[str, Imported]] = []
    try:
        for file in files:
            _import_log(file, _rules(file, given), way, total)
    except (ClientError, KeyboardInterrupt) as error:
        _print(total, json)
        say("run the same again: it goes on where it was, and what is in counts once")
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(130) from error
        raise
    _print(total, json)
    if any(imported.bad_count for _, imported in total):
        raise typer.Exit(1)


def _rules(file: str, given: Given) -> Rules:
    from metrics_app.sources.key_template import KeyTemplate
    from metrics_app.sources.log_fields import FieldRules, Units
    from metrics_app.sources.log_formats import SUFFIXES, format_of, of_pattern

    suffix = Path(file.removesuffix(".gz")).suffix
    name = given.form or SUFFIXES.get(suffix, "none given")
    form = of_pattern(given.pattern) if given.pattern is not None else format_of(name)
    if form.kind != "pattern":
        form = form._replace(time=given.time or form.time, value=given.value or form.value)
    form = form._replace(key=given.key or form.key, unit=given.value_unit or form.unit)
    try:
        units, zone = Units(form.unit, given.unit), _zone(given.timezone)
        rules = FieldRules(KeyTemplate.of(form.key), units, zone, given.raw_paths)
    except ValueError as error:
        raise ClientError(str(error)) from None
    delimiter = given.delimiter or ("\t" if suffix == ".tsv" else ",")
    columns = given.columns.split(",") if given.columns else []
    # a format by its name: when a release mends its pattern, a log that is half imported stays the same log
    taken = given.pattern or name, form.key, form.time, form.value, form.unit, *given[6:9], delimiter, columns
    return Rules(form, rules, delimiter, columns, repr(taken))


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ClientError(f"--timezone {name}: expected a name such as UTC or Europe/Berlin") from None


def _import_log(file: str, rules: Rules, way: Way, total: list[tuple[str, Imported]]) -> None:
    """Imports a log, and those that come in its place while it is followed."""
    has_header = rules.form.kind == "csv" and not rules.columns
    while True:
        with closing(LogFile(file, 2 if has_header else 1)) as log:
            if way.follow and not log.is_begun:  # what tells it from others is not there yet
                time.sleep(LOOK_S)
                continue
            _import_one(log, rules, has_header, way, total)
            if not (way.follow and log.is_replaced()):
                return


def _import_one(log: LogFile, rules: Rules, has_header: bool, way: Way, total: list[tuple[str, Imported]]) -> None:
    from metrics_app.cli.import_position import Positions, identity_of
    from metrics_app.cli.import_sending import ImportSending
    from metrics_app.sources.log_lines import reader_of

    if not log.opening:
        return
    columns = _header(log, rules.delimiter) if has_header else rules.columns
    read = reader_of(rules.form, rules.fields, columns, rules.delimiter)
    name, positions = way.name or log.inode, Positions(way.state)
    identity = identity_of(name or uuid.uuid4().hex, log.opening.rstrip(b"\r\n"), rules.text)
    with closing(ImportSending(way.url, way.credentials, identity, positions, way.patience_s)) as sending:
        total.append((log.path, sending.imported))
        _send(log, read, has_header, sending, way)
    if not name:
        positions.forget(identity)


def _header(log: LogFile, delimiter: str) -> list[str]:
    try:
        first = log.opening.split(b"\n", 1)[0].decode("utf-8-sig").rstrip("\r")
        return next(csv.reader([first], delimiter=delimiter, strict=True))
    except (UnicodeDecodeError, csv.Error, StopIteration):
        raise ClientError(f"{log.path}: expected the names of columns in the first line; or give --columns") from None


def _send(log: LogFile, read: Read, has_header: bool, sending: ImportSending, way: Way) -> None:
    position = sending.position
    if log.size and position.offset > log.size:
        raise ClientError(f"{log.path} is shorter than what was imported of it; if it is another log, give it a --name")
    with progress_bar(f"import {log.path}", log.size) as show:
        for block in log.blocks(position.offset, followed(log) if way.follow else lambda: False):
            if block.is_whole or way.follow or way.last_line or not log.size:
                _send_block(block, read, has_header and not sending.position.offset, sending)
            else:
                sending.leave_last_line()
            show(sending.position.offset)
            if way.follow:
                sending.settle()  # what there is, is in


def _send_block(block: LogBlock, read: Read, begins_with_header: bool, sending: ImportSending) -> None:
    header, first = 0, sending.position.lines + 1
    if begins_with_header:
        header = block.text.find(b"\n") + 1
        first += 1
    gathered = read(block.text[header:], first)
    gathered.lines += begins_with_header
    sending.send(gathered, len(block.text), block.is_whole)


def _print(total: list[tuple[str, Imported]], as_json: bool) -> None:
    if as_json:
        print_json({"files": [_document(file, imported) for file, imported in total]})
        return
    for file, imported in total:
        print_line(
            f"{file}: {imported.lines:,} lines, accepted {imported.accepted:,}, not accepted {imported.bad_count:,}"
        )
        for item in imported.bad[:LISTED]:
            where = f"line {item['line']}" if "line" in item else f"key {item['key']}"
            say(f"rejected {where}: {item['detail']}")
        if len(imported.bad) > LISTED:
            say(f"and {len(imported.bad) - LISTED:,} more: --json lists them")


def _document(file: str, imported: Imported) -> dict[str, Any]:
    return {
        "file": file,
        "lines": imported.lines,
        "accepted": imported.accepted,
        "rejected_count": imported.bad_count,
        "rejected": imported.bad,
    }
