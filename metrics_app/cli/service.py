"""One request to a running service, for the commands that make a single one."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
import typer
import urllib3

from metrics_app.errors import ClientError, reason

TIMEOUT_S = 10.0  # above the service's own deadlines, so that its answer is seen rather than our timeout

Url = Annotated[str, typer.Option(envvar="METRICS_URL", help="Where the service is.")]
DEFAULT_URL = "http://127.0.0.1:8080"


class Reply(NamedTuple):
    """A status and the decoded JSON document that came with it."""

    status: int
    document: dict[str, Any]


def ask(method: str, url: str, body: bytes | None = None, content_type: str = "application/json") -> Reply:
    """The reply of the service, whatever its status.

    Raises:
        ClientError: nobody answered, or with something other than a JSON document.
    """
    timeout = urllib3.Timeout(TIMEOUT_S)
    try:
        reply = urllib3.request(
            method, url, body=body, headers={"Content-Type": content_type}, timeout=timeout, retries=False
        )
        return Reply(reply.status, msgspec.json.decode(reply.data, type=dict[str, Any]))
    except urllib3.exceptions.HTTPError as error:
        raise ClientError(f"no answer from {url}: {reason(error)}") from error
    except msgspec.MsgspecError as error:
        raise ClientError(f"{url} did not answer with JSON, so it is not this service") from error
