from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from metrics_app import __version__
from metrics_app.cli.main import app, outcome_of
from metrics_app.errors import BrokerError
from metrics_app.kafka.topics import LateBrokerError
from metrics_app.process import EXIT_CRASHED, EXIT_UNUSABLE

COMMANDS = [
    "up",
    "kafka",
    "collector",
    "aggregator",
    "all",
    "send",
    "query",
    "keys",
    "load",
    "drill",
    "settings",
    "status",
    "capacity",
    "doctor",
    "top",
    "tail",
    "archive",
    "export",
    "import",
]
HEAVY = {"faust", "numpy", "aiohttp", "aiokafka"}
DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"
NOBODY = "http://127.0.0.1:1"
runner = CliRunner()


@pytest.fixture(autouse=True)
def _no_settings_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("METRICS_URL", "METRICS_KAFKA", "METRICS_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_the_version_is_printed() -> None:
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"metrics-app {__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_examples_to_type(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"metrics-app {command}" in result.stdout.partition("Examples:")[2]


def test_the_list_of_commands_is_complete() -> None:
    assert sorted(command.name or "" for command in app.registered_commands) == sorted(COMMANDS)


def test_an_unusable_setting_is_one_line_and_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_LINGER_MS", "soon")
    result = runner.invoke(app, ["settings"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: METRICS_LINGER_MS: Input should be a valid integer")
    assert "what to do" not in result.stdout


def test_every_error_about_kafka_has_the_exit_code_of_its_kind() -> None:
    """Supervisors go by it: also errors that are defined elsewhere, such as that of a broker that is late."""
    kinds: list[type[BrokerError]] = [BrokerError, *BrokerError.__subclasses__()]
    assert LateBrokerError in kinds
    assert {outcome_of(kind)[0] for kind in kinds} == {EXIT_UNUSABLE, EXIT_CRASHED}
    assert outcome_of(LateBrokerError) == outcome_of(BrokerError)


def test_every_unusable_setting_is_named() -> None:
    result = runner.invoke(app, ["settings", "--port", "70000"], env={"METRICS_LINGER_MS": "-1"})
    assert [line.split(":")[1].strip() for line in result.stderr.splitlines() if line.startswith("error:")] == [
        "METRICS_PORT",
        "METRICS_LINGER_MS",
    ]


def test_an_unusable_kafka_folder_is_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "kafka").write_text("a file where a folder should be")
    result = runner.invoke(app, ["kafka", "--data-dir", str(tmp_path / "kafka")])
    assert result.exit_code == 3
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize("command", [["dlq", "list"], ["dlq", "replay"]])
def test_a_command_that_needs_kafka_says_after_a_while_that_it_is_not_there(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("METRICS_KAFKA", "127.0.0.1:1")
    monkeypatch.setattr("metrics_app.cli.dlq.PATIENCE_S", 0.3)
    result = runner.invoke(app, command)
    assert result.exit_code == 3
    assert "Kafka at 127.0.0.1:1 has not answered for 0.3 s" in result.stderr
    assert "see that Kafka runs where METRICS_KAFKA says" in result.stderr


@pytest.mark.parametrize("command", [["send", "checkout", "1"], ["query", "checkout", "median"], ["load"]])
def test_a_service_that_is_not_there_is_said_with_what_to_do_next(command: list[str]) -> None:
    result = runner.invoke(app, [*command, "--url", NOBODY])
    assert result.exit_code == 1
    assert f"error: no answer from {NOBODY}" in result.stderr
    assert "`metrics-app up` starts it" in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


@pytest.mark.parametrize(("no_color", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_obeyed(no_color: dict[str, str], is_coloured: bool) -> None:
    environment = {**os.environ, "FORCE_COLOR": "1", **no_color}
    command = [sys.executable, "-m", "metrics_app", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-7]", done.stdout)) is is_coloured


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "metrics_app", "--version"], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"metrics-app {__version__}\n"


def test_beside_the_client_alone_it_says_what_is_missing() -> None:
    code = "import sys; sys.modules['typer'] = None; import metrics_app.cli.main"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "metrics-app[server]" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_light_commands_do_not_import_the_heavy_libraries() -> None:
    code = f"import metrics_app.cli.main, sys; print(sorted({HEAVY} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_document_is_what_the_help_says_now(tmp_path: Path) -> None:
    """After a change of a command: `make docs`."""
    command = [str(Path(sys.executable).with_name("typer")), "metrics_app.cli.main", "utils", "docs"]
    options = ["--name", "metrics-app", "--title", "The command line", "--output", str(tmp_path / "cli.md")]
    subprocess.run([*command, *options], check=True, capture_output=True)
    assert (tmp_path / "cli.md").read_text() == DOCUMENT.read_text()


def test_every_option_and_argument_says_what_it_is() -> None:
    group = typer.main.get_command(app)
    commands = group.commands.values()  # type: ignore[attr-defined]
    silent = [
        f"{command.name} {of.name}" for command in commands for of in command.params if not getattr(of, "help", 1)
    ]
    assert silent == []
