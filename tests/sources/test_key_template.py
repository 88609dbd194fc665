from __future__ import annotations

import pytest

from metrics_app.configuration import load
from metrics_app.errors import SettingsError
from metrics_app.sources.key_template import KeyTemplate, MissingNameError

KNOWN = {"service.name": "shop", "name": "GET /", "empty": "", "braces": "{x}"}


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("{service.name} {http.route|name}", "shop GET /"),
        ("{name}", "GET /"),
        ("a{name}b{service.name}c", "aGET /bshopc"),
        ("{empty|service.name}", "shop"),
        ("{braces}", "{x}"),
    ],
)
def test_the_first_name_that_is_there_is_taken(template: str, key: str) -> None:
    assert KeyTemplate.of(template).filled(KNOWN) == key


@pytest.mark.parametrize("template", ["{nothing}", "{name}{nothing|empty}"])
def test_a_place_of_which_no_name_is_there_gives_no_key(template: str) -> None:
    with pytest.raises(MissingNameError, match="expected nothing"):
        KeyTemplate.of(template).filled(KNOWN)


def test_it_says_which_names_it_needs() -> None:
    assert KeyTemplate.of("{a|b}/{c}").names == {"a", "b", "c"}


@pytest.mark.parametrize("template", ["", "checkout", "{}", "{a", "a}", "{a|}", "{|a}", "{a{b}}", "{a||b}"])
def test_what_is_no_template_is_refused_as_a_setting(template: str) -> None:
    with pytest.raises(SettingsError, match="METRICS_OTLP_KEY"):
        load(otlp_key=template)
