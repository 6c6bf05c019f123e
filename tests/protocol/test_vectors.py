"""The vectors for values, order, ids and refused messages, and the schema of all vectors."""

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.sessions import VECTORS
from tests.support.values import compare
from tinyvex import errors
from tinyvex.values.codec import decode, encode
from tinyvex.values.ids import DocumentId, parse_id
from tinyvex.values.key_encoding import encode_part
from tinyvex.values.types import MISSING
from tinyvex.wire import codec


def vector(name: str) -> dict[str, Any]:
    """Read one file."""
    content: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return content


def cases(name: str) -> list[Any]:
    """Return its cases as parameters."""
    return [pytest.param(case, id=str(case.get("description", case.get("text")))) for case in vector(name)["cases"]]


def text_of(case: dict[str, Any]) -> bytes:
    """Return the text that a case describes."""
    if "base64" in case:
        return base64.b64decode(case["base64"])
    if "repeat" in case:
        parts = case["repeat"]
        return str(parts["before"] + parts["piece"] * parts["count"] + parts["after"]).encode()
    return str(case.get("json", case.get("text"))).encode()


def error_named(name: str) -> type[errors.TinyvexError]:
    """Return the error class."""
    error: type[errors.TinyvexError] = getattr(errors, name)
    return error


@pytest.mark.parametrize("path", sorted(VECTORS.rglob("*.json")), ids=lambda path: path.stem)
def test_a_vector_has_the_shape_of_its_kind(path: Path) -> None:
    """Runners in other languages can rely on `vector.schema.json`."""
    schema = vector("vector.schema.json")
    if path.name == "vector.schema.json":
        jsonschema.Draft202012Validator.check_schema(schema)
        return
    kind = "session" if path.parent.name == "sessions" else path.stem
    definition = {"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]}
    jsonschema.Draft202012Validator(definition).validate(json.loads(path.read_bytes()))


@pytest.mark.parametrize("case", cases("values.json"))
def test_a_value(case: dict[str, Any]) -> None:
    """A value is read and written in canonical form, or refused with its path."""
    text = text_of(case)
    if "canonical" in case:
        expected = text if case["canonical"] is True else case["canonical"].encode()
        assert encode(decode(text)) == expected
        return
    with pytest.raises(error_named(case["error"])) as caught:
        decode(text)
    assert caught.value.data["path"] == case.get("path", caught.value.data["path"])


def test_the_order() -> None:
    """Neighbours are in order, by their key bytes, by the encoder and by an independent comparison."""
    rows = vector("order.json")["ascending"]
    values = [MISSING if "missing" in row else decode(row["json"]) for row in rows]
    assert [encode_part(value).hex() for value in values] == [row["key"] for row in rows]
    assert all(one["key"] < other["key"] for one, other in itertools.pairwise(rows))
    assert all(compare(one, other) < 0 for one, other in itertools.pairwise(values))


@pytest.mark.parametrize("case", cases("ids.json"))
def test_an_id(case: dict[str, Any]) -> None:
    """An id is read and written, or refused."""
    if "error" in case:
        with pytest.raises(errors.InvalidId):
            parse_id(case["text"])
        return
    document_id = DocumentId(case["table"], bytes.fromhex(case["internal"]))
    assert (parse_id(case["text"]), document_id.text) == (document_id, case["text"])


@pytest.mark.parametrize("case", cases("invalid.json"))
def test_a_message_to_be_refused(case: dict[str, Any]) -> None:
    """The codec reports the error, the id and the path."""
    with pytest.raises(errors.ProtocolError) as caught:
        codec.decode_request(text_of(case))
    assert (caught.value.name, caught.value.request_id) == (case["error"], case["id"])
    if "path" in case:
        assert caught.value.data["path"] == case["path"]
