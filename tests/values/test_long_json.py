"""Encoding in steps gives the same JSON as encoding as a whole."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.errors import InvalidValue
from tinyvex.values import codec, long_json

STEP = 16
"""The length of a step here, so that small values need many."""

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=60),
    lambda children: st.lists(children, max_size=6) | st.dictionaries(st.text(max_size=6), children, max_size=6),
    max_leaves=40,
)


class Spliced:
    """A part whose JSON is inserted unchanged."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __tinyvex_json__(self) -> bytes:
        return self.text


@pytest.fixture(autouse=True, scope="module")
def _short_steps() -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(long_json, "STEP_BYTES", STEP)
        yield


@given(values)
def test_steps_do_not_change_the_text(value: object) -> None:
    """Whatever is long in it: strings, arrays, objects, keys."""
    assert long_json.encode_in_steps(value) == msgspec.json.Encoder(order="sorted").encode(value)


@pytest.mark.parametrize("wrap", [lambda part: part, lambda part: [1, part, 2], lambda part: {"b": part, "a": 1}])
def test_a_spliced_part_is_not_changed(wrap: Any) -> None:
    """Rows are spliced in as stored, however long they are."""
    part = Spliced(b"[" + b",".join([b"%d" % number for number in range(100)]) + b"]")
    assert codec.encode_long(wrap(part)) == codec.encode(wrap(part))


def test_no_step_encodes_much_more_than_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step holds the interpreter lock, so the longest one counts."""
    whole, lengths = long_json._encode, []

    def encode(value: object) -> bytes:
        text = whole(value)
        lengths.append(len(text))
        return text

    monkeypatch.setattr(long_json, "_encode", encode)
    long_json.encode_in_steps({"text": "x" * 500, "rows": [{"n": n, "s": "y" * 5} for n in range(50)], "few": [1, 2]})
    assert max(lengths) <= 4 * STEP


@pytest.mark.parametrize(
    "value",
    ["x" * 500, ["x" * 9] * 50, {f"key {number}": number for number in range(50)}],
    ids=["string", "array", "object"],
)
def test_other_threads_may_run_between_steps(value: object) -> None:
    """However the value is long, at most a few steps are encoded in a row."""
    gave_way = []
    text = codec.encode_long(value, lambda: gave_way.append(True))
    assert len(gave_way) >= len(text) // (4 * STEP)


def test_a_short_value_does_not_give_way() -> None:
    """Most results are short: a pause for each would cost more than it."""
    codec.encode_long([1], pytest.fail)


def test_a_lone_surrogate_is_found_in_any_step() -> None:
    """The error names the path, as for a short value."""
    with pytest.raises(InvalidValue, match=r"lone surrogate.*\$\.text"):
        codec.encode_long({"text": "x" * 100 + "\ud800"})


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 47, 48, 49, 100])
def test_long_bytes_have_one_base64(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps end at multiples of three bytes, so that only the last has padding."""
    whole = codec.encode(bytes(range(size)))
    monkeypatch.setattr(codec, "STEP_BYTES", STEP)
    assert codec.encode(bytes(range(size))) == whole
