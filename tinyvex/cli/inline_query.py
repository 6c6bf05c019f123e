"""
Python written on the command line, as a query of its own.

It becomes the body of a function with `ctx`: an expression is returned, statements return what they say.
Whatever goes wrong in it is told with its own line, and never with a traceback through Tinyvex.
"""

from __future__ import annotations

import ast
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tinyvex.errors import FunctionFailed, TinyvexError

if TYPE_CHECKING:
    from tinyvex.functions.app.registry import App

__all__ = ["PATH", "inline_app"]

PATH = "inline:query"
_FILE = "<inline query>"
_NAME = "query"


def inline_app(source: str) -> App:
    """
    An app whose one query, `PATH`, is this; its tables are the database's, by name.

    Raises:
        click.UsageError: it is no Python.
    """
    from tinyvex.functions.app.function_spec import FunctionDeclaration, FunctionSpec
    from tinyvex.functions.app.registry import App

    return App(
        [FunctionSpec(PATH, _telling(_compiled(source), source), FunctionDeclaration("query", internal=True))], []
    )


def _compiled(source: str) -> Callable[[Any], Any]:
    import tinyvex

    lines = source.strip("\n")
    try:
        module = ast.parse("def query(ctx): pass", _FILE)
        function = module.body[0]
        assert isinstance(function, ast.FunctionDef)
        function.body = _body(lines)
        scope: dict[str, Any] = {"tv": tinyvex, "__name__": "inline"}
        exec(compile(module, _FILE, "exec"), scope)  # noqa: S102 - running what was typed is what this is for
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise click.UsageError(f"--inline-query is no Python: {error}{_quoted(lines, line)}") from None
    found: Callable[[Any], Any] = scope[_NAME]
    return found


def _body(source: str) -> list[ast.stmt]:
    try:
        value = ast.parse(source.strip(), _FILE, "eval").body
    except SyntaxError:
        # Statements: as they would stand inside a function, so that `return` is one of them.
        body = ast.parse(source, _FILE).body
        if not body:
            raise ValueError("there is nothing in it") from None
        return body
    return [ast.copy_location(ast.Return(value), value)]


def _telling(function: Callable[[Any], Any], source: str) -> Callable[[Any], Any]:
    def query(ctx: Any) -> Any:
        try:
            return function(ctx)
        except TinyvexError as error:
            click.echo(f"inline query{_where(error, source)}", err=True)
            raise
        except Exception as error:  # noqa: BLE001 - whatever was typed may raise anything
            summary = "".join(traceback.format_exception_only(error)).strip()
            click.echo(f"inline query{_where(error, source)}", err=True)
            raise FunctionFailed(summary) from None

    query.__annotations__ = {}
    return query


def _where(error: BaseException, source: str) -> str:
    own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _FILE]
    return _quoted(source.strip("\n"), own[-1] if own else None)


def _quoted(source: str, line: int | None) -> str:
    lines = source.splitlines()
    return f", line {line}: {lines[line - 1].strip()}" if line is not None and 1 <= line <= len(lines) else ""
