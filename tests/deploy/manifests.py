"""Reads the manifests, and says whether the settings in them are settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from metrics_app.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCKER, KUBERNETES, SYSTEMD = ROOT / "docker", ROOT / "kubernetes", ROOT / "systemd"

Manifest = dict[str, Any]


def documents(path: Path) -> list[Manifest]:
    """The documents of a YAML file."""
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


def kubernetes(folder: Path) -> Iterator[tuple[Path, Manifest]]:
    """Every object below a folder, but for what only kustomize reads."""
    for path in sorted(folder.rglob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from ((path, one) for one in documents(path))


def understood(environment: Mapping[str, object]) -> Settings:
    """The settings that these variables make; each must be one, with a value that is accepted.

    A file of secrets need not be there.
    """
    ours = {name: str(value) for name, value in environment.items() if name.startswith(PREFIX)}
    names = {name.removeprefix(PREFIX).lower(): value for name, value in ours.items()}
    known = Settings.model_fields.keys()
    unknown = {name for name in names if name not in known and name.removesuffix("_file") not in known}
    assert not unknown, f"no settings: {unknown}"
    values = {name: value for name, value in names.items() if name in known}
    return Settings(_env_file=None, **values)  # type: ignore[call-arg, arg-type] # pydantic-settings' own argument
