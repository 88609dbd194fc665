"""Children that end without the interpreter's exit handlers, by `os._exit`: what they recorded is sent all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .collector import Collector

SCRIPT = """
import multiprocessing, os, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
from metrics_app import MetricsClient, Options

if not BEFORE or True:
    client = MetricsClient(os.environ["URL"], Options(interval_s=60, exit_timeout_s=20, connect_timeout_s=10))

def record(count):
    for _ in range(count): client.record("child", 1.0)

def make_and_record(count):
    global mine
    mine = MetricsClient(os.environ["URL"], Options(interval_s=60, exit_timeout_s=20, connect_timeout_s=10))
    for _ in range(count): mine.record("child", 1.0)

def fail(count):
    record(count)
    raise KeyError("on purpose")

def leave(count):
    record(count)
    sys.exit(3)

def in_a_thread(count):
    def work():
        time.sleep(0.5)
        record(count)
    threading.Thread(target=work).start()

def processes(context, target):
    children = [context.Process(target=target, args=(100,)) for _ in range(2)]
    for child in children: child.start()
    for child in children: child.join()

def pool(context, target):
    with context.Pool(2, maxtasksperchild=1) as workers:  # which it terminates at the end
        workers.map(target, [50] * 4, chunksize=1)

def executor(context, target):
    with ProcessPoolExecutor(2, mp_context=context) as workers:
        list(workers.map(target, [50] * 4))

if __name__ == "__main__":
    client.record("parent", 1.0)
    globals()[sys.argv[2]](multiprocessing.get_context(sys.argv[1]), globals()[sys.argv[3]])
    client.record("parent", 1.0)
""".replace("if not BEFORE or True:\n    ", "")


def run(folder: Path, collector: Collector, method: str, how: str, target: str) -> None:
    (folder / "work.py").write_text(SCRIPT)
    command = [sys.executable, "work.py", method, how, target]
    done = subprocess.run(
        command, cwd=folder, env={"URL": collector.url}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (collector.counted("child"), collector.missing("child")) == (200, 0), done.stderr
    assert collector.counted("parent") == 2


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("how", ["processes", "pool", "executor"])
def test_children_of_multiprocessing_send_what_they_have_when_they_end(
    collector: Collector, tmp_path: Path, method: str, how: str
) -> None:
    run(tmp_path, collector, method, how, "record")


@pytest.mark.parametrize("target", ["make_and_record", "fail", "leave", "in_a_thread"])
def test_however_a_child_records_and_ends(collector: Collector, tmp_path: Path, target: str) -> None:
    run(tmp_path, collector, "fork", "processes", target)
