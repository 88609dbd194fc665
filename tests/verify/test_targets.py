from __future__ import annotations

import sys
from pathlib import Path

import pytest

from metrics_app.errors import DrillError
from metrics_app.verify.targets import Kind, find, option, url_of
from tests.verify.stage import kafka_command, process, running, worker_command


def test_workers_are_found_with_their_role_and_address_before_kafka(tmp_path: Path) -> None:
    with (
        running(tmp_path, "kafka", kafka_command(tmp_path)) as jvm,
        running(tmp_path, "worker-0", worker_command(tmp_path, "worker-0", 8123)) as worker,
    ):
        (tmp_path / "kafka" / "kafka.pid").write_text(str(jvm.pid))
        found = find(tmp_path)
        assert [(target.name, target.kind, target.pid()) for target in found] == [
            ("worker-0", Kind.WORKER, worker.pid),
            ("kafka", Kind.KAFKA, jvm.pid),
        ]
        assert (found[0].role, found[0].url) == ("all", "http://127.0.0.1:8123")


def test_a_target_is_killed_with_sigkill_and_then_has_no_process(tmp_path: Path) -> None:
    with running(tmp_path, "worker-0", worker_command(tmp_path, "worker-0")) as worker:
        (target,) = find(tmp_path)
        assert target.kill() == worker.pid
        assert worker.wait(10) == -9
        assert target.pid() is None
        with pytest.raises(DrillError, match="worker-0 is not running"):
            target.kill()


def test_of_kafka_the_jvm_is_killed_and_not_the_process_that_watches_it(tmp_path: Path) -> None:
    with (
        running(tmp_path, "kafka", [sys.executable, "-c", "import time; time.sleep(600)"]) as wrapper,
        process(kafka_command(tmp_path)) as jvm,
    ):
        (tmp_path / "kafka" / "kafka.pid").write_text(str(jvm.pid))
        (target,) = find(tmp_path)
        assert target.kill() == jvm.pid
        assert jvm.wait(10) == -9
        assert wrapper.is_running()


@pytest.mark.parametrize("name", ["worker-0", "kafka"])
def test_a_process_that_is_not_ours_is_refused_and_lives_on(tmp_path: Path, name: str) -> None:
    with running(tmp_path, name, [sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        (tmp_path / "kafka").mkdir()
        (tmp_path / "kafka" / "kafka.pid").write_text(str(stranger.pid))
        with pytest.raises(
            DrillError, match=rf"{name}: process {stranger.pid}, named by .* is not .*; it runs .*sleep"
        ):
            find(tmp_path)
        assert stranger.is_running()


def test_a_number_that_has_become_a_strangers_is_not_killed(tmp_path: Path) -> None:
    with running(tmp_path, "worker-0", worker_command(tmp_path, "worker-0")):
        (target,) = find(tmp_path)
    with running(tmp_path, "worker-0", [sys.executable, "-c", "import time; time.sleep(600)"]) as stranger:
        assert target.pid() is None
        with pytest.raises(DrillError, match="is not a `metrics-app` worker"):
            target.kill()
        assert stranger.is_running()


@pytest.mark.parametrize("data_dir", ["/elsewhere/worker-0", "worker-0", ""])
def test_a_worker_of_another_installation_is_refused(tmp_path: Path, data_dir: str) -> None:
    command = [*worker_command(tmp_path, "worker-0")[:-1], data_dir]
    with (
        running(tmp_path, "worker-0", command),
        pytest.raises(DrillError, match=f"not a `metrics-app` worker of {tmp_path}"),
    ):
        find(tmp_path)


def test_a_pid_file_left_behind_is_said(tmp_path: Path) -> None:
    with running(tmp_path, "worker-0", worker_command(tmp_path, "worker-0")):
        pass
    with pytest.raises(DrillError, match="worker-0 is not running"):
        find(tmp_path)


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DrillError, match=f"nothing runs in {tmp_path}: start it with `metrics-app up`"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        (["--port", "81"], "http://127.0.0.1:81"),
        (["--host=0.0.0.0", "--port=81"], "http://127.0.0.1:81"),
        (["--host", "::", "--port", "81"], "http://[::1]:81"),
        (["--host", "ten.example", "--port", "81"], "http://ten.example:81"),
        ([], ""),
    ],
)
def test_the_address_is_what_the_command_says(arguments: list[str], url: str) -> None:
    assert url_of(arguments) == url


def test_an_option_without_a_value_is_empty() -> None:
    assert option(["--port"], "--port") == ""
    assert option([], "--port") == ""
