"""Each example is a valid message of the type that its folder names."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from tinyvex.wire import codec, messages, schema

FOLDER = schema.FOLDER / "examples"
EXAMPLES = sorted(FOLDER.glob("*/*.json"))
DOCUMENT: dict[str, Any] = json.loads((schema.FOLDER / "schema.json").read_text(encoding="utf-8"))
REQUESTS = {method.request.__name__ for method in schema.METHODS.values()}
FROM_SERVER = {kind.__name__ for kind in schema.NOTIFICATIONS.values()} | {"SuccessResponse", "ErrorResponse"}


def names(paths: list[Path]) -> list[str]:
    return [f"{path.parent.name}/{path.stem}" for path in paths]


def validator(name: str) -> jsonschema.Draft202012Validator:
    """Create a validator for one definition."""
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": DOCUMENT["$defs"]})


@pytest.mark.parametrize("path", EXAMPLES, ids=names(EXAMPLES))
def test_an_example_fits_the_schema(path: Path) -> None:
    """The schema and this package's own decoder accept each example."""
    text = path.read_bytes()
    validator(path.parent.name).validate(json.loads(text))
    msgspec.json.decode(text, type=getattr(messages, path.parent.name))


@pytest.mark.parametrize("path", EXAMPLES, ids=names(EXAMPLES))
def test_an_example_has_only_fields_of_the_schema(path: Path) -> None:
    """Encoding an example again loses no field: an unknown field would be a typing error."""
    text = path.read_bytes()
    again = msgspec.json.encode(msgspec.json.decode(text, type=getattr(messages, path.parent.name)))
    assert includes(json.loads(again), json.loads(text))


def includes(whole: Any, part: Any) -> bool:
    """Return whether everything in `part` is in `whole`."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and includes(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(includes, whole, part))
    return bool(whole == part)


@pytest.mark.parametrize("path", EXAMPLES, ids=names(EXAMPLES))
def test_an_example_reads_like_any_frame(path: Path) -> None:
    """Complete messages pass the codec of the sockets."""
    if path.parent.name in REQUESTS:
        assert type(codec.decode_request(path.read_bytes())).__name__ == path.parent.name
    elif path.parent.name in FROM_SERVER:
        assert codec.decode_server_message(path.read_bytes()) is not None


def test_every_message_has_an_example() -> None:
    """Requests, results, notifications, responses and modifications all have an example."""
    results = {method.result.__name__ for method in schema.METHODS.values()}
    modifications = {"QueryUpdated", "QueryFailed", "QueryUnchanged", "QueryRemoved"}
    assert {path.parent.name for path in EXAMPLES} >= REQUESTS | results | FROM_SERVER | modifications


def test_errors_in_examples_are_those_of_the_table() -> None:
    """Code, name, fault and retry agree with `errors.json`."""
    table = {row["name"]: row for row in json.loads((schema.FOLDER / "errors.json").read_text())["errors"]}
    in_examples = [error for path in EXAMPLES for error in errors_in(json.loads(path.read_bytes()))]
    assert in_examples
    for error in in_examples:
        row, data = table[error["data"]["name"]], error["data"]
        assert (error["code"], data["fault"], data["retry"]) == (row["code"], row["fault"], row["retry"])


def errors_in(part: Any) -> list[dict[str, Any]]:
    """Yield all error objects in a message."""
    if isinstance(part, list):
        return [error for element in part for error in errors_in(element)]
    if not isinstance(part, dict):
        return []
    if part.keys() >= {"code", "message", "data"}:
        return [part]
    return [error for element in part.values() for error in errors_in(element)]
