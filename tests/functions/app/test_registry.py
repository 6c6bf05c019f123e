"""An app: functions by path, tables by name."""

from types import ModuleType
from typing import Any

import pytest

import tinyvex as tv
from tinyvex.errors import AppInvalid, FunctionNotFound
from tinyvex.functions.app.registry import App


@tv.table("things", indexes={"by_name": ["name"]})
class Thing(tv.Document):
    name: str


events = tv.table("events")


@tv.query
def look(ctx: tv.QueryCtx) -> None: ...


@tv.internal_mutation
def tidy(ctx: tv.MutationCtx) -> None: ...


@tv.action
async def fetch(ctx: tv.ActionCtx) -> None: ...


def module(name: str, **contents: Any) -> ModuleType:
    """Return a module with these contents; those of this file count as its own."""
    made = ModuleType(__name__)
    vars(made).update(contents)
    made.__file__ = name
    return made


@pytest.fixture
def app() -> App:
    return App.of_modules({"main": module("main.py", look=look, tidy=tidy, fetch=fetch, Thing=Thing, events=events)})


def test_paths(app: App) -> None:
    """Functions are found under module and name."""
    assert sorted(app.functions) == ["main:fetch", "main:look", "main:tidy"]


def test_tables(app: App) -> None:
    """Tables with and without a class are found by name."""
    assert {name: table.cls for name, table in app.tables.items()} == {"things": Thing, "events": None}


def test_path_of_a_function(app: App) -> None:
    """A function object leads to its path."""
    assert app.path_of(look) == "main:look"


def test_path_of_another_function(app: App) -> None:
    """A function that is not the app's has no path."""
    with pytest.raises(FunctionNotFound, match="`test_path_of_another_function` is not a function of this app"):
        app.path_of(test_path_of_another_function)


def test_imported_functions_belong_to_their_module() -> None:
    """A function that another module imports has the path of its own module only."""
    other = module("other.py", look=look)
    other.__name__ = "other"
    assert list(App.of_modules({"main": module("main.py", look=look), "other": other}).functions) == ["main:look"]


def test_imported_tables_are_one() -> None:
    """A table that several modules import is one table."""
    app = App.of_modules({"a": module("a.py", Thing=Thing), "b": module("b.py", Thing=Thing)})
    assert list(app.tables) == ["things"]


def test_tables_of_helper_modules_belong_to_the_app() -> None:
    """Helper modules contribute tables, but no functions."""
    app = App.of_modules({}, [module("models.py", Thing=Thing, look=look)])
    assert (list(app.functions), list(app.tables)) == ([], ["things"])


def test_two_tables_of_one_name() -> None:
    """A table's name is used once; the error names both places."""

    @tv.table("things")
    class Other(tv.Document):
        pass

    with pytest.raises(
        AppInvalid, match=r"test_registry\.py:\d+: table `things` is also declared at .*test_registry\.py:\d+"
    ):
        App.of_modules({"a": module("a.py", Thing=Thing, Other=Other)})


def test_one_path_twice(app: App) -> None:
    """A path is used once; the error names both places."""
    spec = app.functions["main:look"]
    with pytest.raises(AppInvalid, match=r"`main:look` is also the path of the function at .*test_registry\.py:\d+"):
        App([spec, spec], ())


def test_what_the_storage_needs(app: App) -> None:
    """The storage receives tables with their indexes, validators of typed tables, and fingerprints of all."""
    assert app.declaration().tables == {"events": {}, "things": {"by_name": ("name",)}}
    assert list(app.validators()) == ["things"]
    assert app.validators()["things"](b'{"name":1}')[0] == ["$.name: expected str, got int"]
    assert sorted(app.table_fingerprints()) == ["events", "things"]
