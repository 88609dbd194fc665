"""What a worker with these settings would find on this machine: settings, descriptors, disk, port, files.

Called by `doctor`.
"""

from __future__ import annotations

import os
import resource
import shlex
import sys
from pathlib import Path

from metrics_app import configuration
from metrics_app.cli import stages
from metrics_app.errors import SettingsError
from metrics_app.http.tokens import Tokens
from metrics_app.kafka.examination import ERROR, OK, WARNING, Diagnosis
from metrics_app.kafka.ports import is_free
from metrics_app.settings import Settings
from metrics_app.system.meter import disk

LOW_DISK, FULL_DISK = 0.2, 0.05  # shares left
DESCRIPTORS_BESIDE = 256  # of RocksDB, Kafka and logs, beside those of connections
OPEN_TO_OTHERS = 0o077
TAKEN = "{} is used by something else, or {} is no address of this machine"


async def examine(settings: Settings) -> list[Diagnosis]:
    """Everything about this machine."""
    return [
        _python(),
        *of_names(configuration.unknown()),
        _limits(settings.max_connections),
        *_folder(settings.data_dir),
        await _port(settings),
        *_files(settings),
    ]


def _python() -> Diagnosis:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Diagnosis(OK, "python", version)
    return Diagnosis(ERROR, "python", f"{version} is not supported", "python3.13 -m venv .venv")


def of_names(unknown: dict[str, str]) -> list[Diagnosis]:
    """Variables that begin like settings and are none, each with the nearest one or an empty text."""
    found = [
        Diagnosis(WARNING, "settings", f"{name} is not a setting and has no effect",
                  f"unset {shlex.quote(name)}" + (f"; is it {nearest}?" if nearest else ""))
        for name, nearest in unknown.items()
    ]  # fmt: skip
    return found or [Diagnosis(OK, "settings", "all are known")]


def _limits(connections: int) -> Diagnosis:
    needed = connections + DESCRIPTORS_BESIDE
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # a role raises the soft one by itself
    if hard not in (-1, resource.RLIM_INFINITY) and hard < needed:
        says = f"at most {hard:,} descriptors, METRICS_MAX_CONNECTIONS needs about {needed:,}"
        return Diagnosis(ERROR, "limits", says, f"ulimit -Hn {needed}, or LimitNOFILE={needed} in the unit")
    return Diagnosis(OK, "limits", f"up to {hard:,} descriptors" if hard > 0 else "descriptors without a limit")


def _folder(folder: Path) -> list[Diagnosis]:
    there = next((path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()), Path("/"))
    if not there.is_dir():
        return [Diagnosis(ERROR, "data folder", f"{there} is not a folder", "set METRICS_DATA_DIR to another")]
    if not os.access(there, os.W_OK | os.X_OK):
        says = f"{folder}: {there} cannot be written by user {os.geteuid()}"
        return [Diagnosis(ERROR, "data folder", says, f"chown {os.geteuid()} {shlex.quote(str(there))}")]
    space = disk(folder)
    share = space.free / space.total
    level = ERROR if share < FULL_DISK else WARNING if share < LOW_DISK else OK
    mend = "" if level == OK else "make room, or set METRICS_DATA_DIR to a larger disk"
    return [Diagnosis(level, "disk", f"{share:.0%} of the disk of {folder} is free", mend)]


async def _port(settings: Settings) -> Diagnosis:
    host, port = settings.host, settings.port
    if is_free(port, host):
        return Diagnosis(OK, "port", f"{port} of {host} is free")
    pid = await _worker_at(settings)
    if pid is not None:
        return Diagnosis(OK, "port", f"a worker listens on {port} of {host}: process {pid}")
    mend = f"ss -ltnp 'sport = :{port}'; METRICS_PORT and METRICS_HOST choose another"
    return Diagnosis(ERROR, "port", TAKEN.format(port, host), mend)


async def _worker_at(settings: Settings) -> int | None:
    try:
        shown = stages.shown_to(settings)
    except SettingsError:  # a file that cannot be read is a finding of its own
        return None
    return await stages.pid_at(f"{stages.base_url(settings, settings.port)}/livez", shown)


def _files(settings: Settings) -> list[Diagnosis]:
    """Files that a worker cannot use, and secrets that others may read."""
    found = [*_tokens(settings.tokens_file), *_key(settings.tls_key_file)]
    for name in ("tls_cert_file", "tls_client_ca_file", "tls_ca_file", "kafka_ca_file"):
        found += _unreadable(f"METRICS_{name.upper()}", getattr(settings, name))
    return found or [Diagnosis(OK, "permissions", "files can be read, and those with secrets by nobody else")]


def _tokens(file: Path | None) -> list[Diagnosis]:
    if file is None:
        return []
    try:
        Tokens(file)
    except SettingsError as error:
        named = shlex.quote(str(file))
        mend = f"chmod 600 {named}" if file.exists() else f"install -m 600 /dev/null {named}"
        return [Diagnosis(ERROR, "tokens", str(error), f"{mend}; metrics-app token new --help makes its lines")]
    return []


def _key(file: Path | None) -> list[Diagnosis]:
    if unreadable := _unreadable("METRICS_TLS_KEY_FILE", file):
        return unreadable
    if file is not None and file.stat().st_mode & OPEN_TO_OTHERS:
        mend = f"chmod 600 {shlex.quote(str(file))}"
        return [Diagnosis(WARNING, "permissions", f"{file} can be read by others", mend)]
    return []


def _unreadable(variable: str, file: Path | None) -> list[Diagnosis]:
    if file is None or (file.is_file() and os.access(file, os.R_OK)):
        return []
    says = f"{variable} {file} cannot be read" if file.exists() else f"{variable} {file}: there is no such file"
    return [Diagnosis(ERROR, "permissions", says, f"ls -l {shlex.quote(str(file))}")]
