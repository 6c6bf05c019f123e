"""Messages for mistakes in an app: each names the wrong part and what to write instead."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tinyvex as tv
from tinyvex.errors import AppInvalid
from tinyvex.functions.app.loader import load_app
from tinyvex.functions.run.call import Call
from tinyvex.functions.run.failures import Failures
from tinyvex.testing import Database


@tv.table("cards", indexes={"by_channel": ["channel"]})
class Card(tv.Document):
    channel: str
    size: int = 0


class Loose(tv.Document):
    text: str


CALLS: dict[str, tuple[Callable[[Any, Any], object], str]] = {
    "a class to insert": (lambda db, _: db.insert(Card, {"channel": "a"}), r"write `ctx\.db\.insert\(Card\(field=value, …\)\)`"),
    "a mapping to insert": (lambda db, _: db.insert({"channel": "a"}), "a mapping needs the name of its table"),
    "a class without a table": (lambda db, _: db.insert(Loose(text="a")), r"decorate its class with `@tv\.table"),
    "a document to patch": (lambda db, card: db.patch(db.get(card), size=1), r"write its id, `document\.id`"),
    "fields in a mapping": (lambda db, card: db.patch(card, {"size": 1}), "takes the changed fields by name"),
    "a misspelt field": (lambda db, card: db.patch(card, sise=1), "unknown field; did you mean `size`"),
    "a document to replace": (lambda db, card: db.replace(db.get(card)), r"write `ctx\.db\.replace\(id, document\)`"),
    "a misspelt table": (lambda db, _: db.query("card"), "did you mean `cards`"),
    "a misspelt index": (lambda db, _: db.query(Card).with_index("by_chanel"), "did you mean `by_channel`"),
    "a misspelt field of an index": (
        lambda db, _: db.query(Card).with_index("by_channel").gt("chanel", "a"), "did you mean `channel`",
    ),
    "a misspelt method of a query": (lambda db, _: db.query(Card).collet(), "`Query` has no attribute `collet`; did you mean `collect`"),
    "a misspelt method of the database": (lambda db, _: db.insret(Card(channel="a")), "did you mean `insert`"),
    "text for a number": (lambda db, _: db.query(Card).take("5"), "`take` needs a number of documents, not .* `str`"),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_a_wrong_call_of_the_database(case: str) -> None:
    """The message names the remedy, or the name that was meant."""
    call, message = CALLS[case]
    with Database(Card) as db:
        card = db.mutation(lambda ctx: ctx.db.insert(Card(channel="a")))
        with pytest.raises(Exception, match=message):
            db.mutation(lambda ctx: call(ctx.db, card))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda card: card.chanel, "no attribute 'chanel'; did you mean `channel`"),
        (lambda card: setattr(card, "channel", "b"), r"documents are frozen: change one with `ctx\.db\.patch"),
    ],
    ids=["a misspelt attribute", "a change"],
)
def test_a_wrong_use_of_a_document(use: Callable[[Card], object], message: str) -> None:
    """In dev mode, the error that the client gets has a hint."""
    with pytest.raises(AttributeError) as raised:
        use(Card(channel="a"))
    error = Failures(reveal=True).to_error(raised.value, Call("m:f", b"{}"))
    with pytest.raises(tv.TinyvexError, match=message):
        raise error


class Point(msgspec.Struct, frozen=True):
    across: int
    down: int = 0


def constructed(cls: type, *args: object, **fields: object) -> object:
    """Construct an object of a class that a local name stands for."""
    return cls(*args, **fields)


@pytest.mark.parametrize(
    ("construct", "message"),
    [
        (lambda: Card(chanel="a"), "`Card` has no field `chanel`; did you mean `channel`?"),  # type: ignore[call-arg]
        (lambda: [str(Card(channel=str(Card(chanel="a"))))], "`Card` has no field `chanel`; did you mean `channel`?"),  # type: ignore[call-arg]
        (lambda: Card(size=1), "`Card` needs the field `channel`"),  # type: ignore[call-arg]
        (lambda: Card("a"), "`Card` takes fewer arguments by position; its fields are `channel`, `size`"),  # type: ignore[misc]
        (lambda: constructed(Card, chanel="a"), "`Card` has no field `chanel`; did you mean `channel`?"),
        (lambda: Point(1, don=2), "`Point` has no field `don`; did you mean `down`?"),  # type: ignore[call-arg]
        (lambda: {"Card": Card}["Card"](chanel="a"), None),
    ],
)
def test_a_wrong_construction_names_the_class(construct: Callable[[], object], message: str | None) -> None:
    """In dev mode the client reads it, and always the log; an expression other than a name is not looked up."""
    with pytest.raises((TypeError, AttributeError)) as raised:
        construct()
    error = Failures(reveal=True).to_error(raised.value, Call("m:f", b"{}"))
    if message is None:
        assert "`Card`" not in str(error)
    else:
        assert str(error).endswith(f"; {message}")
        assert "".join(traceback.format_exception(raised.value)).endswith(f"\n{message}\n")


HEAD = "import tinyvex as tv\nimport msgspec\n"
STRUCTS = "".join(f"class {name}(msgspec.Struct, frozen=True):\n    x: int\n" for name in "PQ")
CLASS = "class A(tv.Document):\n    x: int\n"

DECLARATIONS = {
    "parentheses": ("@tv.query()\ndef f(ctx: tv.QueryCtx) -> int: return 1\n", "write `@tv.query` without parentheses"),
    "a misspelt decorator": ("@tv.qeury\ndef f(ctx: tv.QueryCtx) -> int: return 1\n", "did you mean `query`"),
    "a misspelt option": (f"@tv.table('a', index={{}})\n{CLASS}", "`tv.table` has no option `index`; did you mean `indexes`"),
    "an object": ("@tv.table('a')\nclass A(tv.Document):\n    x: list[object]\n", r"`x\[\]`: `object` has no schema; use `typing.Any`"),
    "an id of a class without a table": (
        f"{CLASS}@tv.table('b')\nclass B(tv.Document):\n    a: tv.Id[A] | None = None\n",
        r"`a`: `tv\.Id\[A\]`: `A` is not a table; decorate its class",
    ),
    "such an id as an argument": (f"{CLASS}@tv.query\ndef f(ctx: tv.QueryCtx, a: tv.Id[A]) -> int: return 1\n", "`A` is not a table"),
    "a union of structs": (
        STRUCTS + "@tv.table('a')\nclass A(tv.Document):\n    p: P | Q\n",
        r"type `app\.P \| app\.Q`",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DECLARATIONS)
def test_a_wrong_declaration(tmp_path: Path, case: str) -> None:
    """The app is refused when it is loaded, with file, line, field and remedy."""
    source, message = DECLARATIONS[case]
    (tmp_path / "app.py").write_text(HEAD + source)
    with pytest.raises(AppInvalid, match=rf"app\.py:\d+: .*{message}"):
        load_app(tmp_path / "app.py")
