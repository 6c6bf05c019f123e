"""The lookup of a function by path, and the functions that every app has besides its own."""

from typing import Any

import pytest

import tinyvex as tv
from tinyvex.errors import FunctionNotFound, WrongFunctionKind
from tinyvex.functions.app.function_spec import FunctionSpec, function_declaration
from tinyvex.functions.app.registry import App
from tinyvex.functions.system.system_functions import find_function, system_functions


@tv.query
def look(ctx: tv.QueryCtx) -> None: ...


@tv.internal_mutation
def tidy(ctx: tv.MutationCtx) -> None: ...


@tv.action
async def fetch(ctx: tv.ActionCtx) -> None: ...


def spec(path: str, function: Any) -> FunctionSpec:
    """Return the checked function."""
    declaration = function_declaration(function)
    assert declaration is not None
    return FunctionSpec(path, function, declaration)


APP = App([spec("main:look", look), spec("main:tidy", tidy), spec("main:fetch", fetch)], [])


def test_a_function_is_found_by_path_and_kind() -> None:
    """A public function is found without further rights."""
    assert find_function(APP, "main:look", kind="query").function is look


@pytest.mark.parametrize("path", ["main:nothing", "look", "", "main:tidy"])
def test_not_found(path: str) -> None:
    """To a client, an unknown path and an internal function look the same."""
    with pytest.raises(FunctionNotFound, match=f"there is no public function `{path}`"):
        find_function(APP, path, kind="mutation")


def test_internal_functions() -> None:
    """A caller that may run internal functions finds them."""
    assert find_function(APP, "main:tidy", kind="mutation", internal_allowed=True).function is tidy


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("main:look", "mutation", "`main:look` is a query, not a mutation"),
        ("main:fetch", "query", "`main:fetch` is an action, not a query"),
    ],
)
def test_wrong_kind(path: str, kind: Any, message: str) -> None:
    """A function of another kind is refused; the error names both kinds."""
    with pytest.raises(WrongFunctionKind, match=message):
        find_function(APP, path, kind=kind)


@pytest.mark.parametrize("path", system_functions())
def test_every_app_has_the_systems_functions(path: str) -> None:
    """A caller that may run internal functions finds them in any app."""
    kind = system_functions()[path].kind
    assert find_function(App([], []), path, kind=kind, internal_allowed=True).path == path


@pytest.mark.parametrize("path", system_functions())
def test_clients_do_not_reach_the_systems_functions(path: str) -> None:
    """Without the admin token they do not exist."""
    kind = system_functions()[path].kind
    with pytest.raises(FunctionNotFound):
        find_function(App([], []), path, kind=kind)


def test_the_systems_functions_are_not_among_the_apps_own() -> None:
    """`function-spec` and the fingerprint cover the app's functions only."""
    assert App([], []).functions == {}


def test_an_apps_function_comes_first() -> None:
    """An app whose module is named `_system` can replace a function of the system."""
    app = App([spec("_system:tables", look)], [])
    assert find_function(app, "_system:tables", kind="query").function is look


@pytest.mark.parametrize("function", [look, tidy])
def test_a_users_function_receives_no_system_context(function: Any) -> None:
    """Only functions of the system see the snapshot and the app."""
    contexts = spec("main:f", function).contexts.values()
    assert not any(hasattr(context, "snapshot") or hasattr(context, "commit") for context in contexts)


def test_a_misspelt_path_gets_a_suggestion() -> None:
    """A public function one letter off is named."""
    with pytest.raises(FunctionNotFound, match="there is no public function `main:lok`; did you mean `main:look`"):
        find_function(APP, "main:lok", kind="query")


def test_an_internal_function_is_not_suggested_to_a_client() -> None:
    """Its name is not disclosed."""
    with pytest.raises(FunctionNotFound, match="there is no public function `main:tid`$"):
        find_function(APP, "main:tid", kind="mutation")
