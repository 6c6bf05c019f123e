"""Function specs: declarations, checks at load, arguments and results."""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import pytest

import tinyvex as tv
from tinyvex.errors import AppInvalid, InvalidArguments, InvalidResult
from tinyvex.functions.app.function_spec import FunctionDeclaration, FunctionSpec, function_declaration
from tinyvex.functions.result.rows import Rows
from tinyvex.functions.transaction.execution import FunctionKind
from tinyvex.storage.log.catalog import Catalog, TableInfo
from tinyvex.values.ids import DocumentId


@tv.table("things")
class Thing(tv.Document):
    name: str


@tv.table("others")
class Other(tv.Document):
    name: str


CATALOG = Catalog(0, [TableInfo("things", 10001, 101, {}, ()), TableInfo("others", 10002, 102, {}, ())])


def spec(function: Callable[..., Any], kind: FunctionKind = "query") -> FunctionSpec:
    return FunctionSpec("app:it", function, FunctionDeclaration(kind, internal=False))


@pytest.mark.parametrize(
    ("decorate", "kind", "internal"),
    [
        (tv.query, "query", False),
        (tv.mutation, "mutation", False),
        (tv.action, "action", False),
        (tv.internal_query, "query", True),
        (tv.internal_mutation, "mutation", True),
        (tv.internal_action, "action", True),
    ],
)
def test_decorators_attach_a_declaration(decorate: Any, kind: FunctionKind, internal: bool) -> None:
    """A decorator returns the function itself, with kind and visibility declared."""

    def function(ctx: Any) -> None: ...

    assert decorate(function) is function
    assert function_declaration(function) == FunctionDeclaration(kind, internal)


@pytest.mark.parametrize("value", [len, 3, Thing, lambda: 0])
def test_other_objects_have_no_declaration(value: object) -> None:
    """Objects without a decorator are not functions of the app."""
    assert function_declaration(value) is None


# Refused declarations.


async def asynchronous(ctx: Any) -> None: ...


def synchronous(ctx: Any) -> None: ...


def unannotated(ctx: Any, name) -> None: ...  # type: ignore[no-untyped-def]


def variadic(ctx: Any, *names: str) -> None: ...


def with_keywords(ctx: Any, **names: str) -> None: ...


def by_place(ctx: Any, name: str, /) -> None: ...


def without_context() -> None: ...


def keyword_context(*, ctx: Any) -> None: ...


def no_context_first(name: str) -> None: ...


def of_another_kind(ctx: tv.MutationCtx) -> None: ...


def misspelt(ctx: Any, thing: "Thnig") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def keyed_by_numbers(ctx: Any, names: dict[int, str]) -> None: ...


class Plain:
    pass


def takes_plain(ctx: Any, plain: Plain) -> None: ...


def returns_a_set(ctx: Any) -> set[str]: ...  # type: ignore[empty-body]


def shared_default(ctx: Any, names: list[str] = []) -> None: ...  # noqa: B006  # refused


def two_ids(ctx: Any, thing: tv.Id[Thing] | tv.Id[Other]) -> None: ...


def strange_result(ctx: Any) -> tv.Id[Thing] | tv.Id[Other]: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (asynchronous, "query", "a query must be a plain `def`; only actions are `async def`"),
        (asynchronous, "mutation", "a mutation must be a plain `def`"),
        (synchronous, "action", "an action must be `async def`"),
        (unannotated, "query", "argument `name` needs an annotation"),
        (keyed_by_numbers, "query", "unsupported annotation: `names`: the keys of a dict must be strings"),
        (takes_plain, "query", "unsupported annotation: `plain`: `Plain` is a plain class"),
        (returns_a_set, "query", "unsupported annotation: a set has no form in JSON; use a list"),
        (shared_default, "query", "the default of argument `names` can be changed, and all calls would share it"),
        (variadic, "query", "arguments are passed by name"),
        (with_keywords, "query", "arguments are passed by name"),
        (by_place, "query", "arguments are passed by name"),
        (without_context, "query", "the first parameter must be the context"),
        (keyword_context, "query", "the first parameter must be the context"),
        (no_context_first, "query", r"of a query is its context: `ctx: tv\.QueryCtx`, not `name: str`"),
        (of_another_kind, "query", r"of a query is its context: `ctx: tv\.QueryCtx`, not `ctx: MutationCtx`"),
        (misspelt, "query", "an annotation cannot be evaluated: name 'Thnig' is not defined"),
        (two_ids, "query", r"an argument has an unsupported annotation: .*tv\.Id\[A \| B\]"),
        (strange_result, "query", "the result has an unsupported annotation: "),
    ],
)
def test_impossible_functions(function: Callable[..., Any], kind: FunctionKind, message: str) -> None:
    """A function that cannot be called from outside is refused with file and line."""
    with pytest.raises(AppInvalid, match=message) as caught:
        spec(function, kind)
    assert caught.value.data == {"file": __file__, "line": function.__code__.co_firstlineno}
    assert f"test_function_spec.py:{function.__code__.co_firstlineno}: `app:it`: " in str(caught.value)


