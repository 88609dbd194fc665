"""Runs the app of one framework and compares the keys: `python -m tests.frameworks.check flask`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from tests.frameworks.sending import Ledger


def differences(name: str) -> list[str]:
    """What is not as expected, a line each."""
    app: Any = import_module(f"tests.frameworks.apps.{name}")
    ledger = Ledger()
    app.run(ledger)
    expected = list(app.SENT.values()) * getattr(app, "TIMES", 1)
    return [] if ledger.keys == expected else _told(app.SENT, expected, ledger.keys)


def _told(sent: Mapping[str, str], expected: list[str], recorded: list[str]) -> list[str]:
    if len(recorded) != len(expected):
        return [f"expected {expected}, recorded {recorded}"]
    asked = [*sent] * (len(expected) // len(sent))
    return [
        f"{request}: expected {wanted}, recorded {key}"
        for request, wanted, key in zip(asked, expected, recorded, strict=True)
        if wanted != key
    ]


if __name__ == "__main__":
    found = differences(sys.argv[1])
    sys.exit("\n".join(found) or 0)
