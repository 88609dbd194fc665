"""A half-made environment never passes for a whole one, and what is missing is one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "requirements" / "environment.py"
AS_IF = "import sys, runpy; {}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def make(folder: Path, *flags: str, as_if: str = "pass") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", AS_IF.format(as_if), str(SCRIPT), str(folder), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def runs(folder: Path) -> bool:
    return subprocess.run([folder / "bin" / "python", "-m", "pip", "--version"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment") / ".venv"
    assert make(folder).returncode == 0
    return folder


def test_a_whole_environment_is_left_as_it_is(whole: Path) -> None:
    before = (whole / ".whole").stat().st_mtime_ns
    done = make(whole)
    assert (done.returncode, done.stdout, (whole / ".whole").stat().st_mtime_ns) == (0, "", before)


def test_one_that_was_moved_is_made_anew(whole: Path) -> None:
    moved = whole.with_name("moved")
    whole.rename(moved)
    assert not make(moved).returncode
    assert str(moved) in (moved / "bin" / "pip").read_text()
    moved.rename(whole)


def test_one_that_was_interrupted_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / ".venv"
    with subprocess.Popen([sys.executable, SCRIPT, folder], stdout=subprocess.DEVNULL, process_group=0) as making:
        while not (folder / "pyvenv.cfg").exists():
            time.sleep(0.01)
        os.killpg(making.pid, signal.SIGINT)
        assert making.wait() != 0
    assert not (folder / ".whole").exists()
    assert (make(folder).returncode, runs(folder)) == (0, True)


def test_one_whose_python_is_gone_is_made_anew(whole: Path) -> None:
    (whole / "bin" / "python").unlink()
    assert (make(whole).returncode, runs(whole)) == (0, True)


def test_one_of_another_python_is_made_anew_only_where_that_python_was_asked_for(whole: Path) -> None:
    stamp = whole / ".whole"
    stamp.write_text(stamp.read_text().replace(stamp.read_text().split()[0], "3.99"))
    assert make(whole).stdout == ""
    assert "making the environment" in make(whole, "--exact").stdout


@pytest.mark.parametrize("version", ["(2, 7)", "(3, 6)", "(3, 10)"])
def test_a_python_that_is_too_old_says_which_is_needed(tmp_path: Path, version: str) -> None:
    done = make(tmp_path / ".venv", as_if=f"sys.version_info = {version}")
    assert done.returncode == 1
    assert "error: metrics-app needs Python 3.11 or newer, and" in done.stderr
    assert "make PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_python_without_venv_says_which_package_brings_it(tmp_path: Path) -> None:
    done = make(tmp_path / ".venv", as_if="sys.modules['ensurepip'] = None")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert (done.returncode, f"apt-get install python{version}-venv" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    done = make(tmp_path)
    assert (done.returncode, "is in the way" in done.stderr, (tmp_path / "notes").read_text()) == (1, True, "mine")
