"""Writes into openapi.json what follows from the code: the bodies of `POST /samples` and every number that is a limit.

Called by `make docs` and by `tests/test_docs.py`. Paths, answers and descriptions are kept by hand; the types, limits,
defaults and required members of what is sent come from the types that decode it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import defstruct

from metrics_app.settings import Settings
from metrics_app.stats.scale6 import END_BUCKET, FIRST_BUCKET
from metrics_app.system.capacity import Capacity
from metrics_app.system.condition import SystemState
from metrics_app.wire.chunk import FIRST_MAX
from metrics_app.wire.columnar_body import Columnar, HistogramBody, SeriesBody
from metrics_app.wire.gathering import LISTED
from metrics_app.wire.json_body import Id, Pair, Sample, Timestamp, Value
from metrics_app.wire.metric_key import MAX_KEY_BYTES
from metrics_app.wire.msgpack_table import TableBody

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "metrics_app" / "http" / "openapi.json"
Schema = dict[str, Any]

# the decoders take values, histograms and series as raw bytes first; these are what those are then decoded as
DECODED: dict[tuple[type, str], Any] = {
    (HistogramBody, "min"): Value,  # by `packed`
    (HistogramBody, "max"): Value,
    (SeriesBody, "values"): list[Value],
    (SeriesBody, "histogram"): HistogramBody,
    (Columnar, "series"): list[dict[str, Any]],
    (TableBody, "keys"): list[str],
    (TableBody, "values"): list[Value],
    (TableBody, "index"): list[Annotated[int, msgspec.Meta(ge=0)]] | None,
    (TableBody, "timestamps"): list[float | None] | None,
    (TableBody, "ids"): list[Id] | None,
    (TableBody, "numbers"): list[Annotated[int, msgspec.Meta(ge=0, le=FIRST_MAX)]] | None,
}
# a member that is a part of its own: what it is decoded as, and the part
PARTS: dict[str, Any] = {"Value": Value, "Timestamp": Timestamp, "Histogram": HistogramBody}
BODIES: dict[str, type] = {
    "Sample": Sample,
    "Series": SeriesBody,
    "Columns": Columnar,
    "Histogram": HistogramBody,
    "Table": TableBody,
}
KEPT = ("description", "example", "examples")


def written() -> str:
    """The document as it should be, from the one that is there."""
    document: Schema = json.loads(DOCUMENT.read_text())
    document["info"]["version"] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    parts = document["components"]["schemas"]
    parts["Key"]["maxLength"] = MAX_KEY_BYTES
    parts["Value"] = _with_words(parts["Value"], _schema_of(Value))
    parts["Timestamp"] = _with_words(parts["Timestamp"], _schema_of(Timestamp))
    for name, body in BODIES.items():
        parts[name] = _object(parts.get(name, {}), body)
    parts["Pair"] = _with_words(parts["Pair"], {"oneOf": _tuples(Pair, ("key", "value", "timestamp"))})
    parts["Columns"]["properties"]["series"]["items"] = {"$ref": "#/components/schemas/Series"}
    parts["Series"]["oneOf"] = [{"required": [name]} for name in ("values", "histogram")]
    parts["Histogram"]["properties"]["offset"] |= {"minimum": FIRST_BUCKET, "maximum": END_BUCKET - 1}
    parts["Receipt"]["properties"]["rejected"]["maxItems"] = LISTED
    parts |= msgspec.json.schema_components([SystemState, Capacity], ref_template="#/components/schemas/{name}")[1]
    document["components"]["parameters"]["Limit"]["schema"]["maximum"] = Settings.model_fields["max_page"].default
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _schema_of(kind: Any) -> Schema:
    """msgspec's, without references and titles."""
    schema = msgspec.json.schema(kind)
    named = schema.pop("$defs", {})
    if "$ref" in schema:
        schema = named[schema["$ref"].rpartition("/")[2]]
    schema = {name: part for name, part in schema.items() if name not in ("title", "description")}
    return {name: int(part) if isinstance(part, float) else part for name, part in schema.items()}


def _tuples(body: type, members: Sequence[str]) -> list[Schema]:
    """One for each length that is taken: generators of clients make a tuple type of each, and of no range."""
    array, places = _schema_of(body), [_member(body, name, {}, {}) for name in members]
    lengths = range(array["minItems"], array["maxItems"] + 1)
    return [
        {"type": "array", "prefixItems": places[:length], "minItems": length, "maxItems": length} for length in lengths
    ]


def _object(kept: Schema, body: type) -> Schema:
    """The schema of a body, with the words that were there."""
    fields = msgspec.structs.fields(body)
    typed = defstruct(
        body.__name__,
        [
            (field.name, DECODED.get((body, field.name), field.type))
            if field.required
            else (field.name, DECODED.get((body, field.name), field.type), _default(field))
            for field in sorted(fields, key=lambda field: not field.required)
        ],
        forbid_unknown_fields=True,
    )
    schema = _with_words(kept, _schema_of(typed))
    members, known = schema["properties"], kept.get("properties", {})
    schema["properties"] = {
        field.name: _member(body, field.name, members[field.name], known.get(field.name, {})) for field in fields
    }
    return schema


def _default(field: Any) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return msgspec.UNSET if isinstance(field.default, msgspec.Raw) else field.default


def _member(body: type, name: str, made: Schema, kept: Schema) -> Schema:
    """A member: a reference where it is a part of its own, else what was made, with the words that were there."""
    if name == "key":
        return {"$ref": "#/components/schemas/Key"}
    kind = DECODED.get((body, name), next(field.type for field in msgspec.structs.fields(body) if field.name == name))
    for part, of_part in PARTS.items():
        if kind == of_part:
            return {"$ref": f"#/components/schemas/{part}"}
    schema = {key: value for key, value in made.items() if key != "default" or value is not None}
    if kind == list[Value]:
        schema["items"] = {"$ref": "#/components/schemas/Value"}
    return _with_words(kept, schema)


def _with_words(kept: Schema, made: Schema) -> Schema:
    words = {key: kept[key] for key in KEPT if key in kept}
    return {"type": made["type"], **words, **made} if "type" in made else {**words, **made}


if __name__ == "__main__":
    DOCUMENT.write_text(written())
