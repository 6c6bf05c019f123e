"""JSON schemas of annotations."""

import enum
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
        (list[object], {"type": "array"}),
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


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Code(enum.Enum):
    LOST = "l"
    FOUND = "f"


class Colour(enum.Enum):
    RED = "red"


class Shelf(msgspec.Struct):
    level: Level
    codes: dict[str, Code] | None = None
    above: "Shelf | None" = None


@pytest.mark.parametrize("kind", [Level, list[Level], Level | None, Shelf, dict[str, tuple[Shelf, ...]]])
def test_members_of_an_enumeration_have_their_names(kind: Any) -> None:
    """In the order of the values, also inside classes, which may contain themselves."""
    assert json_schema(kind)["$defs"]["Level"] == {
        "title": "Level",
        "enum": [1, 2],
        "x-enum-varnames": ["LOW", "HIGH"],
    }


def test_names_that_the_values_show_are_left_out() -> None:
    """A member `RED` of the value `red` needs no name; a member `LOST` of the value `l` does."""
    assert "x-enum-varnames" not in json_schema(list[Colour])["$defs"]["Colour"]
    assert json_schema(Shelf)["$defs"]["Code"]["x-enum-varnames"] == ["FOUND", "LOST"]


def test_unknown_classes_have_no_schema() -> None:
    """A class that msgspec does not know cannot be described."""
    with pytest.raises(TypeError):
        json_schema(msgspec)
