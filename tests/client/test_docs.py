"""The page about clients says what the options are."""

from __future__ import annotations

import inspect
import re
import subprocess
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from metrics_app import Options
from metrics_app.wire import dropped

from .collector import Collector

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"


def options_table() -> str:
    """The options as the docstring has them, with their defaults."""
    text = re.sub(r"\n {8,}", " ", inspect.cleandoc(Options.__doc__ or ""))
    meaning: dict[str, str] = {}
    for line in text.partition("Attributes:")[2].splitlines():
        names, _, said = line.strip().partition(": ")
        meaning |= dict.fromkeys(names.split(", "), said)
    lines = ["| option | default | meaning |", "| --- | --- | --- |"]
    for each in fields(Options):
        default = "none" if each.default is MISSING or each.default is None else each.default
        shown = f"{default:,}" if isinstance(default, int) and not isinstance(default, bool) else str(default)
        lines.append(f"| `{each.name}` | {shown} | {meaning[each.name]} |")
    return "\n".join(lines)


def test_the_table_of_options_is_what_the_docstring_says() -> None:
    shown = re.search(r"<!-- options -->\n(.*?)\n<!-- options end -->", PAGE.read_text(), re.DOTALL)
    assert shown is not None
    assert shown[1] == options_table()


def test_every_reason_for_a_drop_is_explained() -> None:
    text = PAGE.read_text()
    assert [reason for reason, meaning in dropped.REASONS.items() if f"| `{reason}` | {meaning} |" not in text] == []


def sh(call: str, *collectors: Collector) -> int:
    """The exit code of a call of the function on the page."""
    script = re.search(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert script is not None
    urls = " ".join(collector.url for collector in collectors)
    text = re.sub(r'collectors=".*"', f'collectors="{urls}"', script[1])
    return subprocess.run(["sh", "-c", f"{text}\n{call}"], check=False, timeout=60, capture_output=True).returncode


SEND = """send '["checkout", 12.5]'"""


@pytest.mark.parametrize("fault", ["away", 503, 429])
def test_the_shell_s_client_takes_the_next_address(collector: Collector, fault: int | str) -> None:
    with Collector() as other:
        if fault == "away":
            other.stop()
        other.mode = fault
        assert sh(SEND, other, collector) == 0
    assert collector.counted("checkout") == 1


def test_the_shell_s_client_does_not_repeat_what_was_refused(collector: Collector) -> None:
    collector.mode = 400
    assert sh(SEND, collector, collector) == 1
    assert collector.requests == 1


def test_the_shell_s_client_names_its_request_so_that_it_counts_once(collector: Collector) -> None:
    collector.mode = "cut"
    assert sh(SEND, collector) == 1
    assert collector.requests > 3
    assert collector.counted("checkout") == 1
