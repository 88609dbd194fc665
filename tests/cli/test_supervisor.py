from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from metrics_app.cli.child import CRASHES, MB, Probe, Program, RestartPace, describe
from metrics_app.cli.reasons import MAX_LOG_BYTES, rotate, tail
from metrics_app.cli.supervisor import Supervisor, is_in_use, sole_use
from metrics_app.errors import ProcessError, SettingsError
from metrics_app.process import EXIT_UNUSABLE

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
BACKOFF_S = 0.01


def exists(path: Path) -> Probe:
    async def probe(_pid: int) -> bool:
        return await asyncio.to_thread(path.exists)

    return probe


async def always(_pid: int) -> bool:
    return True


async def never(_pid: int) -> bool:
    return False


def python(name: str, code: str, is_ready: Probe = always) -> Program:
    return Program(name, (sys.executable, "-c", textwrap.dedent(code)), is_ready)


class Running:
    """A supervisor at work in the background, with what it said."""

    def __init__(
        self,
        folder: Path,
        *stages: list[Program],
        grace_s: float = 5.0,
        backoff_s: float = BACKOFF_S,
        silence_s: float = 30.0,
        free_mb: int = 0,
    ) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        supervisor = Supervisor(
            stages, folder, self.said.append, grace_s, RestartPace(backoff_s, silence_s=silence_s, free_mb=free_mb)
        )
        self.task = asyncio.create_task(supervisor.run(self.stop, self.ready.set))

    def pid(self, name: str) -> int:
        return int((self.folder / "run" / f"{name}.pid").read_text())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                assert not self.task.done() or self.task.result() is None
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self.stop.set()
        await self.task


async def test_all_children_run_with_a_pid_and_a_log_until_told_to_stop(tmp_path: Path) -> None:
    running = Running(tmp_path, [python("one", SLEEPS), python("two", SLEEPS)])
    await running.ready.wait()
    await running.until(lambda: tail(tmp_path / "logs" / "one.log") == ["up"])
    pids = [running.pid("one"), running.pid("two")]
    assert all(psutil.pid_exists(pid) for pid in pids)
    await running.end()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert list((tmp_path / "run").glob("*.pid")) == []


async def test_a_killed_child_is_started_again_and_that_is_said_in_one_line(tmp_path: Path) -> None:
    running = Running(tmp_path, [python("worker", SLEEPS)])
    await running.ready.wait()
    first = running.pid("worker")
    os.kill(first, signal.SIGKILL)
    await running.until(lambda: (tmp_path / "run" / "worker.pid").exists() and running.pid("worker") != first)
    await running.until(lambda: running.said.count("worker is ready") == 2)
    await running.end()
    assert running.said == [
        "worker is ready",
        "worker was killed by SIGKILL; starting it again in 0.01 s",
        "worker is ready",
    ]


async def test_a_child_that_was_ready_may_die_any_number_of_times(tmp_path: Path) -> None:
    running = Running(tmp_path, [python("worker", "import time; time.sleep(0.2)")])
    await running.until(lambda: running.said.count("worker is ready") >= 7)
    await running.end()


async def test_a_child_that_never_gets_ready_ends_everything_with_its_last_words(tmp_path: Path) -> None:
    bad = python("worker", "import sys; print('no luck with the port'); sys.exit(4)", never)
    running = Running(tmp_path, [python("kafka", SLEEPS)], [bad])
    await running.until(lambda: (tmp_path / "run" / "kafka.pid").exists())
    kafka = running.pid("kafka")
    with pytest.raises(ProcessError, match=r"(?s)worker keeps dying: .*last exit code 4.*no luck with the port"):
        await running.task
    assert not psutil.pid_exists(kafka)
    assert not running.ready.is_set()


async def test_a_child_that_says_a_new_start_will_not_help_ends_everything_at_once(tmp_path: Path) -> None:
    """Also one that has been ready."""
    code = f"import sys, time; time.sleep(0.3); print('set it up otherwise'); sys.exit({EXIT_UNUSABLE})"
    running = Running(tmp_path, [replace(python("one", code), hopeless=(EXIT_UNUSABLE,))])
    with pytest.raises(ProcessError, match="set it up otherwise"):
        await asyncio.wait_for(running.task, 20)
    assert running.ready.is_set()
    assert not [line for line in running.said if "starting it again" in line]


async def test_a_probe_that_swallows_its_cancellation_does_not_keep_a_dead_child_from_being_started_again(
    tmp_path: Path,
) -> None:
    """As a request may that is cancelled at the moment of its timeout."""
    swallowed: list[bool] = []

    async def probe(_pid: int) -> bool:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            if swallowed:
                raise
            swallowed.append(True)
        return False

    running = Running(tmp_path, [python("worker", "import time; time.sleep(0.1)", probe)], backoff_s=600)
    await running.until(lambda: any("starting it again" in line for line in running.said))
    assert swallowed
    await running.end()


