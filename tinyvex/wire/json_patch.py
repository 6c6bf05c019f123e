"""
JSON Patch (RFC 6902) on decoded JSON, without touching what it is applied to. (pure)

What is patched shares every part that no operation reaches with what it was made from:
an operation copies the containers on the way to its place, once per patch.
It is strict: what does not fit is refused, and never half applied, for the document given stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import msgspec

__all__ = ["PatchFailed", "apply"]

Json: TypeAlias = Any
"""What `json.loads` returns."""

_Container: TypeAlias = "dict[str, Json] | list[Json]"
_INDEX_DIGITS_MAX = 18
_MISSING = object()


class PatchFailed(ValueError):
    """The patch does not fit the document, or is none."""


def apply(document: Json, operations: Json) -> Json:
    """
    The document after all operations; the one given is not changed.

    Args:
        document: decoded JSON.
        operations: a decoded JSON Patch: a list of operations.

    Raises:
        PatchFailed: an operation cannot be done, or is malformed.
    """
    if not isinstance(operations, list):
        raise PatchFailed("a patch is an array of operations")
    patching = _Patching(document)
    try:
        for operation in operations:
            patching.do(operation)
    except RecursionError:
        raise PatchFailed("a value is nested too deep to be compared") from None
    return patching.root


class _Patching:
    """One patch being applied."""

    def __init__(self, document: Json) -> None:
        self.root = document
        self._own: dict[int, _Container] = {}
        """Containers copied by this patch, which may be changed; kept here, so that no id is used twice."""

    def do(self, operation: Json) -> None:
        """One operation."""
        if not isinstance(operation, dict):
            raise PatchFailed(f"not an operation: {operation!r:.100}")
        path = _pointer(operation, "path")
        match operation.get("op"):
            case "add":
                self._add(path, _value(operation))
            case "remove":
                self._remove(path)
            case "replace":
                self._replace(path, _value(operation))
            case "move":
                self._move(_pointer(operation, "from"), path)
            case "copy":
                self._add(path, self._shared(self._find(_pointer(operation, "from"))))
            case "test":
                if not _equal(self._find(path), _value(operation)):
                    raise PatchFailed(f"the value at {_text(path)} is another than the one tested for")
            case other:
                raise PatchFailed(f"not an operation: {other!r:.100}")

    def _move(self, origin: Sequence[str], path: Sequence[str]) -> None:
        if path == origin:
            self._find(origin)
        elif path[: len(origin)] == origin:
            raise PatchFailed(f"{_text(origin)} cannot be moved into itself")
        else:
            self._add(path, self._remove(origin))

    def _add(self, path: Sequence[str], value: Json) -> None:
        if not path:
            self.root = value
            return
        parent, last = self._parent(path)
        if isinstance(parent, list):
            parent.insert(len(parent) if last == "-" else _index(last, len(parent) + 1, path), value)
        else:
            parent[last] = value

    def _remove(self, path: Sequence[str]) -> Json:
        if not path:
            raise PatchFailed("without its root there is no document")
        parent, last = self._parent(path)
        if isinstance(parent, list):
            return parent.pop(_index(last, len(parent), path))
        if last not in parent:
            raise _nothing(path)
        return parent.pop(last)

    def _replace(self, path: Sequence[str], value: Json) -> None:
        if not path:
            self.root = value
            return
        parent, last = self._parent(path)
        if isinstance(parent, list):
            parent[_index(last, len(parent), path)] = value
        elif last in parent:
            parent[last] = value
        else:
            raise _nothing(path)

    def _find(self, path: Sequence[str]) -> Json:
        """What is there."""
        node = self.root
        for step in path:
            node = _child(node, step, path)
        return node

    def _parent(self, path: Sequence[str]) -> tuple[_Container, str]:
        """The container of the path's last step, which may be changed."""
        node = self.root = self._owned(self.root, path)
        for step in path[:-1]:
            child = self._owned(_child(node, step, path), path)
            if isinstance(node, list):
                node[int(step)] = child
            else:
                node[step] = child
            node = child
        return node, path[-1]

    def _owned(self, node: Json, path: Sequence[str]) -> _Container:
        if id(node) in self._own:
            return cast("_Container", node)
        if not isinstance(node, (dict, list)):
            raise _nothing(path)
        copied = node.copy()
        self._own[id(copied)] = copied
        return copied

    def _shared(self, node: Json) -> Json:
        """What is now in two places is nobody's own: each change of one of them copies it."""
        self._own.clear()
        return node


def _child(node: Json, step: str, path: Sequence[str]) -> Json:
    if isinstance(node, list):
        return node[_index(step, len(node), path)]
    child = node.get(step, _MISSING) if isinstance(node, dict) else _MISSING
    if child is _MISSING:
        raise _nothing(path)
    return child


def _index(step: str, below: int, path: Sequence[str]) -> int:
    """An array index as RFC 6901 writes it: no sign, no leading zero."""
    valid = step.isascii() and step.isdecimal() and len(step) <= _INDEX_DIGITS_MAX and (step == "0" or step[0] != "0")
    if not valid or int(step) >= below:
        raise _nothing(path)
    return int(step)


def _pointer(operation: dict[str, Json], name: str) -> list[str]:
    """A JSON Pointer (RFC 6901) as its steps."""
    text = operation.get(name)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchFailed(f"`{name}` is no JSON Pointer: {text!r:.100}")
    if "~" not in text:
        return text.split("/")[1:]
    if "~" in text.replace("~0", "").replace("~1", ""):
        raise PatchFailed(f"`{name}` is no JSON Pointer: {text!r:.100}")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _value(operation: dict[str, Json]) -> Json:
    value = operation.get("value", _MISSING)
    if value is _MISSING:
        raise PatchFailed("the operation has no `value`")
    return value


def _equal(one: Json, other: Json) -> bool:
    """As JSON: numbers by value, True is not 1, the order of keys has no meaning."""
    encode = msgspec.json.Encoder(order="sorted").encode
    return one == other and encode(_plain(one)) == encode(_plain(other))


def _plain(node: Json) -> Json:
    """With integral numbers written one way."""
    if isinstance(node, dict):
        return {key: _plain(child) for key, child in node.items()}
    if isinstance(node, list):
        return [_plain(child) for child in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def _text(path: Sequence[str]) -> str:
    return "/".join(["", *path])[:100] or "the root"


def _nothing(path: Sequence[str]) -> PatchFailed:
    return PatchFailed(f"there is nothing at {_text(path)}")
