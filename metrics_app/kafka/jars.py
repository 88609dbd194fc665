"""The jars of Apache Kafka: exactly those of `kafka.lock`, verified, in the user's cache.

Called by `embedded` and `cli.up`.

jgo fetches them from Maven Central; no Java, Maven or Docker is needed.

The lock of Apache Kafka: the jars it consists of, each with its size and sha256 (`kafka.lock`).

Made anew with `python -m metrics_app.kafka.jars [version]`; jgo resolves what that version needs.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from jgo.maven import MavenContext, PythonResolver
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from metrics_app.errors import DownloadError

PARALLEL = 8
ATTEMPTS = 3
PAUSE_S = 1.0

Advance = Callable[[int], None]


def cache_dir(jars: list[Jar]) -> Path:
    """Where this user's jars of this lock are kept; another lock gets another folder."""
    base = os.environ.get("XDG_CACHE_HOME") or _home() / ".cache"
    digest = hashlib.sha256("".join(jar.sha256 for jar in jars).encode()).hexdigest()[:8]
    return Path(base) / "metrics-app" / f"kafka-{kafka_version(jars)}-{digest}"


def install(
    folder: Path | None = None, jars: list[Jar] | None = None, repositories: dict[str, str] | None = None
) -> list[Path]:
    """Paths of all jars, downloaded when missing; every one is verified against the lock each time.

    Safe to call from several processes at once: a file appears under its name only when it is whole and verified.

    Args:
        folder: where they are kept; None: the user's cache.
        jars: which; None: those of `kafka.lock`.
        repositories: name and URL of the Maven repositories to ask; None: Maven Central.
    Raises:
        DownloadError: a jar cannot be fetched or kept, or is not the one the lock names.
    """
    jars = jars or locked()
    folder = folder or cache_dir(jars)
    try:
        missing = [jar for jar in jars if not _is_cached(folder / jar.name, jar)]
        if missing:
            folder.mkdir(parents=True, exist_ok=True)
            _fetch_all(missing, folder, repositories)
    except OSError as error:  # of the disk: those of the network are told apart in _fetch_all
        raise DownloadError(f"Kafka's jars cannot be kept in {folder}: {error}") from error
    return [folder / jar.name for jar in jars]


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise DownloadError("there is no home folder to keep Kafka's jars in: set HOME or XDG_CACHE_HOME") from error


def _fetch_all(jars: list[Jar], folder: Path, repositories: dict[str, str] | None) -> None:
    """Downloads the jars; a network that fails is tried again, and those that came meanwhile are kept."""
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            _download([jar for jar in jars if not (folder / jar.name).exists()], folder, repositories)
            return
        except (requests.RequestException, RuntimeError) as error:  # jgo's own errors are RuntimeErrors
            if not attempts_left:
                raise DownloadError(
                    f"Kafka's jars ({sum(jar.size for jar in jars) / 1e6:.0f} MB) are not on this machine, and "
                    f"fetching them, which is needed once, failed: {_why(error)}"
                ) from error
            time.sleep(PAUSE_S)


def _why(error: Exception) -> str:
    """An error of the network in a few words: whom we asked, and the system's own reason if there is one."""
    system = re.search(r"\[Errno -?\d+\] ([^)'\"]+)", str(error))
    request = getattr(error, "request", None)
    if system is None or request is None:
        return str(error)
    proxy = " by a proxy" if isinstance(error, requests.exceptions.ProxyError) else ""
    return f"{urlsplit(request.url).netloc} cannot be reached{proxy}: {system[1]}"


def _is_cached(path: Path, jar: Jar) -> bool:
    if not path.exists():
        return False
    _verify(path, jar, f"delete {path} and start again to download it anew")
    return True


