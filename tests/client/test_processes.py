"""Processes that end, fork or are killed while they record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from metrics_app.kafka.ports import free_port
from tests.faults import pace
from tests.faults.pace import stretched

from .collector import Collector
from .conftest import Connect

PRELUDE = """
import os, sys, time
from metrics_app import MetricsClient, Options
client = MetricsClient(sys.argv[1], Options(interval_s=60, backoff_first_s=0.02, backoff_max_s=0.2))
"""


def run(code: str, *arguments: str, within_s: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", PRELUDE + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise KeyError", "os.kill(os.getpid(), 2)"])
def test_what_was_recorded_is_sent_when_the_process_ends(collector: Collector, end: str) -> None:
    run(f"for _ in range(1000): client.record('a', 1.0)\n{end}", collector.url)
    assert collector.counted("a") == 1000


def test_nothing_is_sent_by_a_process_that_ends_at_once(collector: Collector) -> None:
    """The documentation says so: os._exit runs nobody's code."""
    run("client.record('a', 1.0); os._exit(0)", collector.url)
    assert collector.counted("a") == 0


@pytest.mark.parametrize("mode", ["hole", "slow", 503, 500, "away"])
def test_an_end_is_held_up_for_two_seconds_at_most_and_says_nothing_on_stderr_but_what_was_lost(
    collector: Collector, mode: Any
) -> None:
    url = f"http://127.0.0.1:{free_port()}" if mode == "away" else collector.url
    collector.mode = mode
    code = "client.record('a', 1.0); print('ended', flush=True); began = time.monotonic()\n"
    code += "import atexit; atexit.register(lambda: None)\n"
    pace.begin()
    started = time.monotonic()
    quick = run("", url)
    alone_s = time.monotonic() - started
    started = time.monotonic()
    done = run(code, url)
    held_s = time.monotonic() - started - alone_s
    assert (quick.returncode, done.returncode, done.stdout) == (0, 0, "ended\n")
    assert held_s < stretched(2.0) + 1.0
    assert "Traceback" not in done.stderr


def test_what_is_lost_at_the_end_is_said_once() -> None:
    """The client is closed by the app, and again when the process ends."""
    done = run("client.record('a', 1.0)\nclient.close(0.2)", "http://127.0.0.1:1")
    assert done.stderr.count("1 values that were not sent before the end are lost") == 1
    assert done.stderr.count("are lost") == 1


FORK = """
client.record('parent', 1.0)
children = []
for number in range(3):
    child = os.fork()
    if not child:
        for _ in range(100): client.record('child', 1.0)
        ok = client.flush(20)
        client.record('child', 1.0)   # sent when the child ends
        sys.exit(0 if ok else 9)
    children.append(child)
client.record('parent', 1.0)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
assert client.flush(20)
print(client.stats().recorded)
"""


def test_a_fork_s_child_counts_for_itself_and_its_parent_loses_and_repeats_nothing(collector: Collector) -> None:
    done = run(FORK, collector.url)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert (collector.counted("parent"), collector.counted("child")) == (2, 303)
    (row,) = collector.rows()["child"]
    assert (len(row.senders), row.missing, row.duplicates) == (3, 0, 0)


FORKS_UNDER_LOAD = """
import threading
stop = threading.Event()
counts = [0, 0]
def work(index):
    while not stop.is_set():
        client.record('parent', 1.0)
        counts[index] += 1
threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(2)]
for thread in threads: thread.start()
for _ in range(20):
    child = os.fork()
    if not child:
        client.record('child', 1.0)
        ok = client.flush(20)
        if not ok: print(client.stats(), file=sys.stderr, flush=True)
        os._exit(0 if ok else 9)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads: thread.join()
assert client.flush(30)
print(sum(counts))
"""


def test_forks_while_other_threads_record_neither_hang_nor_lose(collector: Collector) -> None:
    done = run(FORKS_UNDER_LOAD, collector.url, within_s=120)
    assert done.returncode == 0, done.stderr
    assert collector.counted("child") == 20
    assert collector.counted("parent") == int(done.stdout)


