"""
Function declarations: the decorators that make a function callable by clients, and the checked `FunctionSpec` of each.

A decorator only attaches a `FunctionDeclaration` and returns the function unchanged, so that other functions and tests
can call it directly. The declaration is checked when the app is loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from enum import Enum
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tinyvex.errors import InvalidArguments, InvalidResult, InvalidValue, ValueTooLarge
from tinyvex.functions.result.rows import Rows, as_text, to_body
from tinyvex.functions.schema.converter import Converter, Mismatch, RowList
from tinyvex.functions.schema.declared_types import check_declared, is_mutable
from tinyvex.functions.schema.int64_fields import as_annotated, types_of
from tinyvex.functions.schema.json_schema import json_schema
from tinyvex.functions.schema.location import Location
from tinyvex.functions.transaction.context import ActionCtx, MutationCtx, QueryCtx
from tinyvex.functions.transaction.execution import KIND_WITH_ARTICLE, FunctionKind
from tinyvex.limits import ARGUMENT_BYTES_MAX, RESULT_BYTES_MAX
from tinyvex.values import codec
from tinyvex.values.suggestions import did_you_mean

if TYPE_CHECKING:
    from tinyvex.functions.result.result_body import Body
    from tinyvex.storage.log.catalog import Catalog
    from tinyvex.values.long_json import GiveWay

__all__ = [
    "FunctionDeclaration",
    "FunctionSpec",
    "action",
    "function_declaration",
    "internal_action",
    "internal_mutation",
    "internal_query",
    "mutation",
    "query",
]

Q = TypeVar("Q", bound=Callable[Concatenate[QueryCtx, ...], Any])
M = TypeVar("M", bound=Callable[Concatenate[MutationCtx, ...], Any])
A = TypeVar("A", bound=Callable[Concatenate[ActionCtx, ...], Coroutine[Any, Any, Any]])
F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__tinyvex_function__"


class FunctionDeclaration(Struct, frozen=True):
    """A decorator's declaration, attached to the function."""

    kind: FunctionKind
    internal: bool


def _declare(function: F, kind: FunctionKind, *, internal: bool) -> F:
    setattr(function, _ATTRIBUTE, FunctionDeclaration(kind, internal))
    return function


def _without_parentheses(decorate: F) -> F:
    """Make a decorator explain how it is written if it is called with anything but a function."""

    @wraps(decorate)
    def decorator(*given: Any, **options: Any) -> Any:
        if len(given) != 1 or options or not inspect.isroutine(given[0]):
            raise TypeError(f"write `@tv.{decorate.__name__}` without parentheses, directly above the function")
        return decorate(*given)

    return cast("F", decorator)


@_without_parentheses
def query(function: Q) -> Q:
    """Make a function a query: it reads, and clients can subscribe to its result."""
    return _declare(function, "query", internal=False)


@_without_parentheses
def mutation(function: M) -> M:
    """Make a function a mutation: its writes commit together when it returns, or not at all."""
    return _declare(function, "mutation", internal=False)


@_without_parentheses
def action(function: A) -> A:
    """Make a coroutine function an action: it may have side effects, and reaches the database by queries and mutations."""
    return _declare(function, "action", internal=False)


@_without_parentheses
def internal_query(function: Q) -> Q:
    """Make a function a query that only other functions can run."""
    return _declare(function, "query", internal=True)


@_without_parentheses
def internal_mutation(function: M) -> M:
    """Make a function a mutation that only other functions can run."""
    return _declare(function, "mutation", internal=True)


@_without_parentheses
def internal_action(function: A) -> A:
    """Make a coroutine function an action that only other functions can run."""
    return _declare(function, "action", internal=True)


def function_declaration(value: object) -> FunctionDeclaration | None:
    """Return the declaration that a decorator attached; None for any other object."""
    declaration = getattr(value, _ATTRIBUTE, None) if inspect.isfunction(value) else None
    return declaration if isinstance(declaration, FunctionDeclaration) else None


