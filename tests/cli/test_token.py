"""`metrics-app token new`: what it prints lets in whoever shows the token, and the line alone lets nobody in."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from metrics_app.cli.main import app
from metrics_app.http.tokens import Tokens


def test_the_line_for_the_file_does_not_hold_the_token_and_lets_in_whoever_has_it(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["token", "new", "--name", "shop", "--scope", "query", "--json"])
    made = json.loads(ran.stdout)
    file = tmp_path / "tokens"
    file.touch(mode=0o600)
    file.write_text(json.dumps(made["line"]))
    assert made["token"] not in file.read_text()
    caller = Tokens(file).caller(made["token"])
    assert caller is not None
    assert caller.name == "shop"
    assert all(Tokens(file).caller(text) is None for text in ("", made["line"]["sha256"], made["token"][:-1]))


NEW = ["token", "new", "--name", "shop", "--scope", "ingest", "--scope", "query", "--prefix", "shop/"]


def test_the_token_comes_first_and_then_its_line_and_both_are_new_each_time(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, NEW)
    token, line = ran.stdout.splitlines()
    file = tmp_path / "tokens"
    file.touch(mode=0o600)
    file.write_text(line)
    caller = Tokens(file).caller(token)
    assert caller is not None
    assert (caller.scopes, caller.prefixes) == (frozenset(("ingest", "query")), ("shop/",))
    assert "nobody can show again" in ran.stderr
    assert CliRunner().invoke(app, NEW).stdout.splitlines()[0] != token


def test_what_is_no_name_or_scope_is_refused() -> None:
    for words in (["--name", "a b", "--scope", "query"], ["--name", "a", "--scope", "root"], ["--name", "a"]):
        assert CliRunner().invoke(app, ["token", "new", *words]).exit_code == 2
