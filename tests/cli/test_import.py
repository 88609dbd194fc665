"""`import` takes each line of a log once, whatever kills it, however often it runs, and over rotation."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from metrics_app.cli.main import app
from metrics_app.kafka.ports import free_port
from metrics_app.sources.log_formats import FORMATS
from tests.faults.process import Process

LINES = 120_000
WITHIN_S = 30.0


@pytest.fixture(scope="module")
def service(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a worker in role all."""
    folder, name, port = tmp_path_factory.mktemp("import"), f"import-{time.time_ns()}", free_port()
    environment = {"METRICS_KAFKA": kafka.bootstrap, "METRICS_NAME": name, "METRICS_SAMPLES_TOPIC": name}
    environment |= {"METRICS_DEAD_LETTER_TOPIC": f"{name}-dead"}
    worker = Process("all", ["all", "--port", str(port), "--data-dir", str(folder / "all")], port, folder, environment)
    try:
        worker.start()
        worker.await_ready()
        yield worker.url
    finally:
        worker.end()


class Log:
    """A log that is written here, and the ledger of what is in it."""

    def __init__(self, path: Path, service: str) -> None:
        self.path, self.service = path, service
        self.ledger: dict[str, list[float]] = defaultdict(list)
        self.state = path.parent / "state"
        self._random = random.Random(str(path))
        self._service = "".join(self._random.choices("ghijklmnop", k=10))  # no hexadecimal digits
        self._started = datetime.now(UTC) - timedelta(hours=3)

    def write(self, lines: int, path: Path | None = None) -> None:
        with (path or self.path).open("a") as file:
            for _ in range(lines):
                at = self._started + timedelta(seconds=self._random.randrange(9000))
                route, ms = self._random.choice("abc"), self._random.randrange(5000)
                request = f"GET /{self._service}/{route}/{self._random.randrange(50)}?x=1 HTTP/1.1"
                end = f'"{request}" 200 5 "-" "-" {ms / 1000:.3f}\n'
                file.write(f"10.0.0.1 - - [{at:%d/%b/%Y:%H:%M:%S} +0000] {end}")
                self.ledger[f"GET /{self._service}/{route}/{{id}}"].append(float(ms))

    def command(self, *more: str) -> list[str]:
        command = [sys.executable, "-m", "metrics_app", "import", "--format", "nginx", "--state", str(self.state)]
        return [*command, "--url", self.service, *more, str(self.path)]

    def imported(self, *more: str) -> dict[str, Any]:
        done = subprocess.run(self.command("--json", *more), capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode in (0, 1), done.stderr
        return dict(json.loads(done.stdout)["files"][0])

    def assert_counted(self, times: int = 1) -> None:
        """What is answered is what the ledger says, so many times over."""
        for key, once in self.ledger.items():
            values = once * times
            wanted = {"count": len(values), "sum": sum(values), "min": min(values), "max": max(values)}
            until(partial(self.is_counted, key, wanted), partial(self.answer, key))

    def is_counted(self, key: str, wanted: dict[str, Any]) -> bool:
        return self.answer(key) == wanted

    def answer(self, key: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.service}/{quote(key, safe='')}/summary?last=24h&limit=1") as reply:
            document = json.load(reply)
        assert document["missing"] == 0
        return {name: document["values"][name] for name in ("count", "sum", "min", "max")}


def until(is_so: Callable[[], bool], said: Callable[[], Any]) -> None:
    give_up = time.monotonic() + WITHIN_S
    while time.monotonic() < give_up:
        try:
            if is_so():
                return
        except (urllib.error.HTTPError, AssertionError):
            pass
        time.sleep(0.1)
    raise AssertionError(said())


@pytest.fixture
def log(service: str, tmp_path: Path) -> Log:
    return Log(tmp_path / "access.log", service)


def test_a_log_counts_once_though_the_import_is_killed_and_run_again_and_again(log: Log):
    log.write(LINES)
    for wait_s in (0.4, 0.1):
        killed = subprocess.Popen(log.command("--json"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: bool(list(log.state.glob("*"))), lambda: "no position")
        time.sleep(wait_s)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    log.imported()
    log.assert_counted()
    assert log.imported()["lines"] == 0
    for file in log.state.glob("*"):
        file.unlink()
    assert log.imported()["accepted"] == LINES  # told as taken, and counted no more
    log.assert_counted()


def test_two_imports_of_one_log_at_a_time_count_it_once(log: Log):
    log.write(20_000)
    both = [subprocess.Popen(log.command(), stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [each.wait(60) for each in both] == [0, 0]
    log.assert_counted()
    assert log.imported()["lines"] == 0


def test_lines_that_come_later_and_a_new_name_change_nothing(log: Log):
    log.write(500)
    with log.path.open("a") as file:
        file.write("nonsense\n")
    found = log.imported()
    assert (found["accepted"], found["rejected"][0]["line"], found["rejected_count"]) == (500, 501, 1)
    log.write(300)
    log.path = log.path.rename(log.path.with_suffix(".1"))
    assert log.imported()["accepted"] == 300
    log.assert_counted()


def test_a_last_line_that_is_cut_counts_when_it_is_whole(log: Log):
    log.write(100)
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-2])  # the last digit of the value is not there yet
    found = log.imported()
    assert (found["accepted"], found["rejected_count"], found["rejected"][0]["line"]) == (99, 1, 100)
    log.path.write_bytes(whole)
    assert log.imported()["accepted"] == 1
    log.assert_counted()


def test_a_packed_log_and_a_last_line_without_its_end_are_taken(log: Log):
    log.write(1000)
    log.path.write_bytes(log.path.read_bytes().removesuffix(b"\n"))
    assert log.imported("--last-line")["accepted"] == 1000
    assert log.imported("--last-line")["accepted"] == 1  # read again, for it might have grown, and counted once
    packed = log.path.with_suffix(".log.gz")
    packed.write_bytes(gzip.compress(log.path.read_bytes()))
    log.path = packed
    log.assert_counted()
    log.imported("--name", "packed")
    for values in log.ledger.values():
        values *= 2
    log.assert_counted()


def test_what_comes_by_stdin_counts_each_time_unless_it_has_a_name(log: Log):
    log.write(40)
    for name, times in (((), 1), ((), 2), (("--name", "a"), 3), (("--name", "a"), 3)):
        piped = subprocess.run(
            [*log.command(*name)[:-1], "-"], input=log.path.read_bytes(), capture_output=True, check=False
        )
        assert piped.returncode == 0, piped.stderr
        log.assert_counted(times)
    assert len(list(log.state.glob("*"))) == 1  # nothing is noted of what cannot come again


def test_a_release_that_mends_a_format_goes_on_with_a_log_that_it_has_begun(log: Log, monkeypatch: pytest.MonkeyPatch):
    log.write(5)
    before = identity_of_import(log)
    mended = FORMATS["nginx"]._replace(pattern=FORMATS["nginx"].pattern + rb"(?: [^\n]*)?")
    monkeypatch.setitem(FORMATS, "nginx", mended)
    assert identity_of_import(log) == before


def identity_of_import(log: Log) -> list[str]:
    """The names of the notes after an import in this process."""
    CliRunner().invoke(app, log.command()[3:])
    return [file.name for file in log.state.glob("*")]


def test_a_log_is_followed_over_rotation(log: Log):
    log.write(200)
    following = subprocess.Popen(log.command("--follow"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        log.assert_counted()
        log.write(100)
        log.assert_counted()
        old = log.path.with_suffix(".1")
        os.rename(log.path, old)
        log.write(50, old)
        log.write(70)
        log.assert_counted()
    finally:
        following.send_signal(signal.SIGINT)
        said, _ = following.communicate(timeout=30)
    assert following.returncode == 130
    assert "accepted 350" in said
    log.write(10)
    assert log.imported()["accepted"] == 10
    log.assert_counted()


def test_a_service_that_is_away_is_waited_for_and_what_was_taken_is_noted(log: Log, tmp_path: Path):
    log.write(10)
    away = subprocess.run(
        [*log.command("--patience", "0.3"), "--url", f"http://127.0.0.1:{free_port()}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert away.returncode == 1
    assert "goes on where it was" in away.stderr
    assert log.imported()["accepted"] == 10
    log.assert_counted()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "iis"], "expected one of nginx"),
        (["--value-unit", "fortnight"], "expected one of ns"),
        (["--timezone", "Mars"], "expected a name such as UTC"),
        (["--pattern", "("], "--pattern"),
    ],
)
def test_wrong_options_are_named_before_anything_is_sent(log: Log, options: list[str], said: str):
    log.write(1)
    done = subprocess.run([*log.command(), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert not log.state.exists()
