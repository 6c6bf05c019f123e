"""The class whose construction failed is found in the source, which is parsed once."""

from __future__ import annotations

import ast
import linecache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tinyvex.functions.run.construction_errors import explain_construction

SOURCE = "def construct(**fields):\n    return {name}(**fields)\n"


class Card(msgspec.Struct, kw_only=True):
    """A class with a field."""

    channel: str


def explained(path: Path, **names: Any) -> str | None:
    """Return the explanation of a wrong construction that a file's function attempts."""
    exec(compile(path.read_text(), str(path), "exec"), names)
    with pytest.raises(TypeError) as raised:
        names["construct"](chanel="a")
    return explain_construction(raised.value)


def test_a_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose arguments cause the error a hundred times costs one parse."""
    parsed = []
    parse = ast.parse

    def counted(source: str, *args: Any, **kwargs: Any) -> ast.AST:
        parsed.append(source)
        return parse(source, *args, **kwargs)

    monkeypatch.setattr(ast, "parse", counted)
    path = tmp_path / "app.py"
    path.write_text(SOURCE.format(name="Card") + f"# {tmp_path}\n")
    messages = {explained(path, Card=Card) for _ in range(100)}
    assert messages == {"`Card` has no field `chanel`; did you mean `channel`?"}
    assert len(parsed) == 1


def test_a_changed_file_is_parsed_again(tmp_path: Path) -> None:
    """After a reload the same position may call another class."""

    class Deck(msgspec.Struct):
        size: int = 0

    path = tmp_path / "app.py"
    for name in ("Card", "Deck"):
        path.write_text(SOURCE.format(name=name))
        linecache.checkcache(str(path))
        assert (explained(path, Card=Card, Deck=Deck) or "").startswith(f"`{name}` has no field")


def test_a_file_that_is_not_python_any_more_explains_nothing(tmp_path: Path) -> None:
    """It was changed while the app ran; msgspec's own message remains."""
    path = tmp_path / "app.py"
    path.write_text(SOURCE.format(name="Card"))
    names: dict[str, Any] = {"Card": Card}
    exec(compile(path.read_text(), str(path), "exec"), names)
    path.write_text("def")
    with pytest.raises(TypeError) as raised:
        names["construct"](chanel="a")
    assert explain_construction(raised.value) is None
