"""The compose files say what the Compose specification allows, and name only what is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyCompose

from metrics_app.kafka.jars import kafka_version, locked
from tests.deploy.manifests import DOCKER, documents, understood

FILES = ["compose.yaml", "compose.single.yaml"]
BROKERS = ["kafka-1", "kafka-2", "kafka-3"]


def services(name: str) -> dict[str, Any]:
    (document,) = documents(DOCKER / name)
    found: dict[str, Any] = document["services"]
    return found


@pytest.mark.parametrize("name", [*FILES, "compose.access.yaml"])
def test_the_file_is_what_the_specification_allows(name: str) -> None:
    (document,) = documents(DOCKER / name)
    PyCompose.from_json(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "found"),
    [({"restrat": "always"}, "restrat"), ({"ports": {"a": 1}}, "invalid type"), ({"read_only": "x"}, "invalid type")],
)
def test_what_it_does_not_allow_is_found(change: dict[str, Any], found: str) -> None:
    (document,) = documents(DOCKER / "compose.yaml")
    document["services"]["proxy"] |= change
    with pytest.raises(ValueError, match=found):
        PyCompose.from_json(json.dumps(document))


@pytest.mark.parametrize("name", FILES)
def test_one_service_builds_the_image_and_the_others_use_it(name: str) -> None:
    """Several builds that name the same image make `up --build` of today's Compose fail."""
    ours = [service for service in services(name).values() if service["image"] == "metrics-app"]
    assert sum("build" in service for service in ours) == 1
    assert all("build" in service or service["pull_policy"] == "never" for service in ours)


@pytest.mark.parametrize("name", FILES)
def test_every_name_and_volume_is_there_and_the_kafka_is_that_of_the_tests(name: str) -> None:
    (document,) = documents(DOCKER / name)
    found = document["services"]
    for service in found.values():
        assert set(service.get("depends_on", ())) <= found.keys()
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source.startswith("./") or source in document["volumes"]
    images = {service["image"] for service in found.values() if service["image"].startswith("apache/kafka")}
    assert images == {f"apache/kafka:{kafka_version(locked())}"}


@pytest.mark.parametrize("name", [*FILES, "compose.access.yaml"])
def test_each_path_that_is_mounted_or_built_from_exists(name: str) -> None:
    """What Docker does not find where it is to mount it, it makes: an empty folder in place of a file."""
    assert not absent(services(name).values(), DOCKER)


def test_a_path_that_is_not_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    mounted = {"volumes": ["./here:/a", "data:/b", "./gone:/c:ro", {"type": "bind", "source": "./too", "target": "/d"}]}
    assert absent([mounted, {"build": {"context": ".", "dockerfile": "Dockerfile"}}], tmp_path) == {
        "./gone",
        "./too",
        "./Dockerfile",
    }


OPERATORS_OWN = {"./secrets"}  # the comment at the head of compose.access.yaml says how it is made


def absent(found: Iterable[dict[str, Any]], folder: Path) -> set[str]:
    """Paths of the host that services name and that are not there."""
    named: set[str] = set()
    for service in found:
        volumes = service.get("volumes", ())
        named |= {one["source"] if isinstance(one, dict) else one.split(":")[0] for one in volumes}
        if build := service.get("build"):
            named |= {f"{build['context']}/{build['dockerfile']}", build["context"]}
    paths = {name for name in named if name.startswith((".", "/"))} - OPERATORS_OWN
    return {path for path in paths if not (folder / path).exists()}


@pytest.mark.parametrize("name", FILES)
def test_our_processes_run_with_a_read_only_root_no_rights_and_settings_that_are_some(name: str) -> None:
    for service in services(name).values():
        if service["image"] == "metrics-app":
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            settings = understood(service["environment"])
            seconds = int(service["stop_grace_period"].removesuffix("s"))
            assert seconds > 2 + settings.stop_grace_s, "the image's METRICS_STOP_DELAY_S comes first"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_three_brokers_keep_three_copies_of_which_a_write_needs_two() -> None:
    found = services("compose.yaml")
    voters = ",".join(f"{number}@{name}:9093" for number, name in enumerate(BROKERS, start=1))
    for number, name in enumerate(BROKERS, start=1):
        said = found[name]["environment"]
        assert (said["KAFKA_NODE_ID"], said["KAFKA_CONTROLLER_QUORUM_VOTERS"]) == (number, voters)
        assert said["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{name}:9092"
        assert (said["KAFKA_MIN_INSYNC_REPLICAS"], said["KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR"]) == (2, 3)
    for worker in ("collector-1", "collector-2", "aggregator-1", "aggregator-2"):
        settings = understood(found[worker]["environment"])
        assert settings.kafka.split(",") == [f"{name}:9092" for name in BROKERS]
        assert (settings.replication, settings.weak_kafka) == (3, "refuse")


def test_haproxy_takes_its_configuration() -> None:
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("needs HAProxy: apt-get install haproxy")
    done = subprocess.run([program, "-c", "-f", DOCKER / "haproxy.cfg"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_proxy_names_the_workers_of_the_compose_file() -> None:
    servers = re.findall(r"^ +server (\S+) (\S+):8080$", (DOCKER / "haproxy.cfg").read_text(), re.MULTILINE)
    workers = {name for name, service in services("compose.yaml").items() if service["image"] == "metrics-app"}
    assert {name for name, _ in servers} == {host for _, host in servers} == workers


def test_the_script_of_the_checks_is_clean() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck: apt-get install shellcheck")
    script: Path = DOCKER.parent / ".ci" / "run"
    if not script.exists():
        pytest.skip("a source distribution has no checks of its own")
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
