"""The image: its rules, and its own steps carried out and started as its user on a root that it cannot write to."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
import urllib3

from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.kafka.ports import free_port
from tests.deploy import image
from tests.deploy.manifests import ROOT, understood
from tests.faults.pace import stretched

HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def test_the_dockerfile_keeps_hadolints_rules() -> None:
    if HADOLINT is None:
        pytest.skip("hadolint has no wheel for this machine")
    done = subprocess.run([HADOLINT, "--no-color", image.DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_nobody_in_particular_with_settings_that_are_some() -> None:
    assert int(image.last("USER")) > 0, "a number, as Kubernetes must see that it is not root's"
    settings = understood(image.environment())
    assert (settings.host, str(settings.data_dir)) == ("0.0.0.0", image.last("VOLUME"))


def test_the_build_sees_what_it_copies_and_no_more(tmp_path: Path) -> None:
    seen = image.context(tmp_path)
    copied = [
        step.rest.split()[:-1] for step in image.steps() if step.instruction == "COPY" and "--from" not in step.rest
    ]
    names = [name for names in copied for name in names]
    assert [name for name in names if not (seen / name).exists()] == []
    assert {path.name for path in seen.iterdir()} == {name.split("/")[0] for name in names}
    assert sorted(path.name for path in (seen / "requirements").iterdir()) == ["sbom.py", "server.txt"]


def test_the_bill_of_materials_names_everything_that_is_installed_once() -> None:
    script = ROOT / "requirements" / "sbom.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    names = [one["name"] for one in document["components"]]
    assert len(names) == len(set(names))
    assert set(names) == {re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower() for one in distributions()}
    purls = {one["purl"] for one in document["components"]}
    assert f"pkg:pypi/aiokafka@{version('aiokafka')}" in purls


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_own_steps_make_a_collector_that_runs_as_its_user(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    if not image.can_be_built():
        pytest.skip("needs root and overlayfs, to mount a layer over this machine")
    port = int(next(step.rest for step in image.steps() if step.instruction == "EXPOSE"))
    name = f"image-{free_port()}"
    more = {
        "METRICS_KAFKA": kafka.bootstrap,
        "METRICS_SAMPLES_TOPIC": name,
        "METRICS_NAME": name,
        "METRICS_HOST": "127.0.0.1",  # this machine's network, not one of the container's own
    }
    script = tmp_path / "build.sh"
    script.write_text(image.Script(tmp_path).finish(["collector"], more))
    os.mkfifo(tmp_path / "health")
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", str(script)]
    with (tmp_path / "log").open("wb") as log:
        started = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        pid = ready(started, url, tmp_path / "log")
        said = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{image.last('USER')}\t" in said
        assert urllib3.request("POST", f"{url}/samples", json=["checkout", 1.5]).status == 202
        with (tmp_path / "health").open("w") as asking:
            asking.write("now\n")
        until_said(b"healthy", tmp_path / "log")
        os.kill(pid, signal.SIGTERM)
        assert started.wait(stretched(30)) == 0, (tmp_path / "log").read_text()
    finally:
        started.kill()
        started.wait()


def ready(started: subprocess.Popen[bytes], url: str, log: Path) -> int:
    """Waits until the collector is ready; returns its process id."""
    while True:
        assert started.poll() is None, log.read_text()[-3000:]
        try:
            if urllib3.request("GET", f"{url}/readyz", retries=False, timeout=2.0).status == 200:
                return pid_of(started.pid)
        except urllib3.exceptions.HTTPError:
            pass
        time.sleep(0.2)


def pid_of(parent: int) -> int:
    """The one that carries out the script, which has become the program."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(children[0])


def until_said(what: bytes, log: Path) -> None:
    while what not in log.read_bytes():
        assert b"sick" not in log.read_bytes(), log.read_text()[-3000:]
        time.sleep(0.1)