APP = """
import os
from metrics_app import MetricsClient
from metrics_app.client.wsgi import TimingMiddleware

client = MetricsClient(os.environ["URL"])  # in the master, before it forks
client.record("master", 1.0)

def app(environ, start_response):
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]

app = TimingMiddleware(app, client)
"""


def test_workers_of_gunicorn_that_were_forked_from_a_loaded_app_count_every_request(
    collector: Collector, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", "2", "-b", f"127.0.0.1:{port}", "shop:app"]
    with (tmp_path / "log").open("w") as log:
        environment = {**os.environ, "URL": collector.url}
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        pids = [ask(port) for _ in range(300)]
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0, (tmp_path / "log").read_text()
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
    print(f"{len(set(pids))} workers")
    assert collector.counted("GET *") == 300
    assert collector.counted("master") == 1
    assert len(collector.rows()["GET *"][0].senders) == len(set(pids))
    assert collector.missing("GET *") == 0


def ask(port: int, within_s: float = 20.0, query: str = "") -> str:
    import urllib.error
    import urllib.request

    until = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{query}", timeout=5) as reply:
                return str(reply.read().decode())
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < until
            time.sleep(0.1)


SPOOLING = """
import itertools
client = MetricsClient(sys.argv[1], Options(interval_s=0.1, spool=sys.argv[2], backoff_first_s=0.02, backoff_max_s=0.2))
for number in itertools.count():
    client.record('a', 1.0)
    if number % 500 == 0:
        time.sleep(0.01)
        print(client.stats().waiting, flush=True)
"""


def test_what_is_in_the_spool_of_a_killed_process_is_sent_once_by_its_successor(
    collector: Collector, connect: Connect, tmp_path: Path
) -> None:
    collector.mode = 503
    sure = 0
    for _ in range(3):
        command = [sys.executable, "-c", PRELUDE + SPOOLING, collector.url, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        before = sure
        for line in process.stdout:
            sure = max(sure, int(line))  # each takes over what its predecessor left
            if sure > before + 5000:
                break
        process.kill()
        process.communicate()
    collector.mode = "ok"
    client = connect(collector, spool=tmp_path)
    assert client.flush(0) in (True, False)
    started = time.monotonic()
    while not client.flush(1) or client.stats().recovered < sure:
        assert time.monotonic() < started + stretched(20)
    recovered = client.stats().recovered
    assert recovered >= sure > 15_000
    assert (collector.counted("a"), collector.duplicates("a")) == (recovered, 0)
    client.close()
    assert list(tmp_path.iterdir()) == []


NO_THREAD = """
import threading
real = threading.Thread.start
def refused(thread): raise RuntimeError("can't start new thread")
threading.Thread.start = refused
client = MetricsClient(sys.argv[1], Options(interval_s=60))
for _ in range(100): client.record('a', 1.0)
"""


def test_where_no_thread_can_be_started_the_end_of_the_process_sends_by_itself(collector: Collector) -> None:
    """As the interpreter ends, or at the limit of the system."""
    done = run(NO_THREAD, collector.url)
    assert done.returncode == 0
    assert "only kept, not sent" in done.stderr
    assert collector.counted("a") == 100


CLOSED_LATE = """
import asyncio, atexit
from metrics_app import AsyncMetricsClient
late = AsyncMetricsClient(sys.argv[1], Options(interval_s=60))
late.record('a', 1.0)
async def close(): await late.close()
loop = asyncio.new_event_loop()
loop.run_until_complete(loop.shutdown_default_executor())
loop.run_until_complete(close())
"""


def test_the_async_client_can_be_closed_when_no_executor_takes_work_any_more(collector: Collector) -> None:
    done = run(CLOSED_LATE + "loop.close()\n", collector.url)
    assert (done.returncode, collector.counted("a")) == (0, 1), done.stderr
