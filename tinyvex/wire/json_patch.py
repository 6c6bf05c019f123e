"""
JSON Patch (RFC 6902) on decoded JSON, with structure sharing (pure).

Applying a patch leaves the document unchanged and returns a new one, which shares every part that no operation
reaches. An operation copies the containers on the path to its target, each once per patch. So the cost follows the
patch and not the document, and a patch that fails halfway has no effect.

This replaces the library `jsonpatch`, which copies the whole document first. `python -m bench apply_patch --real`: one
changed row of 1,000 takes 9 µs here and 8,600 µs there. A test compares the results of both. Unlike the library, this
module is strict: `test` distinguishes true from 1, and a value cannot be moved into itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import msgspec

__all__ = ["PatchFailed", "apply"]

Json: TypeAlias = Any
"""Decoded JSON, as `json.loads` returns it."""

_Container: TypeAlias = "dict[str, Json] | list[Json]"
_INDEX_DIGITS_MAX = 18
_MISSING = object()


class PatchFailed(ValueError):
    """The patch does not fit the document, or is malformed."""


def apply(document: Json, operations: Json) -> Json:
    """
    Return the document after all operations, without changing the original.

    Args:
        document: decoded JSON.
        operations: a decoded JSON Patch, which is a list of operations.

    Raises:
        PatchFailed: an operation cannot be applied, or is malformed.
    """
    if not isinstance(operations, list):
        raise PatchFailed("a patch must be an array of operations")
    application = _Application(document)
    try:
        for operation in operations:
            application.apply(operation)
    except RecursionError:
        raise PatchFailed("a value is nested too deep") from None
    return application.root


class _Application:
    """
    The application of one patch.

    Attributes:
        root: the document after the operations so far.
    """

    def __init__(self, document: Json) -> None:
        self.root = document
        self._owned: dict[int, _Container] = {}
        """Containers that this patch has copied and may change, by id; the reference keeps the id unique."""

    def apply(self, operation: Json) -> None:
        """Apply one operation."""
        if not isinstance(operation, dict):
            raise PatchFailed(f"an operation must be an object, not {_json(operation)}")
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
                self._add(path, self._share(self._resolve(_pointer(operation, "from"))))
            case "test":
                if not _equal(self._resolve(path), _value(operation)):
                    raise PatchFailed(f"the test at {_text(path)} failed: the value differs")
            case name:
                raise PatchFailed(f"{_json(name)} is not an operation of JSON Patch")

    def _move(self, origin: Sequence[str], path: Sequence[str]) -> None:
        if path == origin:
            self._resolve(origin)
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
            raise PatchFailed("the root cannot be removed")
        parent, last = self._parent(path)
        if isinstance(parent, list):
            return parent.pop(_index(last, len(parent), path))
        if last not in parent:
            raise _no_target(path)
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
            raise _no_target(path)

    def _resolve(self, path: Sequence[str]) -> Json:
        """Return the value at a path."""
        node = self.root
        for step in path:
            node = _child(node, step, path)
        return node

    def _parent(self, path: Sequence[str]) -> tuple[_Container, str]:
        """Return the container that the path's last step refers into, as a copy that may be changed, and that step."""
        node = self.root = self._own(self.root, path)
        for step in path[:-1]:
            child = self._own(_child(node, step, path), path)
            if isinstance(node, list):
                node[int(step)] = child
            else:
                node[step] = child
            node = child
        return node, path[-1]

    def _own(self, node: Json, path: Sequence[str]) -> _Container:
        """Return a container that this patch may change: the node itself if it was copied before, else a copy."""
        if id(node) in self._owned:
            return cast("_Container", node)
        if not isinstance(node, (dict, list)):
            raise _no_target(path)
        copied = node.copy()
        self._owned[id(copied)] = copied
        return copied

    def _share(self, node: Json) -> Json:
        """Return the node, for a second reference to it: a change through either reference must copy it again."""
        self._owned.clear()
        return node


def _child(node: Json, step: str, path: Sequence[str]) -> Json:
    if isinstance(node, list):
        return node[_index(step, len(node), path)]
    child = node.get(step, _MISSING) if isinstance(node, dict) else _MISSING
    if child is _MISSING:
        raise _no_target(path)
    return child


def _index(step: str, end: int, path: Sequence[str]) -> int:
    """Parse an array index as RFC 6901 defines it: no sign, no leading zero."""
    valid = step.isascii() and step.isdecimal() and len(step) <= _INDEX_DIGITS_MAX and (step == "0" or step[0] != "0")
    if not valid or int(step) >= end:
        raise _no_target(path)
    return int(step)


def _pointer(operation: dict[str, Json], name: str) -> list[str]:
    """Split a JSON Pointer (RFC 6901) into its steps."""
    text = operation.get(name)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchFailed(f"`{name}` must be a JSON Pointer, not {_json(text)}")
    if "~" not in text:
        return text.split("/")[1:]
    if "~" in text.replace("~0", "").replace("~1", ""):
        raise PatchFailed(f"`{name}` must be a JSON Pointer, not {_json(text)}")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _value(operation: dict[str, Json]) -> Json:
    value = operation.get("value", _MISSING)
    if value is _MISSING:
        raise PatchFailed("the operation has no `value`")
    return value


def _equal(one: Json, other: Json) -> bool:
    """Compare as JSON: numbers by value, true differs from 1, the order of keys is irrelevant."""
    encode = msgspec.json.Encoder(order="sorted").encode
    return one == other and encode(_plain(one)) == encode(_plain(other))


def _plain(node: Json) -> Json:
    """Return the same JSON with integral floats as integers."""
    if isinstance(node, dict):
        return {key: _plain(child) for key, child in node.items()}
    if isinstance(node, list):
        return [_plain(child) for child in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def _text(path: Sequence[str]) -> str:
    return f"`{'/'.join(['', *path])[:100]}`" if path else "of the root"


def _json(node: Json) -> str:
    return msgspec.json.encode(node).decode()[:100]


def _no_target(path: Sequence[str]) -> PatchFailed:
    return PatchFailed(f"the path {_text(path)} does not exist")
