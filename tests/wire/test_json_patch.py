"""JSON Patch: patches apply as RFC 6902 defines, and the original document stays unchanged."""

import contextlib
import copy
import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sessions import VECTORS
from tinyvex.wire.json_patch import PatchFailed, apply

CASES: list[dict[str, Any]] = json.loads((VECTORS / "patches.json").read_text(encoding="utf-8"))["cases"]

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.text("a~/é", max_size=2)
trees = st.recursive(
    scalars,
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text("ab~/", max_size=2), parts, max_size=3),
    max_leaves=12,
)


@st.composite
def pointers(draw: st.DrawFn, document: Any) -> str:
    """Generate a pointer, mostly to an existing value or next to one."""
    path, node = "", document
    while draw(st.booleans()):
        if isinstance(node, dict):
            key = draw(st.sampled_from([*node, "new"]))
            node = node.get(key)
        elif isinstance(node, list):
            key = draw(st.sampled_from([*map(str, range(len(node) + 1)), "-", "01", "x"]))
            node = node[int(key)] if key.isdecimal() and int(key) < len(node) else None
        else:
            break
        path += "/" + key.replace("~", "~0").replace("/", "~1")
    return path


@st.composite
def patches(draw: st.DrawFn) -> tuple[Any, list[dict[str, Any]]]:
    """Generate a document and operations that often fit it."""
    document = draw(trees)
    operations = []
    for name in draw(st.lists(st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), max_size=5)):
        operation = {"op": name, "path": draw(pointers(document))}
        if name in {"move", "copy"}:
            operation["from"] = draw(pointers(document))
        elif name != "remove":
            operation["value"] = draw(trees)
        operations.append(operation)
    return document, operations


@pytest.mark.parametrize("case", CASES, ids=[case["description"] for case in CASES])
def test_vector(case: dict[str, Any]) -> None:
    """Each vector has the expected result, or is refused."""
    if "result" in case:
        assert json.dumps(apply(case["document"], case["patch"])) == json.dumps(case["result"])
    else:
        with pytest.raises(PatchFailed):
            apply(case["document"], case["patch"])


@given(patches())
def test_it_agrees_with_a_published_library(drawn: tuple[Any, list[dict[str, Any]]]) -> None:
    """If `jsonpatch` can apply a patch, the result is the same; if it fails, both fail."""
    document, operations = drawn
    try:
        expected = jsonpatch.apply_patch(copy.deepcopy(document), copy.deepcopy(operations))
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, IndexError, KeyError, ValueError):
        with pytest.raises(PatchFailed):
            apply(document, operations)
    else:
        try:
            actual = apply(document, operations)
        except PatchFailed as refusal:
            # The library is laxer: it accepts True as 1, indexes into strings, moves values into themselves.
            assert lax(operations, str(refusal)), (document, operations, refusal)
        else:
            assert json.dumps(actual, sort_keys=True) == json.dumps(expected, sort_keys=True)


def lax(operations: list[dict[str, Any]], refusal: str) -> bool:
    """Return whether the library goes beyond the RFC in this case."""
    return "the value differs" in refusal or "into itself" in refusal


@given(patches())
def test_the_original_document_is_never_changed(drawn: tuple[Any, list[dict[str, Any]]]) -> None:
    """Not even by a patch that fails halfway."""
    document, operations = drawn
    before = json.dumps(document)
    with contextlib.suppress(PatchFailed):
        apply(document, operations)
    assert json.dumps(document) == before


def test_unchanged_parts_are_shared() -> None:
    """Changing one row of a list copies the list and that row only."""
    document = [{"_id": str(number), "tags": []} for number in range(100)]
    patched = apply(document, [{"op": "replace", "path": "/7/tags", "value": ["x"]}])
    assert [number for number in range(100) if patched[number] is not document[number]] == [7]