@pytest.mark.parametrize("decorator", [tv.query, tv.mutation, tv.action, tv.internal_query, tv.internal_mutation])
@pytest.mark.parametrize("given", [(), ("name",), (Thing,)])
def test_a_decorator_explains_its_form(decorator: Any, given: Any) -> None:
    """Decorators have no parentheses, and decorate functions."""
    with pytest.raises(TypeError, match=f"write `@tv.{decorator.__name__}` without parentheses"):
        decorator(*given)


# Arguments.

SEVEN = tv.Int64(7)


def take(
    ctx: Any,
    name: str,
    *,
    limit: int = 50,
    ratio: float = 1,
    big: tv.Int64 = SEVEN,
    data: bytes = b"",
    tags: list[str] | None = None,
    thing: tv.Id[Thing] | None = None,
    level: Annotated[int, msgspec.Meta(ge=1)] = 1,
) -> None: ...


OMITTED: Any = object()


def test_a_mark_of_an_omitted_argument_is_a_default() -> None:
    """A bare object, or a class, cannot be changed."""

    def function(ctx: Any, name: str = OMITTED, cls: Any = int) -> None: ...

    assert spec(function).decode_arguments(b"{}", CATALOG) == {}
    assert spec(function).arguments_schema["properties"]["name"] == {"type": "string"}


def test_defaults_are_python_s_own() -> None:
    """An argument that was not sent is not passed, so the function's own default applies."""
    assert spec(take).decode_arguments(b'{"name":"a"}', CATALOG) == {"name": "a"}


def test_arguments_are_converted() -> None:
    """Arguments arrive in the annotated types."""
    raw = b'{"name":"a","limit":2.0,"ratio":2,"big":5,"data":{"$bytes":"aGk="},"tags":[]}'
    decoded = spec(take).decode_arguments(raw, CATALOG)
    assert decoded == {"name": "a", "limit": 2, "ratio": 2.0, "big": tv.Int64(5), "data": b"hi", "tags": []}
    assert [type(decoded[name]) for name in ("limit", "ratio", "big")] == [int, float, tv.Int64]


THING = DocumentId(10001, bytes(16)).text
OTHER = DocumentId(10002, bytes(16)).text


def test_ids_are_checked() -> None:
    """An id must belong to the annotated table."""
    raw = b'{"name":"a","thing":"%s"}'
    assert spec(take).decode_arguments(raw % THING.encode(), CATALOG)["thing"] == THING
    with pytest.raises(
        InvalidArguments, match=r"\$\.thing: expected an id of table `things`, got one of table `others`"
    ):
        spec(take).decode_arguments(raw % OTHER.encode(), CATALOG)


def test_a_misspelt_argument_gets_a_suggestion() -> None:
    """The name is one letter off."""
    with pytest.raises(InvalidArguments, match=r"\$\.nmae: unknown argument; did you mean `name`\?"):
        spec(take).decode_arguments(b'{"name":"a","nmae":"b"}', CATALOG)


@pytest.mark.parametrize(
    ("raw", "message", "path"),
    [
        (b'{"name":5}', "app:it: $.name: expected str, got int", "$.name"),
        (b'{"name":null}', "app:it: $.name: expected str, got null", "$.name"),
        (b"{}", "app:it: $.name: missing", "$.name"),
        (b'{"name":"a","colour":1}', "app:it: $.colour: unknown argument", "$.colour"),
        (b'{"name":"a","tags":["x",2]}', "app:it: $.tags[1]: expected str, got int", "$.tags[1]"),
        (b'{"name":"a","limit":true}', "app:it: $.limit: expected int, got bool", "$.limit"),
        (b'{"name":"a","limit":1.5}', "app:it: $.limit: expected int, got float", "$.limit"),
        (b'{"name":"a","level":0}', "app:it: $.level: expected int >= 1", "$.level"),
        (b'{"name":"a","data":"aGk="}', "app:it: $.data: expected bytes, got str", "$.data"),
        (b'{"name":"a","thing":"x"}', "app:it: $.thing: 'x' is not a document id", "$.thing"),
        (b'{"name":"a","limit":9007199254740993}', "app:it: 9007199254740993 is too large", "$.limit"),
        (b'["a"]', "app:it: $: expected object, got array", "$"),
        (b"{", "app:it: this is not JSON", "$"),
        (b'{"name":"a","tags":' + b"[" * 70 + b"]" * 70 + b"}", "app:it: the value is nested deeper", None),
    ],
)
def test_wrong_arguments(raw: bytes, message: str, path: str | None) -> None:
    """An argument that does not fit is refused; the error names function, path, expected and actual type."""
    with pytest.raises(InvalidArguments) as caught:
        spec(take).decode_arguments(raw, CATALOG)
    assert str(caught.value).startswith(message)
    if path is not None:
        assert caught.value.data["path"] == path