def _verify(path: Path, jar: Jar, advice: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != jar.sha256:
        raise DownloadError(
            f"{jar.coordinate} is not the file that its lock names (sha256 {found}, expected {jar.sha256}): {advice}"
        )


def _download(jars: list[Jar], folder: Path, repositories: dict[str, str] | None) -> None:
    incoming = Path(tempfile.mkdtemp(prefix=".incoming-", dir=folder))
    try:
        with _progress(jars) as advance, ThreadPoolExecutor(PARALLEL) as pool:
            maven = _maven(incoming, repositories, advance)
            # the largest first, so that none of them is left alone at the end
            ordered = sorted(jars, key=lambda jar: -jar.size)
            for _ in pool.map(lambda jar: _fetch(jar, maven, folder), ordered):
                pass
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _fetch(jar: Jar, maven: MavenContext, folder: Path) -> None:
    path = maven.create_dependency(jar.coordinate).artifact.resolve()
    _verify(path, jar, "the download is damaged or altered, nothing of it was kept")
    path.replace(folder / jar.name)


def _maven(incoming: Path, repositories: dict[str, str] | None, advance: Advance) -> MavenContext:
    @contextmanager
    def progress(_name: str, _size: int) -> Iterator[Advance]:
        yield advance

    resolver = PythonResolver(progress_callback=progress)
    return MavenContext(resolver, repo_cache=incoming, remote_repos=repositories, timeout=TIMEOUT_S)


@contextmanager
def _progress(jars: list[Jar]) -> Iterator[Advance]:
    console, total = Console(stderr=True), sum(jar.size for jar in jars)
    title = "downloading Apache Kafka"
    if not console.is_terminal:
        yield _lines(title, total)
        return
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


def _lines(title: str, total: int) -> Advance:
    """A line at the start and at each quarter, for logs."""
    state, lock = {"done": 0, "next": 0}, threading.Lock()

    def advance(count: int) -> None:
        with lock:
            state["done"] += count
            if state["done"] * 4 >= state["next"] * total:
                print(f"{title}: {state['done'] / 1e6:.0f} of {total / 1e6:.0f} MB", file=sys.stderr, flush=True)
                state["next"] = state["done"] * 4 // total + 1

    return advance


LOCK = Path(__file__).with_name("kafka.lock")
KAFKA = "org.apache.kafka:kafka_2.13:jar:{version}:compile"
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:jar:{version}:compile"
TIMEOUT_S = 60


class Jar(NamedTuple):
    """One locked file: Maven coordinate group:artifact:jar:version, size in bytes, sha256 in hex."""

    coordinate: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """File name in the cache."""
        _, artifact, _, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def locked(lock: Path = LOCK) -> list[Jar]:
    """The jars the lock file lists, in class path order."""
    lines = (line.split() for line in lock.read_text().splitlines() if line and not line.startswith("#"))
    return [Jar(coordinate, int(size), sha256) for coordinate, size, sha256 in lines]


def kafka_version(jars: list[Jar]) -> str:
    """Version of Kafka among the jars, such as "4.4.0"."""
    return next(jar.coordinate.split(":")[3] for jar in jars if ":kafka_2.13:" in jar.coordinate)


def resolve(version: str) -> list[Jar]:
    """Jars of that version of Kafka with all they need at run time, downloaded to learn their sums."""
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=TIMEOUT_S)
        artifacts = closure(context, KAFKA.format(version=version))
        log4j = next(artifact.version for artifact in artifacts if artifact.artifactId == "log4j-core")
        # resolved apart: next to another root, jgo lets the versions that one manages win over Kafka's own
        artifacts.append(closure(context, LOGGING.format(version=log4j))[0])
        return [jar_of(artifact) for artifact in artifacts]


def closure(context: MavenContext, coordinate: str) -> list[Any]:
    """Artifacts of a coordinate (group:artifact:jar:version:scope): its own, then all it needs at run time."""
    inputs, transitive = context.resolver.resolve([context.create_dependency(coordinate)])
    found = [*inputs, *(item for item in transitive if item.scope in ("compile", "runtime"))]
    return [item.artifact for item in found]


def jar_of(artifact: Any) -> Jar:
    """The lock entry of an artifact, which is downloaded to learn its sum."""
    path = artifact.resolve()
    coordinate = f"{artifact.groupId}:{artifact.artifactId}:jar:{artifact.version}"
    return Jar(coordinate, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def write(version: str, lock: Path = LOCK) -> None:
    """Resolve anew and replace the lock file."""
    lines = [f"{jar.coordinate} {jar.size} {jar.sha256}\n" for jar in resolve(version)]
    header = "# Apache Kafka and what it needs: coordinate, bytes, sha256.\n"
    lock.write_text(f"{header}# Made by: python -m metrics_app.kafka.jars {version}\n{''.join(lines)}")


if __name__ == "__main__":
    write(sys.argv[1] if len(sys.argv) > 1 else kafka_version(locked()))
