"""Document ids."""

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.errors import InvalidId
from tinyvex.values import ids as ids_module
from tinyvex.values.ids import TABLE_NUMBER_MAX, DocumentId, new_internal, parse_id

ids = st.builds(DocumentId, st.integers(1, TABLE_NUMBER_MAX), st.binary(min_size=16, max_size=16))
EXAMPLE = "j57000820c20a1g7104gm2rc1m70ynr8"


def forget_ids() -> None:
    """Empty the caches, so that the next text is parsed."""
    parse_id.cache_clear()
    ids_module._formatted.clear()


@pytest.mark.parametrize(
    ("table", "internal", "text"),
    [
        (1017, bytes(pow(251, power, 256) for power in range(1, 17)), "z43zp6c3e75gkmz1kfwj6mbbx5sw281h"),
        (10001, bytes(range(16)), EXAMPLE),
    ],
)
def test_the_published_vectors(table: int, internal: bytes, text: str) -> None:
    """Ids match the published format."""
    assert DocumentId(table, internal).text == text
    forget_ids()
    assert parse_id(text) == (table, internal)


@given(ids)
def test_ids_round_trip(document_id: DocumentId) -> None:
    """Parsing the text of an id returns the id, also without the memory of having made the text."""
    text = document_id.text
    assert parse_id(text) == document_id
    forget_ids()
    assert parse_id(text) == document_id


def test_few_texts_are_remembered() -> None:
    """However many ids are made, the memory of their texts is bounded."""
    source = random.Random(5)
    for _ in range(3 * ids_module._NEW_IDS):
        _ = DocumentId(10001, new_internal(10**15, source)).text
        assert len(ids_module._formatted) <= ids_module._NEW_IDS


@given(ids, st.data())
def test_one_wrong_character_is_refused(document_id: DocumentId, data: st.DataObject) -> None:
    """The checksum detects a mistyped id."""
    text = document_id.text
    place = data.draw(st.integers(0, len(text) - 1))
    wrong = data.draw(st.sampled_from("0123456789abcdefghjkmnpqrstvwxyz").filter(lambda new: new != text[place]))
    changed = text[:place] + wrong + text[place + 1 :]
    with pytest.raises(InvalidId, match=changed):
        parse_id(changed)


@pytest.mark.parametrize(
    "text",
    ["", "x", EXAMPLE.upper(), EXAMPLE[:-1], EXAMPLE + "0", EXAMPLE[:-1] + "l", EXAMPLE[:-1] + "9", " " + EXAMPLE[1:],
     "_" * 32, "é" * 32, "0" * 32, "0" * 31, "z" * 37, "a" * 10_000, EXAMPLE + "\n"],
)  # fmt: skip
def test_invalid_texts_are_refused(text: str) -> None:
    """Wrong length, alphabet, case or checksum; the error quotes the text, shortened."""
    with pytest.raises(InvalidId) as caught:
        parse_id(text)
    assert len(caught.value.message) < 200


@given(st.text(max_size=40))
def test_any_text_gives_an_id_or_an_error(text: str) -> None:
    """No other exception is raised, and an accepted text is the one that the id has."""
    with contextlib.suppress(InvalidId):
        assert parse_id(text).text == text


def test_user_tables_have_ids_of_32_characters() -> None:
    """The length that users see is constant."""
    assert {len(DocumentId(number, bytes(16)).text) for number in (10001, 16383)} == {32}


def test_new_ids_sort_by_time() -> None:
    """Inserts land at the end of an index."""
    source = random.Random(5)
    generated = [new_internal(now_us, source) for now_us in range(10**15, 10**15 + 50_000, 1_000)]
    assert generated == sorted(generated)
    assert {len(internal) for internal in generated} == {16}


def test_new_ids_of_one_millisecond_differ() -> None:
    """80 bits are random."""
    source = random.Random(5)
    assert len({new_internal(10**15, source) for _ in range(1000)}) == 1000
