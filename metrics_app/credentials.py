"""The token that requests show, from an argument, the environment or a file.

Called by `client`, `cli.drill`, `cli.query`, `cli.send` and `verify.plan`.

A file is read at each request: a token is replaced without a restart. While it cannot be read, its last token is shown.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750


class Credentials:
    """A token, or none.

    Args:
        token: the token itself; empty: that of the file.
        file: where it is; None: nowhere.

    Raises:
        ValueError: the token could be no header; what it was is not repeated.
    """

    def __init__(self, token: str = "", file: Path | str | None = None) -> None:
        if token and not _TOKEN.fullmatch(token):
            raise ValueError("token: expected letters, digits and ._~+/- as `metrics-app token new` prints them")
        self._token = token
        self._file = None if token or file is None else Path(file)

    @classmethod
    def given(cls, token: str | None = None, file: Path | str | None = None) -> Credentials:
        """Those given, else METRICS_TOKEN, else METRICS_TOKEN_FILE of the environment, else none."""
        if token is not None or file is not None:
            return cls(token or "", file)
        return cls(os.environ.get("METRICS_TOKEN", "").strip(), os.environ.get("METRICS_TOKEN_FILE") or None)

    def headers(self) -> dict[str, str]:
        """What is added to a request."""
        if self._file is not None:
            try:
                found = self._file.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError):
                found = ""
            if _TOKEN.fullmatch(found):
                self._token = found
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}


NO_CREDENTIALS = Credentials()
