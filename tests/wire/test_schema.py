"""The generator of `protocol/schema.json` and `protocol/errors.json`."""

import json
from pathlib import Path

import pytest

from tinyvex import errors
from tinyvex.wire import schema


def test_writing_makes_check_pass(tmp_path: Path) -> None:
    """The check fails before the files are written and passes afterwards."""
    assert schema.main(["--check"], tmp_path) == 1
    assert schema.main([], tmp_path) == 0
    assert schema.main(["--check"], tmp_path) == 0


def test_a_changed_file_is_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that was edited by hand is named."""
    schema.main([], tmp_path)
    (tmp_path / "errors.json").write_text("{}")
    assert schema.main(["--check"], tmp_path) == 1
    assert "errors.json is stale" in capsys.readouterr().err


def test_every_numbered_error_is_in_the_table() -> None:
    """Every error with a number has a row with its meaning."""
    table = json.loads(schema.errors_text())["errors"]
    assert [row["code"] for row in table] == [kind.number for kind in errors.error_classes()]
    assert all(row["meaning"] for row in table)


def test_every_method_has_a_request_and_a_result() -> None:
    """Both types are defined in the schema."""
    document = json.loads(schema.schema_text())
    for method in document["methods"].values():
        assert {method["request"], method["result"]} <= set(document["$defs"])


def test_jsonrpc_is_required_everywhere() -> None:
    """No message is valid without `jsonrpc`."""
    document = json.loads(schema.schema_text())
    names = [method["request"] for method in document["methods"].values()]
    names += [entry["notification"] for entry in document["notifications"].values()]
    for name in [*names, "SuccessResponse", "ErrorResponse"]:
        assert "jsonrpc" in document["$defs"][name]["required"], name
