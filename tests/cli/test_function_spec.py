"""`tinyvex function-spec` describes an app without starting it."""

import json
from pathlib import Path

import pytest

from tests.support.process import ServerProcess
from tinyvex.cli.main import run

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"


def test_functions_are_listed_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each: kind, path and arguments; optional arguments in brackets."""
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


def test_a_member_of_an_enumeration_can_be_a_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The schema has its value."""
    (tmp_path / "app.py").write_text(
        "import enum\nimport tinyvex as tv\nclass Colour(enum.Enum):\n    RED = 'red'\n"
        "@tv.query\ndef find(ctx: tv.QueryCtx, colour: Colour = Colour.RED) -> int:\n    return 1\n"
    )
    assert run(["function-spec", str(tmp_path / "app.py"), "--format", "json"]) == 0
    [spec] = json.loads(capsys.readouterr().out)["functions"]
    assert spec["arguments"]["properties"]["colour"]["default"] == "red"


def test_annotations_may_be_strings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are resolved in the app's modules, its own imports included."""
    (tmp_path / "shapes.py").write_text(
        "from __future__ import annotations\nimport tinyvex as tv\n"
        "@tv.table('ticks')\nclass Tick(tv.Document):\n    n: int\n    next: tv.Id[Tick] | None = None\n"
    )
    (tmp_path / "app.py").write_text(
        "from __future__ import annotations\nimport tinyvex as tv\nfrom shapes import Tick\n"
        "@tv.query\ndef ticks(ctx: tv.QueryCtx, first: int | None = None) -> list[Tick]:\n    return []\n"
    )
    assert run(["function-spec", str(tmp_path / "app.py"), "--format", "json"]) == 0
    [spec] = json.loads(capsys.readouterr().out)["functions"]
    assert list(spec["arguments"]["properties"]) == ["first"]
    assert spec["result"]["type"] == "array"


def test_a_server_marks_queries_that_read_the_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A query that read `ctx.now` when it ran is marked, because its result is as old as its data."""
    app = tmp_path / "clock.py"
    app.write_text(
        "import tinyvex as tv\n@tv.query\ndef now(ctx: tv.QueryCtx) -> int:\n    return ctx.now\n"
        "@tv.table('ticks')\nclass Tick(tv.Document):\n    n: int\n"
        "@tv.query\ndef ticks(ctx: tv.QueryCtx) -> tv.Rows[Tick]:\n    return ctx.db.query(Tick).collect()\n"
    )
    with ServerProcess(app, tmp_path / "data"):
        for path in ("clock:now", "clock:ticks"):
            assert run(["run", path, "--data", str(tmp_path / "data")]) == 0
        capsys.readouterr()
        assert run(["function-spec", str(app), "--data", str(tmp_path / "data")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "query             clock:now()  reads the time",
        "query             clock:ticks()",
    ]


def test_an_app_that_does_not_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 13, with file and line."""
    (tmp_path / "bad.py").write_text("import nothing_like_that\n")
    assert run(["function-spec", str(tmp_path / "bad.py")]) == 13
    assert "bad.py:1" in capsys.readouterr().err
