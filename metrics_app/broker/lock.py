"""The lock of Apache Kafka: the jars it consists of, each with its size and sha256 (`kafka.lock`).

Made anew with `python -m metrics_app.broker.lock [version]`; jgo resolves what that version needs.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from jgo.maven import MavenContext

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
        artifacts = _closure(context, KAFKA.format(version=version))
        log4j = next(artifact.version for artifact in artifacts if artifact.artifactId == "log4j-core")
        # resolved apart: next to another root, jgo lets the versions that one manages win over Kafka's own
        artifacts.append(_closure(context, LOGGING.format(version=log4j))[0])
        return [_jar_of(artifact) for artifact in artifacts]


def resolve_all(coordinates: list[str]) -> list[Jar]:
    """Jars of these coordinates (group:artifact:jar:version:scope), each with all it needs at run time."""
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=TIMEOUT_S)
        found = [_jar_of(artifact) for each in coordinates for artifact in _closure(context, each)]
        return list(dict.fromkeys(found))


def _closure(context: MavenContext, coordinate: str) -> list[Any]:
    inputs, transitive = context.resolver.resolve([context.create_dependency(coordinate)])
    found = [*inputs, *(item for item in transitive if item.scope in ("compile", "runtime"))]
    return [item.artifact for item in found]


def _jar_of(artifact: Any) -> Jar:
    path = artifact.resolve()
    coordinate = f"{artifact.groupId}:{artifact.artifactId}:jar:{artifact.version}"
    return Jar(coordinate, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def write(version: str, lock: Path = LOCK) -> None:
    """Resolve anew and replace the lock file."""
    lines = [f"{jar.coordinate} {jar.size} {jar.sha256}\n" for jar in resolve(version)]
    header = "# Apache Kafka and what it needs: coordinate, bytes, sha256.\n"
    lock.write_text(f"{header}# Made by: python -m metrics_app.broker.lock {version}\n{''.join(lines)}")


if __name__ == "__main__":
    write(sys.argv[1] if len(sys.argv) > 1 else kafka_version(locked()))
