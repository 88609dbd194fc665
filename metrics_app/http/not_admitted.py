"""Why a request is not let in.

Called by `access`, `tokens` and `query.keys`.

    MetricsError
    |- InvalidHeaderError            400   a header is not ASCII
    |- UnauthorizedError             401   a token is needed
    |- ForbiddenError                403   the token, or the page that asks, may not do that
    `- MisdirectedError              421   the Host header names another service
"""

from __future__ import annotations

from metrics_app.errors import MetricsError


class InvalidHeaderError(MetricsError):
    """A header with bytes that no header may have."""

    status = 400
    title = "Malformed header"

    def __init__(self, name: str) -> None:
        super().__init__(f"header {name}: expected ASCII")


class UnauthorizedError(MetricsError):
    """A request without a token that is known."""

    status = 401
    title = "A token is needed"

    def __init__(self, shown: bool) -> None:
        super().__init__(
            "the token is not known" if shown else "expected a header `Authorization: Bearer <token>`, or a certificate"
        )

    def headers(self) -> dict[str, str]:
        """How to show one (RFC 6750)."""
        return {"WWW-Authenticate": "Bearer"}


class ForbiddenError(MetricsError):
    """A request that its sender, or the page in which it was made, may not make."""

    status = 403
    title = "Not allowed"


class MisdirectedError(MetricsError):
    """A request for a host that this service is not."""

    status = 421
    title = "Another host"

    def __init__(self, host: str) -> None:
        super().__init__(f"Host {host[:100]!r} is not this service; METRICS_ALLOWED_HOSTS has its further names")