class FunctionSpec:
    """
    A function of the app, checked.

    Attributes:
        path: the path by which clients call it.
        kind: query, mutation or action.
        internal: whether only other functions, and callers with the admin token, can run it.
        function: called with a context, and with the result of `decode_arguments` as keyword arguments.
        reads_now: whether it accessed `ctx.now`; None until it has run.

    Raises:
        AppInvalid: it cannot be a function of this kind; the message has file and line.
    """

    contexts: ClassVar[Mapping[FunctionKind, type[Any]]] = {
        "query": QueryCtx,
        "mutation": MutationCtx,
        "action": ActionCtx,
    }
    """The class of the context, for each kind of function."""

    def __init__(self, path: str, function: Callable[..., Any], declaration: FunctionDeclaration) -> None:
        self.path = path
        self.function = function
        self.kind: FunctionKind = declaration.kind
        self.internal = declaration.internal
        self.location = Location(function.__code__.co_filename, function.__code__.co_firstlineno)
        self.reads_now: bool | None = None
        if inspect.iscoroutinefunction(function) != (self.kind == "action"):
            raise self.location.invalid(
                f"`{path}`: an action must be `async def`" if self.kind == "action" else
                f"`{path}`: a {self.kind} must be a plain `def`; only actions are `async def`"
            )  # fmt: skip
        self._hints = self._annotations()
        self._parameters = self._argument_parameters()
        fields = [self._field(parameter) for parameter in self._parameters]
        try:
            struct = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
            self._arguments = Converter[Any](struct)
            check_declared(struct, "argument")
        except TypeError as error:
            raise self.location.invalid(f"`{path}`: an argument has an unsupported annotation: {error}") from error
        self._result: Converter[Any] | None = None
        returns = self._hints.get("return", Any)
        if get_origin(returns) is Iterable:
            returns = list[get_args(returns)[0]]  # type: ignore[misc]  # msgspec does not know `Iterable`
        self._row_list = RowList(returns)
        if returns is not Any:
            try:
                self._result = Converter(returns)
                check_declared(returns, "result")
            except TypeError as error:
                raise self.location.invalid(f"`{path}`: the result has an unsupported annotation: {error}") from error

    def _annotations(self) -> dict[str, Any]:
        try:
            return get_type_hints(self.function, include_extras=True)
        except Exception as error:
            raise self.location.invalid(f"`{self.path}`: an annotation cannot be evaluated: {error}") from error

    def _argument_parameters(self) -> list[inspect.Parameter]:
        """Return the parameters after the context."""
        parameters = list(inspect.signature(self.function).parameters.values())
        self._check_context(parameters[0] if parameters else None)
        for parameter in parameters[1:]:
            if parameter.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
                raise self.location.invalid(f"`{self.path}`: arguments are passed by name; `{parameter}` cannot be")
            if parameter.name not in self._hints:
                raise self.location.invalid(f"`{self.path}`: argument `{parameter.name}` needs an annotation")
            if parameter.default is not inspect.Parameter.empty and is_mutable(parameter.default):
                raise self.location.invalid(
                    f"`{self.path}`: the default of argument `{parameter.name}` can be changed, and all calls would"
                    " share it; write `None`, or `()` for a sequence"
                )
        return parameters[1:]

    def _check_context(self, parameter: inspect.Parameter | None) -> None:
        """Refuse a first parameter that cannot receive the context; a protocol or a base class can."""
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if parameter is None or parameter.kind not in positional:
            raise self.location.invalid(f"`{self.path}`: the first parameter must be the context")
        annotated, passed = self._hints.get(parameter.name), self.contexts[self.kind]
        if not isinstance(annotated, type) or annotated is Any or getattr(annotated, "_is_protocol", False):
            return
        if not issubclass(passed, annotated):
            raise self.location.invalid(
                f"`{self.path}`: the first parameter of {KIND_WITH_ARTICLE[self.kind]} is its context: "
                f"`ctx: tv.{passed.__name__}`, not `{parameter.name}: {annotated.__name__}`"
            )

    def _field(self, parameter: inspect.Parameter) -> tuple[str, Any] | tuple[str, Any, Any]:
        """Return an argument's field; an argument with a default stays unset, so that Python's own default applies."""
        annotation = self._hints[parameter.name]
        if parameter.default is inspect.Parameter.empty:
            return parameter.name, annotation
        return parameter.name, annotation | UnsetType, UNSET

    # Arguments and results.

    def decode_arguments(self, raw: bytes, catalog: Catalog) -> dict[str, Any]:
        """
        Decode a JSON object into keyword arguments.

        Raises:
            InvalidArguments: it does not fit; the message names function, path, expected and actual type.
        """
        if len(raw) > ARGUMENT_BYTES_MAX:
            raise InvalidArguments(
                f"the arguments of `{self.path}` have {len(raw)} bytes; the limit is {ARGUMENT_BYTES_MAX}"
            )
        try:
            checked = self._arguments.check(codec.decode(raw), catalog)
        except Mismatch as mismatch:
            reason = mismatch.reason
            if reason == "unknown field":
                names = [parameter.name for parameter in self._parameters]
                reason = f"unknown argument{did_you_mean(mismatch.path.removeprefix('$.'), names)}"
            message = f"{self.path}: {mismatch.path}: {reason}"
            raise InvalidArguments(message, path=mismatch.path) from mismatch
        except (InvalidValue, ValueTooLarge) as error:
            raise InvalidArguments(f"{self.path}: {error}", **error.data) from error
        names = checked.__struct_fields__
        return {name: value for name in names if (value := getattr(checked, name)) is not UNSET}

    def encode_result(self, value: Any, catalog: Catalog, give_way: GiveWay | None = None) -> bytes:
        """
        Encode a returned value as canonical JSON.

        Documents and rows in it are spliced in as stored: rows that the function did not inspect
        are neither decoded nor validated.

        Args:
            value: what the function returned.
            catalog: the tables at its snapshot.
            give_way: called while a long value is encoded, to let other threads run.

        Raises:
            InvalidResult: it does not fit the annotation, is not a value, or is too large.
        """
        data = self._encode_result(value, catalog, give_way)
        self._check_size(len(data))
        return data

    def result_body(self, value: Any, catalog: Catalog, give_way: GiveWay | None = None) -> Body:
        """Encode a returned value as a body, in which rows stay references. Raises as `encode_result`."""
        body = to_body(lambda: self._encode_result(value, catalog, give_way))
        self._check_size(body.size)
        return body

    def _encode_result(self, value: Any, catalog: Catalog, give_way: GiveWay | None) -> bytes:
        try:
            return codec.encode_long(self._checked(value, catalog), give_way)
        except Mismatch as mismatch:
            raise InvalidResult(f"{self.path}: result {mismatch}", path=mismatch.path) from mismatch
        except (InvalidValue, ValueTooLarge) as error:
            raise InvalidResult(f"{self.path}: result: {error}", **error.data) from error

    def _checked(self, value: Any, catalog: Catalog) -> Any:
        if self._result is None or (isinstance(value, Rows) and self._row_list.check(value)):
            return value
        try:
            return self._result.check(value, catalog)
        except Mismatch:
            if isinstance(value, Rows) and not self._row_list.declared:
                raise
            # Python has several objects for one value (2 and 2.0): check again in the form that clients receive.
            return self._result.check(codec.decode(as_text(value)), catalog)

    def _check_size(self, size: int) -> None:
        if size > RESULT_BYTES_MAX:
            raise InvalidResult(
                f"`{self.path}` returned {size} bytes; the limit is {RESULT_BYTES_MAX}: paginate, or take fewer rows"
            )

    def encode_arguments(self, /, *args: Any, **kwargs: Any) -> bytes:
        """
        Encode the arguments of a call from another function, by position or name, as JSON.

        Raises:
            InvalidArguments: there are too many, or one of them is not a value.
        """
        names = [parameter.name for parameter in self._parameters]
        if len(args) > len(names):
            raise InvalidArguments(f"`{self.path}` takes {len(names)} arguments; {len(args)} were given")
        by_position = dict(zip(names, args, strict=False))
        if both := by_position.keys() & kwargs.keys():
            raise InvalidArguments(f"`{self.path}`: argument `{min(both)}` was given twice")
        arguments = by_position | kwargs
        try:
            try:
                return codec.encode(arguments)
            except InvalidValue:
                # A sum of `Int64`s is a plain `int`, which may exceed the range of plain numbers.
                return codec.encode(as_annotated(arguments, types_of(self._arguments.annotation)))
        except (InvalidValue, ValueTooLarge) as error:
            raise InvalidArguments(f"{self.path}: {error}", **error.data) from error

    def decode_result(self, value: bytes) -> Any:
        """
        Decode a result's JSON to the annotated type.

        Raises:
            InvalidResult: it does not fit.
        """
        try:
            return codec.decode_canonical(value) if self._result is None else self._result.read(value)
        except Mismatch as mismatch:
            raise InvalidResult(f"{self.path}: result {mismatch}", path=mismatch.path) from mismatch

    # Descriptions.

    def describe(self) -> dict[str, Any]:
        """Return the function's entry in `function-spec`."""
        return {
            "path": self.path,
            "kind": self.kind,
            "internal": self.internal,
            "readsNow": self.reads_now,
            "arguments": self.arguments_schema,
            "result": self.result_schema,
        }

    @cached_property
    def arguments_schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments, one object."""
        properties: dict[str, Any] = {}
        required = []
        definitions: dict[str, Any] = {}
        for parameter in self._parameters:
            schema = self._schema(self._hints[parameter.name])
            definitions |= schema.pop("$defs", {})
            if parameter.default is inspect.Parameter.empty:
                required.append(parameter.name)
            elif isinstance(parameter.default, Enum):
                schema["default"] = parameter.default.value
            elif parameter.default is None or isinstance(parameter.default, (bool, int, float, str)):
                schema["default"] = parameter.default
            properties[parameter.name] = schema
        arguments: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            arguments["required"] = required
        return arguments | {"$defs": definitions} if definitions else arguments

    @cached_property
    def result_schema(self) -> dict[str, Any]:
        """The JSON schema of the result; empty without an annotation."""
        return {} if self._result is None else self._schema(self._result.annotation)

    def _schema(self, annotation: Any) -> dict[str, Any]:
        try:
            return json_schema(annotation)
        except TypeError as error:
            raise self.location.invalid(f"`{self.path}`: {error}") from error