def test_arguments_from_other_functions() -> None:
    """Arguments given by position or name become one object."""

    def three(ctx: Any, a: int, b: str, c: bytes = b"") -> None: ...

    assert spec(three).encode_arguments(1, c=b"x", b="y") == b'{"a":1,"b":"y","c":{"$bytes":"eA=="}}'


def test_a_large_number_is_an_int64_if_annotated() -> None:
    """A sum of Int64s is a plain `int` in Python; in other arguments it is still refused."""

    def count(ctx: tv.QueryCtx, n: tv.Int64, *, more: list[tv.Int64] | None = None, plain: int = 0) -> None: ...

    encoded = spec(count).encode_arguments(2**60, more=[2**61])
    assert spec(count).decode_arguments(encoded, CATALOG) == {"n": tv.Int64(2**60), "more": [tv.Int64(2**61)]}
    with pytest.raises(InvalidArguments, match="too large"):
        spec(count).encode_arguments(1, plain=2**60)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((1, 2), {}, "takes 1 arguments; 2 were given"),
        ((1,), {"a": 1}, "argument `a` was given twice"),
        ((object(),), {}, "object"),
    ],
)
def test_wrong_arguments_from_other_functions(args: tuple[Any, ...], kwargs: dict[str, Any], message: str) -> None:
    """Too many arguments, an argument given twice, and objects that are not values are refused."""

    def one(ctx: Any, a: int) -> None: ...

    with pytest.raises(InvalidArguments, match=message):
        spec(one).encode_arguments(*args, **kwargs)


# Results.


def returning(annotation: Any) -> FunctionSpec:
    def function(ctx: Any) -> Any: ...

    function.__annotations__["return"] = annotation
    return spec(function)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (None, None, b"null"),
        (int, 3, b"3"),
        (int, 3.0, b"3"),
        (float, 3, b"3"),
        (tv.Int64, 3, b'{"$integer":"AwAAAAAAAAA="}'),
        (bytes, b"hi", b'{"$bytes":"aGk="}'),
        (list[int], (1, 2), b"[1,2]"),
        (tuple[int, str], (1, "a"), b'[1,"a"]'),
        (Mapping[str, int], {"b": 1, "a": 2}, b'{"a":2,"b":1}'),
        (Thing, Thing(name="a"), b'{"name":"a"}'),
        (list[Thing], [Thing(name="a")], b'[{"name":"a"}]'),
        (Thing | None, None, b"null"),
        (tv.Id[Thing], tv.Id(THING), f'"{THING}"'.encode()),
        (Any, {"any": [1]}, b'{"any":[1]}'),
    ],
)
def test_results(annotation: Any, value: Any, expected: bytes) -> None:
    """A result that fits its annotation becomes canonical JSON."""
    assert returning(annotation).encode_result(value, CATALOG) == expected


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "3", "app:it: result $: expected int, got str"),
        (list[int], [1, "a"], "app:it: result $[1]: expected int, got str"),
        (None, 3, "app:it: result $: expected null, got int"),
        (Thing, None, "app:it: result $: expected object, got null"),
        (tv.Id[Thing], tv.Id(OTHER), "app:it: result $: expected an id of table `things`"),
        (tv.Rows[Thing], Rows([], bytes, Other), "app:it: result $: expected rows of Thing, got rows of Other"),
        (Any, object(), "app:it: result: an object of type object is not a value"),
        (Any, 2**60, "app:it: result: 1152921504606846976 is too large for a plain number; use Int64"),
        (int, 2**60, "app:it: result: 1152921504606846976 is too large"),
    ],
)
def test_wrong_results(annotation: Any, value: Any, message: str) -> None:
    """A result that does not fit its annotation, or is not a value, is refused."""
    with pytest.raises(InvalidResult) as caught:
        returning(annotation).encode_result(value, CATALOG)
    assert str(caught.value).startswith(message)


def test_any_value_without_an_annotation() -> None:
    """Without an annotation every value is a result."""

    def function(ctx: Any): ...  # type: ignore[no-untyped-def]

    assert spec(function).encode_result({"a": [1, None]}, CATALOG) == b'{"a":[1,null]}'


def unreadable(stored: bytes) -> Any:
    raise AssertionError("this row was decoded")


