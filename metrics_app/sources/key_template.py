"""Makes a metric key of what is known of an event: `{service.name} {http.route|name}`.

Called by `spans` and `collector.otlp`.

A name in braces stands for its text. With `|` the first name that is there is taken. What is outside of braces stands
for itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_PLACE = re.compile(r"\{([^{}]+)\}")


class MissingNameError(ValueError):
    """None of the names of a place is there."""


class KeyTemplate(NamedTuple):
    """A template, taken apart.

    Attributes:
        texts: what stands between the places, before the first and after the last one too.
        places: the names of each place, the preferred one first.
    """

    texts: tuple[str, ...]
    places: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, template: str) -> KeyTemplate:
        """The template that a text says; it matches `accepted.KEY_TEMPLATE`."""
        parts = _PLACE.split(template)
        return cls(tuple(parts[::2]), tuple(tuple(place.split("|")) for place in parts[1::2]))

    @property
    def names(self) -> frozenset[str]:
        """All names in it."""
        return frozenset(name for place in self.places for name in place)

    def filled(self, known: Mapping[str, str]) -> str:
        """The key.

        Raises:
            MissingNameError: none of the names of a place is known, or what is known is empty.
        """
        found = [self._text(place, known) for place in self.places]
        return self.texts[0] + "".join(f"{each}{text}" for each, text in zip(found, self.texts[1:], strict=True))

    @staticmethod
    def _text(place: tuple[str, ...], known: Mapping[str, str]) -> str:
        for name in place:
            if text := known.get(name):
                return text
        raise MissingNameError(f"key: expected {' or '.join(place)}, which is not there")
