"""
The decorators that make a function callable from outside, and what the server knows of each such function.

A decorator only attaches a note and returns the function as it is: other functions and tests call it like any other.
Everything about it is checked when the app is loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, Literal, TypeAlias, TypeVar, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from tinyvex.errors import InvalidArguments, InvalidResult, InvalidValue, ValueTooLarge
from tinyvex.functions.result.rows import Rows, as_text, to_body
from tinyvex.functions.schema.converter import Converter, Mismatch, json_schema
from tinyvex.functions.schema.document import Location
from tinyvex.functions.schema.int64_fields import as_annotated, types_of
from tinyvex.functions.transaction.context import ActionCtx, MutationCtx, QueryCtx
from tinyvex.limits import ARGUMENT_BYTES_MAX
from tinyvex.values import codec

if TYPE_CHECKING:
    from tinyvex.functions.result.result_body import Body
    from tinyvex.storage.log.catalog import Catalog

__all__ = [
    "FunctionDeclaration",
    "FunctionSpec",
    "Kind",
    "action",
    "function_declaration",
    "internal_action",
    "internal_mutation",
    "internal_query",
    "mutation",
    "query",
]

Kind: TypeAlias = Literal["query", "mutation", "action"]

Q = TypeVar("Q", bound=Callable[Concatenate[QueryCtx, ...], Any])
M = TypeVar("M", bound=Callable[Concatenate[MutationCtx, ...], Any])
A = TypeVar("A", bound=Callable[Concatenate[ActionCtx, ...], Coroutine[Any, Any, Any]])
F = TypeVar("F", bound=Callable[..., Any])

_NOTE = "__tinyvex_function__"
_CONTEXTS: dict[Kind, type] = {"query": QueryCtx, "mutation": MutationCtx, "action": ActionCtx}
_A: dict[Kind, str] = {"query": "a query", "mutation": "a mutation", "action": "an action"}


@dataclass(frozen=True, slots=True)
class FunctionDeclaration:
    """What a decorator said."""

    kind: Kind
    internal: bool


def _note(function: F, kind: Kind, *, internal: bool) -> F:
    setattr(function, _NOTE, FunctionDeclaration(kind, internal))
    return function


def query(function: Q) -> Q:
    """Make a function a query: it reads, and clients can subscribe to its result."""
    return _note(function, "query", internal=False)


def mutation(function: M) -> M:
    """Make a function a mutation: what it writes is committed when it returns, or not at all."""
    return _note(function, "mutation", internal=False)


def action(function: A) -> A:
    """Make a coroutine function an action: it may do anything, and reaches the database by queries and mutations."""
    return _note(function, "action", internal=False)


def internal_query(function: Q) -> Q:
    """A query that only other functions can run."""
    return _note(function, "query", internal=True)


def internal_mutation(function: M) -> M:
    """A mutation that only other functions can run."""
    return _note(function, "mutation", internal=True)


def internal_action(function: A) -> A:
    """An action that only other functions can run."""
    return _note(function, "action", internal=True)


def function_declaration(value: object) -> FunctionDeclaration | None:
    """What a decorator noted; None for everything else."""
    found = getattr(value, _NOTE, None) if inspect.isfunction(value) else None
    return found if isinstance(found, FunctionDeclaration) else None


class FunctionSpec:
    """
    A function of the app.

    Attributes:
        path: under which clients call it.
        kind: query, mutation or action.
        internal: only other functions, and whoever has the admin token, can run it.
        function: called with a context and `decode_arguments`' result as keywords.
        reads_now: whether it looked at `ctx.now`; None until it has run.

    Raises:
        AppInvalid: it cannot be a function of this kind; the message has file and line.
    """

    def __init__(self, path: str, function: Callable[..., Any], declaration: FunctionDeclaration) -> None:
        self.path = path
        self.function = function
        self.kind: Kind = declaration.kind
        self.internal = declaration.internal
        self.location = Location(function.__code__.co_filename, function.__code__.co_firstlineno)
        self.reads_now: bool | None = None
        if inspect.iscoroutinefunction(function) != (self.kind == "action"):
            raise self.location.invalid(
                f"{path}: an action must be `async def`" if self.kind == "action" else
                f"{path}: a {self.kind} must be a plain `def`; only actions are `async def`"
            )  # fmt: skip
        self._hints = self._annotations()
        self._parameters = self._find_parameters()
        fields = [self._field(parameter) for parameter in self._parameters]
        try:
            struct = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
            self._arguments = Converter[Any](struct)
        except TypeError as error:
            raise self.location.invalid(f"{path}: the arguments' annotations: {error}") from error
        self._result: Converter[Any] | None = None
        returns = self._hints.get("return", Any)
        if returns is not Any:
            try:
                self._result = Converter(returns)
            except TypeError as error:
                raise self.location.invalid(f"{path}: the annotation of the result: {error}") from error

    def _annotations(self) -> dict[str, Any]:
        try:
            return get_type_hints(self.function, include_extras=True)
        except Exception as error:
            raise self.location.invalid(f"{self.path}: an annotation does not evaluate: {error}") from error

    def _find_parameters(self) -> list[inspect.Parameter]:
        """Those after the context."""
        found = list(inspect.signature(self.function).parameters.values())
        if not found or found[0].kind not in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            raise self.location.invalid(f"{self.path}: its first parameter must be the context")
        context = self._hints.get(found[0].name)
        takes = _CONTEXTS[self.kind]
        if (
            isinstance(context, type)
            and context is not Any
            and not getattr(context, "_is_protocol", False)
            and not issubclass(takes, context)
        ):
            raise self.location.invalid(
                f"{self.path}: the first parameter of {_A[self.kind]} is its context: `ctx: tv.{takes.__name__}`, "
                f"not `{found[0].name}: {context.__name__}`"
            )
        for parameter in found[1:]:
            if parameter.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
                raise self.location.invalid(f"{self.path}: arguments come by name: {str(parameter)!r} cannot")
            if parameter.name not in self._hints:
                raise self.location.invalid(f"{self.path}: argument {parameter.name!r} needs an annotation")
        return found[1:]

    def _field(self, parameter: inspect.Parameter) -> tuple[str, Any] | tuple[str, Any, Any]:
        """An argument with a default is left out when it is not sent, so that Python's own default is used."""
        annotation = self._hints[parameter.name]
        if parameter.default is inspect.Parameter.empty:
            return parameter.name, annotation
        return parameter.name, annotation | UnsetType, UNSET

    # Arguments and results.

    def decode_arguments(self, raw: bytes, catalog: Catalog) -> dict[str, Any]:
        """
        One JSON object as keyword arguments.

        Raises:
            InvalidArguments: it does not fit; the message names function, path, expected and got.
        """
        if len(raw) > ARGUMENT_BYTES_MAX:
            raise InvalidArguments(f"{self.path}: {len(raw)} bytes of arguments; the limit is {ARGUMENT_BYTES_MAX}")
        try:
            checked = self._arguments.check(codec.decode(raw), catalog)
        except Mismatch as mismatch:
            reason = "unknown argument" if mismatch.reason == "unknown field" else mismatch.reason
            message = f"{self.path}: {mismatch.path}: {reason}"
            raise InvalidArguments(message, path=mismatch.path) from mismatch
        except (InvalidValue, ValueTooLarge) as error:
            raise InvalidArguments(f"{self.path}: {error}", **error.data) from error
        names = checked.__struct_fields__
        return {name: value for name in names if (value := getattr(checked, name)) is not UNSET}

    def encode_result(self, value: Any, catalog: Catalog) -> bytes:
        """
        What the function returned, as canonical JSON.

        Documents and rows in it are taken as they are: rows nobody looked at are neither decoded nor validated.

        Raises:
            InvalidResult: it does not fit the annotation, or is no value.
        """
        try:
            return codec.encode(self._checked(value, catalog))
        except Mismatch as mismatch:
            raise InvalidResult(f"{self.path}: result {mismatch}", path=mismatch.path) from mismatch
        except (InvalidValue, ValueTooLarge) as error:
            raise InvalidResult(f"{self.path}: result: {error}", **error.data) from error

    def result_body(self, value: Any, catalog: Catalog) -> Body:
        """The same in pieces, of which rows are not text yet; see `encode_result`."""
        return to_body(lambda: self.encode_result(value, catalog))

    def _checked(self, value: Any, catalog: Catalog) -> Any:
        if self._result is None:
            return value
        try:
            return self._result.check(value, catalog)
        except Mismatch:
            if isinstance(value, Rows):
                raise
            # Once more as a client would see it: Python has more than one object for one value (2 and 2.0).
            return self._result.check(codec.decode(as_text(value)), catalog)

    def encode_arguments(self, /, *args: Any, **kwargs: Any) -> bytes:
        """
        Arguments as another function gives them, by place or name, as JSON.

        Raises:
            InvalidArguments: too many, or one of them is no value.
        """
        names = [parameter.name for parameter in self._parameters]
        if len(args) > len(names):
            raise InvalidArguments(f"{self.path} takes {len(names)} arguments, {len(args)} were given")
        by_place = dict(zip(names, args, strict=False))
        if both := by_place.keys() & kwargs.keys():
            raise InvalidArguments(f"{self.path}: {min(both)} was given twice")
        given = by_place | kwargs
        try:
            try:
                return codec.encode(given)
            except InvalidValue:
                # A sum of `Int64`s is a plain number, which may be too large for one.
                return codec.encode(as_annotated(given, types_of(self._arguments.kind)))
        except (InvalidValue, ValueTooLarge) as error:
            raise InvalidArguments(f"{self.path}: {error}", **error.data) from error

    def decode_result(self, value: bytes) -> Any:
        """
        A result's JSON as the annotation says.

        Raises:
            InvalidResult: it does not fit.
        """
        try:
            return codec.decode_canonical(value) if self._result is None else self._result.read(value)
        except Mismatch as mismatch:
            raise InvalidResult(f"{self.path}: result {mismatch}", path=mismatch.path) from mismatch

    # Descriptions.

    @cached_property
    def arguments_schema(self) -> dict[str, Any]:
        """JSON schema of the arguments, one object."""
        properties: dict[str, Any] = {}
        required = []
        definitions: dict[str, Any] = {}
        for parameter in self._parameters:
            schema = self._describe(self._hints[parameter.name])
            definitions |= schema.pop("$defs", {})
            if parameter.default is inspect.Parameter.empty:
                required.append(parameter.name)
            elif parameter.default is None or isinstance(parameter.default, (bool, int, float, str)):
                schema["default"] = parameter.default
            properties[parameter.name] = schema
        found: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            found["required"] = required
        return found | {"$defs": definitions} if definitions else found

    @cached_property
    def result_schema(self) -> dict[str, Any]:
        """JSON schema of the result; empty where it has no annotation."""
        return {} if self._result is None else self._describe(self._result.kind)

    def _describe(self, annotation: Any) -> dict[str, Any]:
        try:
            return json_schema(annotation)
        except TypeError as error:
            raise self.location.invalid(f"{self.path}: {error}") from error
