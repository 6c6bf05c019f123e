"""
The functions that exist in every app besides its own, and the lookup of a function by path.

System functions are internal and have paths `_system:…`: a client needs the admin token to call them,
and a program that opened the file itself runs the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from tinyvex.errors import FunctionNotFound, WrongFunctionKind
from tinyvex.functions.app.function_spec import FunctionDeclaration
from tinyvex.functions.system.system_context import SystemFunctionSpec
from tinyvex.functions.transaction.execution import KIND_WITH_ARTICLE
from tinyvex.values.suggestions import did_you_mean

if TYPE_CHECKING:
    from tinyvex.functions.app.function_spec import FunctionSpec
    from tinyvex.functions.app.registry import App
    from tinyvex.functions.transaction.execution import FunctionKind

__all__ = ["MODULE", "find_function", "system_functions"]

MODULE = "_system"


@cache
def system_functions() -> Mapping[str, SystemFunctionSpec]:
    """Return the system's functions by path."""
    # Imported on first use: starting a server should not pay for functions that most servers never run.
    from tinyvex.functions.system.import_functions import IMPORT_MUTATIONS
    from tinyvex.functions.system.system_queries import SYSTEM_QUERIES
    from tinyvex.functions.system.table_functions import TABLE_MUTATIONS, TABLE_QUERIES

    queries, mutations = (*SYSTEM_QUERIES, *TABLE_QUERIES), (*IMPORT_MUTATIONS, *TABLE_MUTATIONS)
    return dict([*_specs("query", queries), *_specs("mutation", mutations)])


def _specs(kind: FunctionKind, functions: tuple[Callable[..., Any], ...]) -> list[tuple[str, SystemFunctionSpec]]:
    declaration = FunctionDeclaration(kind, internal=True)
    specs = [SystemFunctionSpec(f"{MODULE}:{function.__name__}", function, declaration) for function in functions]
    return [(spec.path, spec) for spec in specs]


def find_function(app: App, path: str, *, kind: FunctionKind, internal_allowed: bool = False) -> FunctionSpec:
    """
    Return the function at a path: one of the app's, or else one of the system's.

    Raises:
        FunctionNotFound: there is none, or it is internal and the caller may not run internal functions.
        WrongFunctionKind: it is of another kind.
    """
    spec = app.functions.get(path) or system_functions().get(path)
    if spec is None or (spec.internal and not internal_allowed):
        paths = [each.path for each in app.functions.values() if internal_allowed or not each.internal]
        without_module = next((f"; did you mean `{each}`?" for each in paths if each.endswith(f":{path}")), "")
        hint = without_module or did_you_mean(path, paths)
        raise FunctionNotFound(f"there is no public function `{path}`{hint}", udfPath=path)
    if spec.kind != kind:
        raise WrongFunctionKind(
            f"`{path}` is {KIND_WITH_ARTICLE[spec.kind]}, not {KIND_WITH_ARTICLE[kind]}", udfPath=path
        )
    return spec
