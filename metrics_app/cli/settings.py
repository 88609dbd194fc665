"""`metrics-app settings`: the effective values, and the reference of all settings.

Called by `main`.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import typer
from pydantic import SecretStr
from rich.markup import escape
from rich.table import Table

from metrics_app.cli.roles import DataDir, Host, Port
from metrics_app.cli.terminal import examples, out, print_json, print_line

EXAMPLES = examples(
    "metrics-app settings",
    "METRICS_LINGER_MS=5 metrics-app settings --json",
    "metrics-app settings --markdown > docs/settings.md",
)
MASK = "********"
INTRODUCTION = """\
# Settings

Each is an environment variable, or a line of a `.env` file in the working folder; a flag of a command wins over both.
`METRICS_KAFKA_PASSWORD_FILE` names a file that holds the password. `metrics-app settings` shows the values in effect.

This page is generated: `metrics-app settings --markdown > docs/settings.md`.

| Variable | Default | Accepted | Meaning |
| --- | --- | --- | --- |
"""


class SettingRow(NamedTuple):
    """One setting: its variable, effective value (secrets masked), where that comes from, and what it means."""

    variable: str
    value: Any
    origin: str
    meaning: str


def settings(
    port: Port = None,
    host: Host = None,
    data_dir: DataDir = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference of all settings.")] = False,
) -> None:
    """Show every setting, its value in effect and where that comes from."""
    if markdown:
        print_line(reference().rstrip("\n"))
        return
    rows = effective_rows(port=port, host=host, data_dir=data_dir)
    if json:
        print_json({row.variable: {"value": row.value, "from": row.origin, "meaning": row.meaning} for row in rows})
        return
    table = Table("Setting", "Value", "From", box=None)
    for row in rows:
        style = None if row.origin == "default" else "bold"
        table.add_row(row.variable, escape(str(row.value)), row.origin, style=style)
    out.print(table)


def effective_rows(**overrides: Any) -> list[SettingRow]:
    """All settings in the order of their class; raises SettingsError like `configuration.load`."""
    from metrics_app import configuration
    from metrics_app.settings import Settings

    effective = configuration.load(**overrides)
    origins = configuration.origins(**overrides)
    return [
        SettingRow(_variable(name), _shown(getattr(effective, name)), origins[name], field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def reference() -> str:
    """docs/settings.md, made from the Settings class."""
    from metrics_app.settings import Settings

    schema = Settings.model_json_schema()["properties"]
    lines = [
        f"| `{_variable(name)}` | {_default(field.default)} | {_accepted(schema[name])} | {_text(field.description)} |"
        for name, field in Settings.model_fields.items()
    ]
    return INTRODUCTION + "\n".join(lines) + "\n"


def _variable(name: str) -> str:
    from metrics_app.settings import PREFIX

    return f"{PREFIX}{name}".upper()


def _shown(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    return value if isinstance(value, bool | int | float) else "" if value is None else str(value)


def _default(value: Any) -> str:
    shown = _shown(value)
    return f"`{shown}`" if shown != "" else "(empty)"


def _text(description: str | None) -> str:
    return (description or "").replace("<", "\\<").replace("|", "\\|")


def _accepted(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "pattern" in schema:
        return f"`{schema['pattern']}`"
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum")
    above = "over" if "exclusiveMinimum" in schema else "from"
    bounds = [f"{above} {low}" if low is not None else "", f"to {high}" if high is not None else ""]
    return " ".join(bound for bound in bounds if bound) or schema.get("type", "text").replace("string", "text")
