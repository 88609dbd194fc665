"""Makes an HTTP response of an answer: JSON or CSV, with an ETag, or 304 for a client that has it already.

Called by `compared`, `exported`, `federated`, `keys`, `ranked_keys`, `statistics` and `views`.

A closed window is a web resource: a strong ETag, the same from every worker and another after a late correction, and a
minute in caches, not for ever: a correction must be seen. What is open or stale is out of date at once. `as_of`,
`stale` and `role` describe the answering, not the rows, and are left out of the tag.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from metrics_app.http.problems import json_reply
from metrics_app.query.question import FORMAT

JSON = "json"
CSV = "csv"
FORMATS = (JSON, CSV)
TYPES = {JSON: "application/json", CSV: "text/csv"}

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CSV_TYPE = "text/csv; charset=utf-8; header=present"
VARY = {"Vary": "Accept"}
OPEN = {"Cache-Control": "no-store"}
CLOSED = "public, max-age=60"
GZIP = "gzip"
WORTH_PACKING = 1024  # bytes; a shorter one is one packet anyway

_OF_THE_ANSWERING = ("as_of", "stale", "role")
_FORMULA = ("=", "+", "-", "@", "'")

Table = Iterable[Sequence[Any]]
Others = Mapping[str, Callable[[], dict[str, Any] | bytes]]


class Sheet(NamedTuple):
    """An answer before it has a form.

    Attributes:
        document: the JSON.
        table: makes the lines of the CSV, the names of the columns first.
        lasting: whether it may be tagged and kept: final, and not stale.
        next: query string of the next page; None when this is the last.
        others: makes it in other formats, as JSON or as text for Prometheus.
    """

    document: dict[str, Any]
    table: Callable[[], Table]
    lasting: bool
    next: str | None = None
    others: Others = MappingProxyType({})


def format_of(given: dict[str, str], accept: str) -> str:
    """What `format` says, else what the Accept header likes better; JSON when it does not say."""
    return given.get(FORMAT) or (CSV if _liking(accept, TYPES[CSV]) > _liking(accept, TYPES[JSON]) else JSON)


def respond(request: web.Request, sheet: Sheet, form: str) -> web.Response:
    """The response, or 304 when the request names its tag."""
    headers = {**VARY, **_caching(sheet, form)}
    if sheet.next is not None:
        headers["Link"] = f'<{request.rel_url.raw_path}?{sheet.next}>; rel="next"'
    if "ETag" in headers and is_known(request, headers["ETag"]):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return _written(sheet, form, headers)


def reply_of(sheet: Sheet, form: str) -> web.Response:
    """The response to a request that names no tag, of an answer without a next page."""
    return _written(sheet, form, {**VARY, **_caching(sheet, form)})


def _written(sheet: Sheet, form: str, headers: dict[str, str]) -> web.Response:
    if form == CSV:
        return web.Response(body=csv_of(sheet.table()), headers={**headers, "Content-Type": CSV_TYPE})
    body = sheet.others[form]() if form in sheet.others else sheet.document
    if isinstance(body, bytes):
        return web.Response(body=body, headers={**headers, "Content-Type": TEXT_TYPE})
    return json_reply(body, headers=headers)


def packed(request: web.Request, reply: web.Response) -> web.Response:
    """The reply, gzipped if the client takes that and it is worth it; its tag is then a weak one.

    A strong tag stands for the same bytes, and these differ; the answer to `If-None-Match` is the same for both.
    """
    reply.headers["Accept-Ranges"] = "none"
    reply.headers["Vary"] = ", ".join(filter(None, (reply.headers.get("Vary"), "Accept-Encoding")))
    if _liking(request.headers.get("Accept-Encoding", ""), GZIP) == 0.0:
        return reply
    is_worth_it = isinstance(reply.body, bytes) and len(reply.body) >= WORTH_PACKING
    if is_worth_it:
        reply.enable_compression(web.ContentCoding.gzip)
    if is_worth_it or reply.status == HTTPStatus.NOT_MODIFIED:
        _weaken_tag(reply)
    return reply


def _weaken_tag(reply: web.Response) -> None:
    if reply.headers.get("ETag", "W/").startswith('"'):
        reply.headers["ETag"] = f"W/{reply.headers['ETag']}"


def is_known(request: web.Request, tag: str) -> bool:
    """Whether If-None-Match names the tag, weakly or strongly, or any by *."""
    return bool({each.value for each in request.if_none_match or ()} & {"*", tag.strip('"')})


def csv_of(table: Table) -> bytes:
    """RFC 4180: CRLF, quotes where needed; null is an empty field, a truth value is true or false.

    A text that a spreadsheet would take for a formula, or that begins with an apostrophe, gets one before it.
    """
    text = io.StringIO()
    csv.writer(text).writerows([_field(each) for each in line] for line in table)
    return text.getvalue().encode()


def tag_of(document: dict[str, Any], form: str) -> str:
    """The strong ETag of an answer in one form."""
    of_the_rows = {name: member for name, member in document.items() if name not in _OF_THE_ANSWERING}
    return f'"{blake2b(msgspec.json.encode((form, of_the_rows)), digest_size=16).hexdigest()}"'


def _caching(sheet: Sheet, form: str) -> dict[str, str]:
    return {"ETag": tag_of(sheet.document, form), "Cache-Control": CLOSED} if sheet.lasting else OPEN


def _field(member: Any) -> Any:
    if isinstance(member, bool):
        return "true" if member else "false"
    return f"'{member}" if isinstance(member, str) and member.startswith(_FORMULA) else member


def _liking(accept: str, kind: str) -> float:
    """The q of a media type by the most specific range that takes it; 0 for one that none takes."""
    likings = {}
    for each in accept.lower().split(","):
        name, *options = (part.strip() for part in each.split(";"))
        likings[name] = next((_number(option[2:]) for option in options if option.startswith("q=")), 1.0)
    family = kind.partition("/")[0]
    return next((likings[name] for name in (kind, f"{family}/*", "*/*") if name in likings), 0.0)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
