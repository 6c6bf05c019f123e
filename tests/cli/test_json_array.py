"""The elements of a large JSON array: their text, their lines, and the reasons for refusal."""

from __future__ import annotations

import io
import json
from typing import Any

import ijson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.values import same, strings
from tinyvex.cli import json_array
from tinyvex.cli.json_array import read_array
from tinyvex.errors import ImportRefused
from tinyvex.limits import IMPORT_LINE_BYTES_MAX


def elements(data: bytes) -> list[tuple[int, str]]:
    """Return the line and the text of each element."""
    return list(read_array(io.BytesIO(data), "a.json"))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4),
    max_leaves=10,
)


@given(
    st.lists(values, max_size=6), st.integers(1, 9), st.sampled_from([None, 0, 1, 4]), st.booleans(),
    st.sampled_from(["", "\n", " \r\n\t"]),
)  # fmt: skip
def test_an_array_is_read_wherever_the_window_ends(
    written: list[Any], window: int, indent: int | None, is_escaped: bool, around: str
) -> None:
    """Every element is returned in order, on one line, with the line on which it begins."""
    text = around + json.dumps(written, indent=indent, ensure_ascii=is_escaped) + around
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "READ_CHARACTERS", window)
        rows = elements(text.encode())
    assert all("\n" not in row for _, row in rows)
    read = [json.loads(row) for _, row in rows]
    assert len(read) == len(written)
    assert all(map(same, read, written)) or read == written
    if indent is None:
        assert {line for line, _ in rows} <= {1 + around.count("\n")}
    else:
        lines = text.split("\n")
        for line, row in rows:
            assert lines[line - 1].strip()[:1] == row[:1]


@given(st.lists(values, max_size=6), st.sampled_from([None, 1]))
def test_another_reader_finds_the_same_elements(written: list[Any], indent: int | None) -> None:
    """The window and `ijson` agree on every array."""
    data = json.dumps(written, indent=indent).encode()
    theirs = list(ijson.items(io.BytesIO(data), "item", use_float=True))
    assert [json.loads(text) for _, text in elements(data)] == theirs


def test_the_text_of_an_element_is_unchanged() -> None:
    """Half of a surrogate pair, the form of a number and a duplicate key reach the server, which decides about them."""
    written = [r'"\ud83d"', "1.0", "1e2", '{"a": 1, "a": 2}']
    assert [text for _, text in elements(f"[{', '.join(written)}]".encode())] == written


def test_elements_have_the_lines_on_which_they_begin() -> None:
    """Lines inside an element count for the elements after it."""
    data = b'\xef\xbb\xbf[\n  {"n": 1,\n   "m": [\n1]},\n\n  {"n": 2}, {"n": 3}\n]\n'
    assert [line for line, _ in elements(data)] == [2, 6, 6]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "a.json:1: the file is not a JSON array"),
        (b'{"n": 1}', "a.json:1: the file is not a JSON array"),
        (b"\n\n7", "a.json:3: the file is not a JSON array"),
        (b'[\n{"n": 1}\n{"n": 2}]', "a.json:3: expected `,` or `]` after an element"),
        (b'[{"n": 1},\n]', "a.json:2: invalid JSON"),
        (b'[{"n": 1},\n{"n": ]', "a.json:2: invalid JSON"),
        (b'[{"n": 1}', "a.json:1: expected `,` or `]` after an element"),
        (b'[{"n": 1},\n', "a.json:2: invalid JSON"),
        (b"[", "a.json:1: invalid JSON"),
        (b'[{"n": 1}]\n\n[', "a.json:3: unexpected text after the end of the array"),
        (b'[]\n{"n": 1}', "a.json:2: unexpected text after the end of the array"),
        (b'[\n{"n": "\xff"}]', "not valid UTF-8"),
        (b"[" * 100_000, "a.json:1: invalid JSON"),
    ],
    ids=range(13),
)
def test_an_invalid_array_is_refused(data: bytes, reason: str) -> None:
    """The message has the line and the reason."""
    with pytest.raises(ImportRefused) as caught:
        elements(data)
    assert reason in caught.value.message


def test_an_element_that_never_ends_is_refused() -> None:
    """The file is not read to its end."""
    file = io.BytesIO(b'[{"n": "' + b"x" * (4 * IMPORT_LINE_BYTES_MAX))
    with pytest.raises(ImportRefused, match=f"a.json:1: .* more than {IMPORT_LINE_BYTES_MAX:,} bytes"):
        for _ in read_array(file, "a.json"):
            pass


def test_an_empty_array_has_no_elements() -> None:
    """An empty array is valid."""
    assert elements(b" [ ] ") == []
