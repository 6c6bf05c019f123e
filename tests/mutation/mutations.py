"""
List the mutations of a source file: small changes of its code that a test should notice.

A mutation replaces the text of one node of the syntax tree and leaves every other character as it is, so a survivor
can be shown as a diff. Not mutated are the parts that no test should have to notice: strings, annotations, assertions,
log lines, and the numbers of constants (`limits.py` has their reasons).
"""

from __future__ import annotations

import ast
import difflib
import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}

ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
}

LOGGERS = {"log", "logger", "logging", "warnings"}


class Mutation(NamedTuple):
    """The replacement of the characters from `start` to `end` of a file, whose node begins in `line`."""

    line: int
    kind: str
    start: int
    end: int
    text: str

    def apply(self, source: str) -> str:
        return source[: self.start] + self.text + source[self.end :]

    def diff(self, path: str, source: str) -> str:
        """Return the change as a unified diff."""
        lines = difflib.unified_diff(
            source.splitlines(keepends=True), self.apply(source).splitlines(keepends=True), path, path, n=2
        )
        return "".join(lines)


def mutations(source: str) -> list[Mutation]:
    """Return every mutation of a source file. A few do not compile: `sample` leaves them out."""
    starts = [0]
    for text in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(text))
    lines = source.splitlines()

    def position(line: int, column: int) -> int:
        """Convert a position of the syntax tree, whose columns count UTF-8 bytes."""
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    found = []
    for node, kind, text in replacements(ast.parse(source)):
        start = position(node.lineno, node.col_offset)
        end = position(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)
        found.append(Mutation(node.lineno, kind, start, end, text))
    return found


def sample(sources: dict[str, str], count: int, seed: int) -> list[tuple[str, Mutation]]:
    """Choose `count` lines of all files at random, each equally likely, and one mutation of each."""
    lines: dict[tuple[str, int], list[Mutation]] = {}
    for path in sorted(sources):
        for mutation in mutations(sources[path]):
            lines.setdefault((path, mutation.line), []).append(mutation)
    chosen = random.Random(seed)
    selected = chosen.sample(sorted(lines), len(lines))
    drawn = ((path, chosen.choice(lines[path, line])) for path, line in selected)
    compiling = ((path, mutation) for path, mutation in drawn if compiles(mutation.apply(sources[path])))
    return list(itertools.islice(compiling, count))


def compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


Replacement = tuple[ast.expr | ast.stmt, str, str]


def replacements(node: ast.AST, *, in_function: bool = False) -> Iterator[Replacement]:
    """Yield the nodes below that can be replaced, with the kind and text of each replacement."""
    if isinstance(node, ast.stmt) and in_function:
        yield from of_statement(node)
    elif isinstance(node, ast.expr):
        yield from of_expression(node)
    in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in mutable_children(node, in_function=in_function):
        yield from replacements(child, in_function=in_function)


def mutable_children(node: ast.AST, *, in_function: bool) -> Iterator[ast.AST]:
    if isinstance(node, ast.Assert | ast.JoinedStr | ast.Constant) or is_for_typing(node) or is_log_line(node):
        return
    if isinstance(node, ast.Assign | ast.AnnAssign) and not in_function:
        # A constant, or an alias of a type.
        return
    omitted: tuple[ast.AST | None, ...] = ()
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        omitted = (node.returns, *node.decorator_list)
    elif isinstance(node, ast.ClassDef):
        omitted = (*node.bases, *node.keywords, *node.decorator_list)
    elif isinstance(node, ast.AnnAssign | ast.arg):
        omitted = (node.annotation,)
    elif isinstance(node, ast.ExceptHandler):
        omitted = (node.type,)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"cast", "TypeVar"}:
        omitted = (node.args[0],)
    for child in ast.iter_child_nodes(node):
        if child not in omitted:
            yield child


def is_for_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def is_log_line(node: ast.AST) -> bool:
    call = node.value if isinstance(node, ast.Expr) else node
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and ast.unparse(call.func.value).lower().lstrip("_") in LOGGERS
    )


def of_statement(node: ast.stmt) -> Iterator[Replacement]:  # noqa: C901, PLR0912 - a table of cases
    match node:
        case ast.Expr(value=ast.Call() | ast.Await()) if not is_log_line(node):
            yield node, "removed statement", "pass"
        case ast.AugAssign() | ast.Delete():
            yield node, "removed statement", "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            # A local variable that is never assigned fails in any test.
            yield node, "removed statement", "pass"
        case ast.Raise():
            yield node, "swallowed exception", "pass"
        case ast.Return(value=None):
            yield node, "removed return", "pass"
        case ast.Return(value=value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield node, "changed return", "return None"
        case ast.Break():
            yield node, "break", "continue"
        case ast.Continue():
            yield node, "continue", "break"
        case ast.If(test=test) if not is_for_typing(node):
            yield test, "inverted condition", f"not ({ast.unparse(test)})"
        case ast.Try(handlers=handlers):
            for handler in handlers:
                if not isinstance(handler.body[0], ast.Raise):
                    yield handler.body[0], "raised again", "raise"
        case _:
            return


def of_expression(node: ast.expr) -> Iterator[Replacement]:
    match node:
        case ast.Compare(ops=[operator, *others]) if type(operator) in COMPARISONS:
            changed = ast.Compare(node.left, [COMPARISONS[type(operator)](), *others], node.comparators)
            yield node, "comparison", parenthesized(changed)
        case ast.BoolOp(op=operator):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield node, "boolean", parenthesized(ast.BoolOp(other, node.values))
        case ast.UnaryOp(op=ast.Not()):
            yield node, "boolean", parenthesized(node.operand)
        case ast.BinOp(op=operator) if type(operator) in ARITHMETIC and not has_string(node):
            changed = ast.BinOp(node.left, ARITHMETIC[type(operator)](), node.right)
            yield node, "arithmetic", parenthesized(changed)
        case ast.Constant(value=bool() as value):
            yield node, "constant", str(not value)
        case ast.Constant(value=int() as value):
            yield node, "constant", str(value + 1)
        case ast.Call(args=[first, second, *others]) if not any(isinstance(arg, ast.Starred) for arg in node.args):
            if ast.unparse(first) != ast.unparse(second):
                yield (
                    node,
                    "swapped arguments",
                    ast.unparse(ast.Call(node.func, [second, first, *others], node.keywords)),
                )
        case _:
            return


def parenthesized(node: ast.expr) -> str:
    return f"({ast.unparse(node)})"


def has_string(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and isinstance(part.value, str | bytes))
        for part in ast.walk(node)
    )
