"""Prints what an environment holds as a software bill of materials (CycloneDX 1.6).

    python requirements/sbom.py > sbom.cdx.json

Run by docker/Dockerfile with the Python of the image, which so carries its own bill. What Debian brings is not in it.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import Distribution, distributions
from typing import Any


def bill(found: list[Distribution]) -> dict[str, Any]:
    """The document: each distribution once, by name; the same for the same environment."""
    named = {normal(one.metadata["Name"]): one for one in found}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [component(name, named[name]) for name in sorted(named)],
    }


def component(name: str, one: Distribution) -> dict[str, Any]:
    """One entry; with its licence where the distribution names one in SPDX's words."""
    entry: dict[str, Any] = {"type": "library", "name": name, "version": one.version}
    entry["purl"] = entry["bom-ref"] = f"pkg:pypi/{name}@{one.version}"
    expression = one.metadata.get("License-Expression")
    return entry | ({"licenses": [{"expression": expression}]} if expression else {})


def normal(name: str) -> str:
    """A name as package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    print(json.dumps(bill(list(distributions())), indent=1))