@pytest.mark.parametrize("annotation", [tv.Rows[Thing], Any])
def test_uninspected_rows_are_spliced(annotation: Any) -> None:
    """Rows that the function did not inspect are neither decoded nor validated; their stored JSON is the result."""
    rows = Rows([b'{"name":"a"}', b'{"name":5}'], unreadable, Thing)
    assert returning(annotation).encode_result(rows, CATALOG) == b'[{"name":"a"},{"name":5}]'


LISTS_OF_THINGS = [
    list[Thing], Sequence[Thing], list[Thing] | None, list, list[Any], Collection[Thing],
    Iterable[Thing],
]  # fmt: skip


@pytest.mark.parametrize("annotation", LISTS_OF_THINGS)
def test_rows_are_a_result_of_a_declared_list(annotation: Any) -> None:
    """Rows fit a list of their class, and are spliced without being decoded."""
    rows = Rows([b'{"name":"a"}'], unreadable, Thing)
    assert returning(annotation).encode_result(rows, CATALOG) == b'[{"name":"a"}]'


@pytest.mark.parametrize("annotation", [list[dict[str, Any]], list[Mapping[str, Any]], list[Any]])
def test_rows_of_mappings_are_a_result_of_a_declared_list(annotation: Any) -> None:
    """Documents of a table without a class fit a list of mappings."""
    assert returning(annotation).encode_result(Rows([b'{"name":"a"}'], unreadable), CATALOG) == b'[{"name":"a"}]'


def test_rows_fit_a_list_inside_a_result() -> None:
    """A mapping of lists accepts rows too."""
    rows = Rows([b'{"name":"a"}'], unreadable, Thing)
    assert returning(dict[str, list[Thing]]).encode_result({"x": rows}, CATALOG) == b'{"x":[{"name":"a"}]}'


def test_rows_of_another_class_are_no_list_of_things() -> None:
    """The message names both classes."""
    with pytest.raises(InvalidResult, match=r"result \$: expected rows of Thing, got rows of Other"):
        returning(list[Thing]).encode_result(Rows([], bytes, Other), CATALOG)


def test_rows_inside_results_are_spliced() -> None:
    """Rows inside a larger result are spliced too."""
    rows = Rows([b'{"name":5}'], unreadable, Thing)
    page = tv.Page(rows, "c", is_done=False)
    assert returning(dict[str, tv.Rows[Thing]]).encode_result({"x": rows}, CATALOG) == b'{"x":[{"name":5}]}'
    assert b'"items":[{"name":5}]' in returning(tv.Page[Thing]).encode_result(page, CATALOG)


def test_results_come_back_typed() -> None:
    """The caller receives the annotated type."""
    decoded = returning(tv.Rows[Thing]).decode_result(b'[{"name":"a"}]')
    assert decoded == [Thing(name="a")]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (defaultdict[str, int], defaultdict(int, a=2, b=1)),
        (Counter[str], Counter("aab")),
        (OrderedDict[str, int], OrderedDict(a=2, b=1)),
        (dict[str, Counter[str]], {"x": Counter("a")}),
    ],
)
def test_a_result_of_another_kind_of_dict(annotation: Any, value: Any) -> None:
    """Each is encoded as an object, and comes back to a calling action as what was returned."""
    function = returning(annotation)
    decoded = function.decode_result(function.encode_result(value, CATALOG))
    assert decoded == value
    assert type(decoded) is type(value)
    assert function.result_schema["type"] == "object"


def test_a_result_of_any_iterable() -> None:
    """Its elements come back typed."""
    function = returning(Iterable[Thing])
    assert function.decode_result(function.encode_result([Thing(name="a")], CATALOG)) == [Thing(name="a")]
    assert function.result_schema["type"] == "array"
    with pytest.raises(InvalidResult, match=r"expected array, got int"):
        function.encode_result(3, CATALOG)


# Descriptions.


def test_the_schema_of_arguments() -> None:
    """Arguments are described with their defaults; required ones are listed."""

    def function(ctx: Any, name: str, thing: tv.Id[Thing], limit: int = 50) -> None: ...

    assert spec(function).arguments_schema == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "thing": {"type": "string", "format": "tinyvex-id", "tables": ["things"]},
            "limit": {"type": "integer", "default": 50},
        },
        "additionalProperties": False,
        "required": ["name", "thing"],
    }


def test_the_schema_of_results() -> None:
    """Results are described; those without an annotation may be anything."""
    assert returning(int).result_schema == {"type": "integer"}
    assert returning(Any).result_schema == {}
    assert "Thing" in returning(tv.Rows[Thing]).result_schema["$defs"]


def test_definitions_are_shared() -> None:
    """Classes that several arguments use are described once, in `$defs`."""

    def function(ctx: Any, one: Thing, two: list[Thing]) -> None: ...

    assert list(spec(function).arguments_schema["$defs"]) == ["Thing"]
