"""The results document: machine facts, and a section for each thing measured."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).with_name("results.json")
QUICK_RESULTS = Path(__file__).with_name("results-quick.json")  # not kept: nothing in the docs comes from a quick run


def load(path: Path = RESULTS) -> dict[str, Any]:
    """The document; empty when there is none yet."""
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return document


def update(path: Path, sections: dict[str, Any], busy: float) -> None:
    """Replace these sections and the machine facts; the others stay as they are.

    Args:
        busy: processes that ran or wanted to before the benchmark began, which its figures suffer from.
    """
    known = load(path)
    busyness = known.get("busy", {}) | dict.fromkeys(sections, round(busy, 1))
    path.write_text(json.dumps(known | {"machine": machine(), "busy": busyness} | sections, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What a figure depends on."""
    return {
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def ratios(rates: dict[str, float], ours: str = "ours") -> dict[str, float]:
    """Ours divided by each of the others."""
    return {name: round(rates[ours] / rate, 1) for name, rate in rates.items() if name != ours}
