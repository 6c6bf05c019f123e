"""JSON schemas of annotations."""

from typing import Any

import msgspec
import pytest

import tinyvex as tv
from tinyvex.functions.schema.document import DocumentMapping
from tinyvex.functions.schema.json_schema import json_schema


@tv.table("letters")
class Letter(tv.Document):
    text: str
    stars: tv.Int64 = tv.Int64(0)
    seal: bytes = b""


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (int, {"type": "integer"}),
        (tv.Id[Letter], {"type": "string", "format": "tinyvex-id", "tables": ["letters"]}),
        (tv.Id, {"type": "string", "format": "tinyvex-id"}),
        (tv.Rows[int], {"type": "array", "items": {"type": "integer"}}),
        (tv.Rows, {"type": "array"}),
        (list[tv.Rows[int]], {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}),
        (dict[str, Any], {"type": "object"}),
        (DocumentMapping, {"type": "object"}),
        (None, {"type": "null"}),
    ],
)
def test_schemas(kind: Any, schema: dict[str, Any]) -> None:
    """Annotations are described as JSON schema, Tinyvex's types included."""
    assert json_schema(kind) == schema


def test_schema_of_an_optional_id() -> None:
    """Unions are described member by member."""
    members = json_schema(tv.Id[Letter] | None)["anyOf"]
    assert {"type": "null"} in members
    assert {"type": "string", "format": "tinyvex-id", "tables": ["letters"]} in members


def test_schema_of_a_page() -> None:
    """A page is described with its rows' class."""
    schema = json_schema(tv.Page[Letter])
    assert schema["$ref"] == "#/$defs/Page_Letter_"
    page = schema["$defs"]["Page_Letter_"]
    assert page["properties"]["items"] == {"type": "array", "items": {"$ref": "#/$defs/Letter"}}
    assert "Letter" in schema["$defs"]


def test_schema_of_int64() -> None:
    """An `Int64` is described by its wrapper, also as the default of a field."""
    assert json_schema(Letter)["$defs"]["Letter"]["properties"]["stars"]["required"] == ["$integer"]


def test_schema_of_bytes() -> None:
    """Bytes are described as their wrapper at any depth."""
    wrapper = {"$bytes": {"type": "string", "contentEncoding": "base64"}}
    assert json_schema(list[bytes])["items"]["properties"] == wrapper
    assert "$bytes" in json_schema(Letter)["$defs"]["Letter"]["properties"]["seal"]["properties"]


def test_unknown_classes_have_no_schema() -> None:
    """A class that msgspec does not know cannot be described."""
    with pytest.raises(TypeError):
        json_schema(msgspec)
