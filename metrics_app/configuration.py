"""Reading the settings of a process, and the source of each effective value.

Called by `worker`, `cli` and tests.
"""

from __future__ import annotations

import logging
import os
from difflib import get_close_matches
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

from metrics_app.errors import SettingsError
from metrics_app.settings import PREFIX, SECRET_NAMES, Settings

logger = logging.getLogger(__name__)

# of the command line, and of the client
OTHER_VARIABLES = ("METRICS_URL", "METRICS_DISABLED", "METRICS_TOKEN", "METRICS_TOKEN_FILE")


def load(**overrides: Any) -> Settings:
    """Settings of this process.

    Args:
        overrides: values that win over the environment (command line flags); None means "not given".
    Raises:
        SettingsError: every unusable value, each with its variable and what was expected.
    """
    try:
        for name, nearest in unknown().items():
            logger.warning("warning: %s is not a setting and has no effect%s", name, nearest and f"; is it {nearest}?")
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except (ValidationError, OSError, UnicodeDecodeError) as error:
        raise SettingsError(_problems(error)) from error


def unknown() -> dict[str, str]:
    """Variables of the environment and of `.env` that begin like a setting and are none, each with the nearest one."""
    variables = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {*OTHER_VARIABLES, *_secret_files()}
    given = {name.upper() for name in {*os.environ, *dotenv_values(".env", encoding="utf-8")}}
    strange = sorted(name for name in given if name.startswith(PREFIX) and name not in variables)
    return {name: next(iter(get_close_matches(name, variables, 1)), "") for name in strange}


def _secret_files() -> list[str]:
    return [f"{PREFIX}{name}_FILE".upper() for name in SECRET_NAMES]


def origins(**overrides: Any) -> dict[str, str]:
    """Where the effective value of each setting comes from: flag, environment, .env, secret file or default."""
    sources = (
        ("flag", {name for name, value in overrides.items() if value is not None}),
        ("environment", set(EnvSettingsSource(Settings)())),
        (".env", set(DotEnvSettingsSource(Settings)())),
        ("secret file", {name for name in SECRET_NAMES if os.environ.get(f"{PREFIX}{name}_FILE".upper())}),
    )
    return {
        name: next((origin for origin, given in sources if name in given), "default") for name in Settings.model_fields
    }


def _problems(error: ValidationError | OSError | UnicodeDecodeError) -> list[str]:
    if isinstance(error, OSError):
        return [f"a file of settings cannot be read: {error}"]
    if isinstance(error, UnicodeDecodeError):
        return [f".env is not UTF-8: {error.reason} at byte {error.start}"]
    return [
        f"{PREFIX}{'_'.join(map(str, problem['loc'])).upper() or 'settings'}: "
        + problem["msg"].removeprefix("Value error, ")
        for problem in error.errors(include_input=False, include_url=False)
    ]