async def test_a_probe_that_fails_is_said_once_and_asked_again(tmp_path: Path) -> None:
    asked: list[int] = []

    async def failing_at_first(pid: int) -> bool:
        asked.append(pid)
        if len(asked) < 4:
            raise KeyError("pid")
        return True

    running = Running(tmp_path, [python("a", SLEEPS, failing_at_first)])
    await running.until(running.ready.is_set)
    assert [line for line in running.said if "probed" in line] == ["a cannot be probed: KeyError('pid')"]
    running.stop.set()
    await running.task


async def test_a_child_that_gives_no_sign_of_life_is_killed_and_started_again(tmp_path: Path) -> None:
    """Also one that was ready, and that is deaf to SIGTERM."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    silent: list[int] = []

    async def alive(pid: int) -> bool:
        return pid not in silent

    running = Running(tmp_path, [replace(python("worker", deaf), is_alive=alive)], silence_s=0.2)
    await running.ready.wait()
    silent.append(running.pid("worker"))
    await running.until(lambda: running.said.count("worker is ready") == 2)
    assert "worker gave no sign of life for 0.2 s; killed" in running.said
    running.task.cancel()
    await asyncio.gather(running.task, return_exceptions=True)


async def test_a_start_may_be_silent_for_longer(tmp_path: Path) -> None:
    """As that of a Java machine, between the moment that it runs and its first answer."""
    asked: list[int] = []

    async def alive(pid: int) -> bool:
        asked.append(pid)
        return len(asked) == 1

    async def ready(_pid: int) -> bool:
        return len(asked) > 5

    running = Running(tmp_path, [replace(python("kafka", SLEEPS, ready), is_alive=alive)], silence_s=0.2)
    await running.until(lambda: len(asked) > 5 or bool(running.said))
    assert not [line for line in running.said if "no sign of life" in line]
    await running.end()


async def test_a_child_whose_environment_has_changed_is_started_again_with_the_new_one(tmp_path: Path) -> None:
    """As a worker whose Kafka had to take another port."""
    environment = {"PORT": "9092"}
    program = python("worker", "import os, time; print(os.environ['PORT'], flush=True); time.sleep(600)")
    running = Running(tmp_path, [replace(program, environment=lambda: dict(environment))])
    await running.until(lambda: tail(tmp_path / "logs" / "worker.log") == ["9092"])
    environment["PORT"] = "9093"
    await running.until(lambda: tail(tmp_path / "logs" / "worker.log") == ["9092", "9093"])
    await running.end()


async def test_what_was_once_ready_is_started_again_however_often_it_dies_before_it_is_ready(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    running = Running(tmp_path, [python("worker", "import time; time.sleep(0.1)", exists(flag))])
    await running.ready.wait()
    flag.unlink()
    await running.until(lambda: len([line for line in running.said if "starting it again" in line]) > CRASHES + 2)
    await running.end()


async def test_without_disk_space_nothing_is_started_and_it_goes_on_by_itself_when_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [10 * MB]
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=free[0]))
    running = Running(tmp_path, [python("worker", SLEEPS)], free_mb=64)
    await running.until(lambda: bool(running.said))
    assert f"worker waits for disk space: {tmp_path} has 10 MB, and 64 MB are needed" in running.said[0]
    assert not running.ready.is_set()
    free[0] = 65 * MB
    await running.ready.wait()
    await running.end()


async def test_a_child_that_dies_for_want_of_space_is_waited_for_whatever_its_code(tmp_path: Path) -> None:
    """A quota, or a disk that fills up again at once: no space is missing to start it."""
    code = "import sys; print('error: it cannot write: [Errno 28] No space left on device'); sys.exit(3)"
    running = Running(tmp_path, [replace(python("worker", code, never), hopeless=(3,))])
    await running.until(lambda: len(running.said) > CRASHES + 1)
    assert "worker ended with code 3: it cannot write: [Errno 28] No space left" in running.said[0]
    await running.end()


async def test_neither_a_pid_file_nor_a_log_that_cannot_be_written_ends_the_supervisor(tmp_path: Path) -> None:
    for name in ("run", "logs"):
        (tmp_path / name).write_text("in the way")
    running = Running(tmp_path, [python("worker", SLEEPS)])
    await running.until(lambda: any("worker cannot be started: File exists" in line for line in running.said))
    (tmp_path / "logs").unlink()
    await running.ready.wait()
    (tmp_path / "run").unlink()
    await running.until(lambda: (tmp_path / "run" / "worker.pid").exists())
    await running.end()


async def test_the_backoff_doubles_up_to_its_limit_while_a_child_does_not_get_ready(tmp_path: Path) -> None:
    running = Running(tmp_path, [python("worker", "import sys; sys.exit(4)", never)])
    with pytest.raises(ProcessError):
        await running.task
    assert [line.rsplit("in ", 1)[1] for line in running.said] == ["0.01 s", "0.02 s", "0.04 s", "0.08 s"]


async def test_a_stage_starts_when_the_one_before_is_ready(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    running = Running(tmp_path, [python("kafka", SLEEPS, exists(flag))], [python("worker", SLEEPS)])
    await running.until(lambda: (tmp_path / "run" / "kafka.pid").exists())
    await asyncio.sleep(0.3)
    assert not (tmp_path / "run" / "worker.pid").exists()
    flag.touch()
    await running.ready.wait()
    assert running.pid("worker")
    await running.end()
    assert running.said == ["kafka is ready", "worker is ready"]


async def test_the_last_stage_is_stopped_before_the_first(tmp_path: Path) -> None:
    order = tmp_path / "order"
    tells = """
        import signal, sys, time
        def stop(*_):
            time.sleep({pause}); open({order!r}, "a").write({name!r} + " "); sys.exit()
        signal.signal(signal.SIGTERM, stop)
        open({armed!r}, "w")
        time.sleep(600)
    """

    def telling(name: str, pause: float) -> Program:
        armed = tmp_path / f"{name}.armed"
        return python(name, tells.format(name=name, pause=pause, order=str(order), armed=str(armed)), exists(armed))

    running = Running(tmp_path, [telling("kafka", 0)], [telling("worker", 0.3)])
    await running.ready.wait()
    await running.end()
    assert order.read_text() == "worker kafka "


async def test_a_child_deaf_to_sigterm_is_killed_with_its_own_children_after_the_grace(tmp_path: Path) -> None:
    deaf = f"""
        import signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open({str(tmp_path / "grandchild")!r}, "w").write(str(child.pid))
        open({str(tmp_path / "armed")!r}, "w")
        time.sleep(600)
    """
    running = Running(tmp_path, [python("deaf", deaf, exists(tmp_path / "armed"))], grace_s=0.2)
    await running.ready.wait()
    grandchild = psutil.Process(int((tmp_path / "grandchild").read_text()))
    await running.end()
    assert running.said[-1] == "deaf did not stop within 0.2 s; killed"
    psutil.wait_procs([grandchild], timeout=10)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


async def test_stopping_while_a_child_waits_for_its_restart_is_prompt(tmp_path: Path) -> None:
    running = Running(tmp_path, [python("worker", "import time; time.sleep(0.2)")], backoff_s=600)
    await running.until(lambda: any("starting it again" in line for line in running.said))
    async with asyncio.timeout(30):
        await running.end()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_children_die_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    code = f"""
        import asyncio, sys
        from pathlib import Path
        from metrics_app.cli.child import RestartPace, Program
        from metrics_app.cli.supervisor import Supervisor
        async def ready(_pid): return True
        child = Program("child", (sys.executable, "-c", {SLEEPS!r}), ready)
        supervisor = Supervisor([[child]], Path({str(tmp_path)!r}), print, 5.0, RestartPace())
        asyncio.run(supervisor.run(asyncio.Event(), lambda: print("all ready", flush=True)))
    """
    with psutil.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=-1, text=True) as parent:
        for line in parent.stdout:
            if "all ready" in line:
                break
        child = psutil.Process(int((tmp_path / "run" / "child.pid").read_text()))
        parent.kill()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_one_folder_serves_one_supervisor(tmp_path: Path) -> None:
    with sole_use(tmp_path), pytest.raises(SettingsError, match="another `metrics-app up`"), sole_use(tmp_path):
        pass
    with sole_use(tmp_path):
        pass


def test_a_folder_is_in_use_as_long_as_its_supervisor_lives(tmp_path: Path) -> None:
    assert not is_in_use(tmp_path)
    with sole_use(tmp_path):
        assert is_in_use(tmp_path)
    assert not is_in_use(tmp_path)


def test_a_log_that_has_grown_too_large_is_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("small")
    rotate(log)
    assert log.exists()
    os.truncate(log, MAX_LOG_BYTES + 1)
    rotate(log)
    assert not log.exists()
    assert (tmp_path / "worker.log.1").stat().st_size == MAX_LOG_BYTES + 1


def test_an_end_is_described_by_its_code_or_its_signal() -> None:
    assert describe(3) == "ended with code 3"
    assert describe(-9) == "was killed by SIGKILL"
