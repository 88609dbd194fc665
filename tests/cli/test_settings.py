from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from metrics_app.cli.main import app
from metrics_app.cli.settings import MASK, reference
from metrics_app.configuration import load, origins
from metrics_app.settings import Settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"
runner = CliRunner()


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_value_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("METRICS_LINGER_MS=7\nMETRICS_UNIT=s\nOTHER=1\n")
    (tmp_path / "secret").write_text("s3cret\n")
    monkeypatch.setenv("METRICS_UNIT", "us")
    monkeypatch.setenv("METRICS_KAFKA_PASSWORD_FILE", str(tmp_path / "secret"))
    result = runner.invoke(app, ["settings", "--port", "9000", "--json"])
    shown = msgspec.json.decode(result.stdout)
    found = {name: (shown[f"METRICS_{name}"]["value"], shown[f"METRICS_{name}"]["from"]) for name in FROM_EACH}
    assert found == FROM_EACH


FROM_EACH = {
    "PORT": (9000, "flag"),
    "UNIT": ("us", "environment"),
    "LINGER_MS": (7, ".env"),
    "KAFKA_PASSWORD": (MASK, "secret file"),
    "PARTITIONS": (8, "default"),
}


def test_secrets_are_in_no_form_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_KAFKA_PASSWORD", "s3cret")
    outputs = [runner.invoke(app, ["settings", *flags]).output for flags in ([], ["--json"], ["--markdown"])]
    assert not any("s3cret" in output for output in outputs)


def test_the_environment_wins_over_a_secret_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file")
    monkeypatch.setenv("METRICS_KAFKA_PASSWORD_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("METRICS_KAFKA_PASSWORD", "from the environment")
    assert load().kafka_password.get_secret_value() == "from the environment"
    assert origins()["kafka_password"] == "environment"


def test_a_variable_that_is_no_setting_is_warned_of_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".env").write_text("METRICS_LINGER=7\nOTHER=1\n")
    for name in ("METRICS_PRT", "METRICS_ZZZZZZZZZ", "METRICS_URL", "METRICS_DISABLED", "METRICS_CLUSTER_TOKEN_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    load()
    assert [record.getMessage() for record in caplog.records] == [
        "warning: METRICS_LINGER is not a setting and has no effect; is it METRICS_LINGER_MS?",
        "warning: METRICS_PRT is not a setting and has no effect; is it METRICS_PORT?",
        "warning: METRICS_ZZZZZZZZZ is not a setting and has no effect",
    ]


@pytest.mark.parametrize("name", [".env", "secret"])
def test_a_file_of_settings_that_is_no_utf8_is_a_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"METRICS_UNIT=\xb5s\n")
    monkeypatch.setenv("METRICS_CLUSTER_TOKEN_FILE", str(tmp_path / name))
    result = runner.invoke(app, ["settings"])
    assert (result.exit_code, "is not UTF-8" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("kafka", text)
            for text in ("127.0.0.1:abc", "a:1;b:2", "a:70000", "a:0", "kafka://a:1", "::1:9092", "a b:1")
        ),
        *(("kafka", text) for text in ("", " , ", "a:1,b:", "user@a:1", "[::1:9092")),
        *(("host", text) for text in ("", "a b", "http://a", "a/b")),
    ],
)
def test_an_address_that_is_none_is_a_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"METRICS_{name.upper()}", value)
    result = runner.invoke(app, ["settings"])
    assert (result.exit_code, result.stderr.split(", got")[0].split(",")[0].split(" or ")[0]) == (
        2,
        f"error: METRICS_{name.upper()}: expected {'host:port' if name == 'kafka' else 'a host name'}",
    )


@pytest.mark.parametrize("value", ["a:1", "a", "a.example-1:9092, [::1]:9093,", "broker_1:65535"])
def test_addresses_of_kafka_are_hosts_with_and_without_a_port(value: str) -> None:
    assert load(kafka=value).kafka == value


def test_an_address_to_listen_on_may_have_the_brackets_it_has_in_a_url() -> None:
    assert [load(host=host).url for host in ("::1", "[::1]", "a.b")] == ["http://[::1]:8080"] * 2 + ["http://a.b:8080"]


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_reference_names_every_setting() -> None:
    assert [name for name in Settings.model_fields if f"`METRICS_{name.upper()}`" not in reference()] == []


def test_the_document_is_what_the_command_prints_now() -> None:
    """After a change of the settings: `metrics-app settings --markdown > docs/settings.md`."""
    assert runner.invoke(app, ["settings", "--markdown"]).stdout == DOCUMENT.read_text()
