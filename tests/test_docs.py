"""The documentation says what is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from metrics_app.settings import Settings
from tests import limits, openapi

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "docker" / "README.md",
]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_a_page_names_exists(page):
    text = page.read_text()
    named = re.findall(r"`((?:tests|metrics_app|docs|docker|benchmarks)/[\w./-]*)`", text)
    missing = [name for name in named if not (ROOT / name.rstrip("/")).exists()]
    assert not missing


def test_every_module_that_a_page_or_a_module_names_exists():
    folders = [ROOT / name for name in ("metrics_app", "tests", "benchmarks")]
    modules = [path for folder in folders for path in folder.rglob("*.py")]
    known = {path.name for path in modules}
    named = {
        (path, name) for path in [*PAGES, *modules] for name in re.findall(r"`(?:\w+/)*(\w+\.py)`", path.read_text())
    }
    assert not {f"{path.relative_to(ROOT)}: {name}" for path, name in named if name not in known}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_no_leavings_of_tools_are_kept():
    """Caches, crash reports and databases of what tests run: each is made again, and none is a part of the product."""
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if kept.returncode:
        pytest.skip("not a git clone")
    hidden = {name.split("/")[0] for name in kept.stdout.splitlines() if name.startswith(".")}
    assert hidden <= {".ci", ".gitignore"}


def test_every_make_target_a_page_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:`|^ {4})make ([a-z-]+)", page.read_text(), re.MULTILINE))
        assert named <= targets, page.name


def test_the_page_of_limits_is_what_the_code_says_now():
    """After a change of a limit: `make docs`."""
    assert limits.PAGE.read_text() == limits.page()


def test_every_limit_that_is_set_is_told_of_once_with_what_happens_beyond_it():
    told = [limit.what for section in limits.SECTIONS.values() for limit in section if limit.number is None]
    assert len(told) == len(set(told))
    assert {name for name in Settings.model_fields if name.startswith("max_")} <= set(told)


def test_the_described_bodies_and_limits_are_those_of_the_types_that_decode_them():
    """After a change of a body or of a limit: `make docs`."""
    assert openapi.DOCUMENT.read_text() == openapi.written()


def test_each_test_that_the_threat_model_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "SECURITY.md").read_text())
    missing = [(path, name) for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert len(named) > 20
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_url_of_curl_has_braces_or_brackets_which_it_takes_for_several_urls(page):
    commands = [line for line in page.read_text().splitlines() if re.search(r"\bcurl\b", line)]
    urls = [url for line in commands for url in re.findall(r"https?://[^\s'\"]+", line)]
    assert [url for url in urls if re.search(r"[{}\[\]]", url)] == []
