"""Every example of docs/queries.md, run against a real service; and a look at all of it over two workers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from .asking import curl, dated

PAGE = Path(__file__).parents[2] / "docs" / "queries.md"
URL = "http://127.0.0.1:8080"
EXAMPLE = re.compile(r"^    \$ (curl .*)\n((?:    .*\n)+)", re.MULTILINE)
EXAMPLES = [(match[1], match[2]) for match in EXAMPLE.finditer(PAGE.read_text())]

pytestmark = pytest.mark.kafka


def test_the_page_has_an_example_of_each_question():
    commands = " ".join(command for command, _ in EXAMPLES)
    for word in (
        "/p95/2026-11-23/22",
        "/p95/2026-11-23",
        "from=",
        "/under/",
        "/compare/",
        "/histogram/",
        "/keys",
        "text/csv",
        "-sI",
    ):
        assert word in commands


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_example_of_the_page_gives_what_is_shown(asked, command, shown):
    """Piece by piece where the page leaves something out."""
    for url in asked:
        got, at = flat(curl(dated(command).replace(URL, url))), 0
        for piece in flat(dated(shown)).split("..."):
            found = got.find(piece, at)
            assert found >= 0, f"{piece!r} is not in {got[at:]!r}"
            at = found + len(piece)


def flat(text: str) -> str:
    """Without breaks and indents, which the page has for its readers; in one case, for names of headers have none."""
    return "".join(line.strip() for line in text.splitlines()).lower()


def test_example_that_leaves_nothing_out_is_the_whole_answer(asked):
    command, shown = next(each for each in EXAMPLES if "/keys" in each[0])

    assert json.loads(curl(dated(command).replace(URL, asked[1]))) == json.loads(dated(shown))


def test_the_readme_shows_every_member_of_an_answer(asked):
    readme = (PAGE.parents[1] / "README.md").read_text()
    shown = readme[readme.index('"value":20.0') :]
    got = curl(f"curl {asked[0]}/search/median/{dated('2026-11-23')}/22")

    assert members(shown[: shown.index("\n\n")]) == members(got[got.index('"value":') :])


def members(text: str) -> list[str]:
    return re.findall(r'"(\w+)":', text)


def test_every_statistic_of_the_three_hours_is_right_from_every_worker(asked):
    for url in asked:
        summary = json.loads(curl(f"curl {url}/checkout/summary/{dated('2026-11-23')}"))
        assert summary["values"]["count"] == 1500
        assert summary["values"]["sum"] == 1000 * 1001 / 2 + 500 * 501 / 2
        assert [each["count"] for each in summary["hours"]] == [*[0] * 21, 500, 1000, 0]
        assert json.loads(curl(f"curl {url}/keys?date={dated('2026-11-23')}"))["keys"] == ["checkout", "search"]
