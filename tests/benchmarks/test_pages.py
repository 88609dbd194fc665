"""No figure of the documentation is typed by hand."""

from __future__ import annotations

import copy

import pytest

from benchmarks import pages, results
from benchmarks.plots import PLOTS, Bar, bars
from benchmarks.tables import TABLES


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: str(page.relative_to(pages.ROOT)))
def test_the_tables_of_a_page_say_what_the_results_say(page):
    text = page.read_text()
    assert pages.rendered(text, results.load()) == text, "run python -m benchmarks --pages"


def test_the_plots_are_those_of_the_results():
    for path, svg in pages.drawn(results.load()).items():
        assert path.read_text() == svg, "run python -m benchmarks --pages"


def test_every_table_and_plot_is_on_a_page():
    everything = "".join(page.read_text() for page in pages.PAGES)
    wanted = {*TABLES, *(f"plot-{name}" for name in PLOTS), "flames"}
    assert {name for name in wanted if f"<!-- figures: {name} -->" not in everything} == set()


def test_another_figure_gives_another_page():
    document = copy.deepcopy(results.load())
    document["ladder"][0]["accepted_per_s"] = 123_456
    readme = (pages.ROOT / "README.md").read_text()
    assert "| 123,456 |" in pages.rendered(readme, document)


def test_a_plot_is_shown_once_there_are_figures_for_it():
    page = "<!-- figures: plot-peers -->\n<!-- figures end -->"
    assert "plots/peers.svg" not in pages.rendered(page, {})
    assert "(plots/peers.svg)" in pages.rendered(page, {"peers": {}})


def test_what_was_not_measured_stays_as_it_is():
    readme = (pages.ROOT / "README.md").read_text()
    assert pages.rendered(readme, {}) == readme


def test_bars_are_as_long_as_their_figures_and_drawn_the_same_every_time():
    rows = [Bar("ours", 100.0, "100/s", ours=True), Bar("a < b", 25.0, "25/s")]
    drawn = bars("title", "note", rows)
    assert drawn == bars("title", "note", rows)
    assert 'width="380.0"' in drawn
    assert 'width="95.0"' in drawn
    assert "a &lt; b" in drawn


def test_on_a_logarithmic_scale_every_power_of_ten_is_as_far_from_the_next():
    rows = [Bar("a", 10.0, "10"), Bar("b", 100.0, "100"), Bar("c", 1000.0, "1,000")]
    drawn = bars("title", "note", rows, logarithmic=True)
    assert [f'width="{width}"' in drawn for width in ("126.7", "253.3", "380.0")] == [True] * 3
    assert drawn.count("<line") == 4
