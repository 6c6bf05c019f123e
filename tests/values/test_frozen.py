"""Lists and dicts that cannot be changed."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import pytest

from tinyvex.values.codec import encode
from tinyvex.values.frozen import frozen


def added(values: Any) -> None:
    values += ["b"]


def repeated(values: Any) -> None:
    values *= 2


def merged(values: Any) -> None:
    values |= {"b": 1}


LIST_CHANGES: dict[str, Callable[[Any], object]] = {
    "append": lambda values: values.append("b"),
    "extend": lambda values: values.extend("b"),
    "insert": lambda values: values.insert(0, "b"),
    "remove": lambda values: values.remove("a"),
    "pop": lambda values: values.pop(),
    "clear": lambda values: values.clear(),
    "sort": lambda values: values.sort(),
    "reverse": lambda values: values.reverse(),
    "set": lambda values: values.__setitem__(0, "b"),
    "delete": lambda values: values.__delitem__(0),
    "add": added,
    "repeat": repeated,
}
DICT_CHANGES: dict[str, Callable[[Any], object]] = {
    "set": lambda values: values.__setitem__("a", "b"),
    "delete": lambda values: values.__delitem__("a"),
    "update": lambda values: values.update(b=1),
    "setdefault": lambda values: values.setdefault("b", 1),
    "pop": lambda values: values.pop("a"),
    "popitem": lambda values: values.popitem(),
    "clear": lambda values: values.clear(),
    "merge": merged,
}


@pytest.mark.parametrize("change", LIST_CHANGES)
def test_a_frozen_list_refuses_changes(change: str) -> None:
    """The message has the way to write one."""
    values = frozen(["a"])
    with pytest.raises(TypeError, match=r"this list belongs to a document that was read.*ctx\.db\.patch"):
        LIST_CHANGES[change](values)
    assert values == ["a"]


@pytest.mark.parametrize("change", DICT_CHANGES)
def test_a_frozen_dict_refuses_changes(change: str) -> None:
    """The message has the way to write one."""
    values = frozen({"a": 1})
    with pytest.raises(TypeError, match="this dict belongs to a document that was read"):
        DICT_CHANGES[change](values)
    assert values == {"a": 1}


def test_everything_inside_is_frozen() -> None:
    """Lists in dicts in lists."""
    values = frozen([{"a": [1]}, ([2],)])
    for inner in (values[0]["a"], values[1][0]):
        with pytest.raises(TypeError):
            inner.append(3)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda values: pickle.loads(pickle.dumps(values))])
def test_a_copy_can_be_changed(copied: Callable[[Any], Any]) -> None:
    """It belongs to the function."""
    values = copied(frozen(["a"]))
    values.append("b")
    assert values == ["a", "b"]


def test_frozen_values_encode_as_plain_ones() -> None:
    """They are values."""
    assert encode(frozen({"a": [1.0, {"b": [b"c"]}]})) == encode({"a": [1, {"b": [b"c"]}]})


@dataclass(frozen=True)
class Place:
    names: list[str]


class Pair(NamedTuple):
    names: list[str]


class Outer(msgspec.Struct, frozen=True):
    place: Place
    pairs: list[Pair]


def test_lists_inside_instances_cannot_be_changed() -> None:
    """Those of structs, dataclasses and named tuples, at any depth; the instances stay equal."""
    value = frozen(Outer(Place(["a"]), [Pair(["b"])]))
    assert value == Outer(Place(["a"]), [Pair(["b"])])
    for names in (value.place.names, value.pairs[0].names):
        with pytest.raises(TypeError, match="this list belongs to a document that was read"):
            names.append("c")
