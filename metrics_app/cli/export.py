"""`metrics-app export`: hours of an archive as one file of Parquet, CSV or NDJSON.

Called by `main`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from metrics_app.cli.terminal import examples, say

EXAMPLES = examples(
    "metrics-app export --archive /srv/metrics-archive --from 2026-11-01 --to 2026-12-01 --output november.parquet",
    "metrics-app export --archive /srv/metrics-archive --from 2026-11-23/8 --to 2026-11-23/18 --format csv",
)


def export(
    archive: Annotated[Path, typer.Option(help="Folder that `metrics-app archive` writes to.")],
    start: Annotated[str, typer.Option("--from", help="First hour: a date, date/hour or RFC 3339.")],
    end: Annotated[str, typer.Option("--to", help="End of the range, which is not in it.")],
    form: Annotated[Literal["parquet", "csv", "ndjson"], typer.Option("--format", help="Format.")] = "parquet",
    key: Annotated[str | None, typer.Option(help="Only this key.")] = None,
    output: Annotated[Path | None, typer.Option(help="File to write.", show_default="standard output")] = None,
) -> None:
    """Write the rows of a range of archived hours, of each hour the newest version; the file is whole or not there."""
    from metrics_app.archive import exporting
    from metrics_app.archive.folder import Folder
    from metrics_app.archive.keeping import Archive
    from metrics_app.errors import ArchiveError
    from metrics_app.query.hours import of_moment

    first, stop = of_moment("from", start), of_moment("to", end)
    if stop <= first:
        raise typer.BadParameter(f"{end}: expected a time after --from", param_hint="--to")
    source = Archive(Folder(archive))
    if output is None:
        rows = exporting.export(source, first, stop, form, key, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        beside = output.with_name(output.name + ".unfinished")
        try:
            with beside.open("wb") as file:
                rows = exporting.export(source, first, stop, form, key, file)
            os.replace(beside, output)
        except OSError as error:
            raise ArchiveError(f"{output} cannot be written: {error.strerror}") from error
        finally:
            beside.unlink(missing_ok=True)
    say(f"{rows:,} rows")
