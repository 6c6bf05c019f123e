"""
Compile Python from the command line into an app with one query.

The text becomes the body of a function with the argument `ctx`. An expression is its result; statements use `return`.
Errors are reported with the line of that text, without a traceback through Tinyvex.
"""

from __future__ import annotations

import ast
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from tinyvex.cli.terminal import echo
from tinyvex.errors import FunctionFailed, TinyvexError

if TYPE_CHECKING:
    from tinyvex.functions.app.registry import App

__all__ = ["PATH", "inline_app"]

PATH = "inline:query"
_FILE = "<inline query>"
_NAME = "query"


def inline_app(source: str) -> App:
    """
    Return an app with one query, `PATH`, that runs this source; it addresses tables by name.

    Raises:
        click.UsageError: the source is not valid Python.
    """
    from tinyvex.functions.app.function_spec import FunctionDeclaration, FunctionSpec
    from tinyvex.functions.app.registry import App

    return App(
        [FunctionSpec(PATH, _reporting_lines(_compiled(source), source), FunctionDeclaration("query", internal=True))],
        [],
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
        exec(compile(module, _FILE, "exec"), scope)  # noqa: S102 - running the given source is the purpose
    except (SyntaxError, ValueError) as error:
        reason, line = (error.msg, error.lineno) if isinstance(error, SyntaxError) else (str(error), None)
        raise click.UsageError(f"--inline-query is not valid Python: {reason}{_quoted(lines, line)}") from None
    compiled: Callable[[Any], Any] = scope[_NAME]
    return compiled


def _body(source: str) -> list[ast.stmt]:
    try:
        value = ast.parse(source.strip(), _FILE, "eval").body
    except SyntaxError:
        # Not an expression: parse statements as a function body, in which `return` is allowed.
        body = ast.parse(source, _FILE).body
        if not body:
            raise ValueError("it is empty") from None
        return body
    return [ast.copy_location(ast.Return(value), value)]


def _reporting_lines(function: Callable[[Any], Any], source: str) -> Callable[[Any], Any]:
    def query(ctx: Any) -> Any:
        try:
            return function(ctx)
        except TinyvexError as error:
            echo(f"inline query{_where(error, source)}", err=True)
            raise
        except Exception as error:  # noqa: BLE001 - the given source may raise anything
            summary = "".join(traceback.format_exception_only(error)).strip()
            echo(f"inline query{_where(error, source)}", err=True)
            raise FunctionFailed(summary) from None

    query.__annotations__ = {}
    return query


def _where(error: BaseException, source: str) -> str:
    # Not `traceback.extract_tb`: it reads source files, which dev mode reports as a side effect of the query.
    frames = traceback.walk_tb(error.__traceback__)
    own = [line for frame, line in frames if frame.f_code.co_filename == _FILE]
    return _quoted(source.strip("\n"), own[-1] if own else None)


def _quoted(source: str, line: int | None) -> str:
    lines = source.splitlines()
    return f", line {line}: {lines[line - 1].strip()}" if line is not None and 1 <= line <= len(lines) else ""
