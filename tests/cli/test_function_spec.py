"""`tinyvex function-spec` describes an app without starting it."""

import json
from pathlib import Path

import pytest

from tinyvex.cli.main import run

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"


def test_functions_are_listed_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each: kind, path, arguments; those with a default in brackets."""
    assert run(["function-spec", str(APP)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "query             shelf:pages(title, [factor])" in lines
    assert "internal mutation shelf:add_many(count)" in lines


def test_schemas_are_listed_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has the schemas of arguments and result."""
    assert run(["function-spec", str(APP), "--format", "json"]) == 0
    functions = {entry["path"]: entry for entry in json.loads(capsys.readouterr().out)["functions"]}
    spec = functions["shelf:pages"]
    assert (spec["kind"], spec["internal"]) == ("query", False)
    assert spec["arguments"]["required"] == ["title"]
    assert spec["arguments"]["properties"]["title"] == {"type": "string"}
    assert spec["result"] == {"type": "integer"}


def test_an_app_that_does_not_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 13, with file and line."""
    (tmp_path / "bad.py").write_text("import nothing_like_that\n")
    assert run(["function-spec", str(tmp_path / "bad.py")]) == 13
    assert "bad.py:1" in capsys.readouterr().err
