"""Long transitions in parts: what is cut up comes together again, and nothing else does."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.errors import UpdateRejected
from tinyvex.wire.messages import Envelope
from tinyvex.wire.transition_chunks import Assembler, Splitter

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\é字🐍'), max_size=40))
PART_SIZES = st.integers(4, 40)


class TransitionChunkParams(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    transition_id: int
    part_number: int
    parts_total: int
    bytes_total: int
    chunk: str


_decode_envelope = msgspec.json.Decoder(Envelope).decode
_decode = msgspec.json.Decoder(TransitionChunkParams).decode


def cut(pieces: list[bytes], part_bytes: int, transition_id: int = 0) -> list[TransitionChunkParams]:
    """The parts, as a client reads them."""
    return [_decode(_decode_envelope(message).params) for message in Splitter(pieces, part_bytes, transition_id)]


def pieces_of(texts: list[str], part_bytes: int) -> list[bytes]:
    """These texts as bytes, and enough of them for two parts."""
    return [*(text.encode() for text in texts), b"x" * (part_bytes + 1)]


def assemble(parts: list[TransitionChunkParams], bytes_max: int = 1 << 20) -> bytes | None:
    """What comes of the parts."""
    assembler, message = Assembler(bytes_max), None
    for part in parts:
        assert message is None, "a message came before the last part"
        message = assembler.add(part)
    assert assembler.idle == (message is not None)
    return message


@given(TEXTS, PART_SIZES)
def test_what_is_cut_up_comes_together_again(texts: list[str], part_bytes: int) -> None:
    """Any pieces, any size of the parts, characters of any length."""
    pieces = pieces_of(texts, part_bytes)
    assert assemble(cut(pieces, part_bytes)) == b"".join(pieces)


@given(st.binary(max_size=200).map(lambda data: data.decode("latin-1").encode()), PART_SIZES, st.data())
def test_a_piece_may_end_inside_a_character(text: bytes, part_bytes: int, data: st.DataObject) -> None:
    """Where the pieces end has nothing to do with where the parts do."""
    text += b"x" * (part_bytes + 1)
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    assert assemble(cut(pieces, part_bytes)) == text


@given(TEXTS, PART_SIZES)
def test_the_parts_are_cut_at_multiples_of_their_size(texts: list[str], part_bytes: int) -> None:
    """Moved back to a character's beginning, so none is empty and their number is that of the multiples."""
    pieces = pieces_of(texts, part_bytes)
    parts = cut(pieces, part_bytes)
    total = sum(map(len, pieces))
    assert len(parts) == parts[0].parts_total == -(-total // part_bytes)
    end = 0
    for multiple, part in enumerate(parts[:-1], start=1):
        end += len(part.chunk.encode())
        assert multiple * part_bytes - 3 <= end <= multiple * part_bytes


def test_a_part_is_made_when_it_is_asked_for() -> None:
    """Nothing is read ahead beyond it, so that the rest stays shared with others."""
    read: list[int] = []

    class Piece(bytes):
        pass

    class Pieces(list[bytes]):
        def __iter__(self) -> Iterator[bytes]:
            for number in range(len(self)):
                read.append(number)
                yield self[number]

    splitter = Splitter(Pieces([b"0123456789"] * 10), 20, 0)
    read.clear()
    next(splitter)
    assert read == [0, 1]


def test_the_last_part_exhausts_a_splitter() -> None:
    """Whoever sends knows that it was the last without asking for another."""
    splitter = Splitter([b"123456789"], 5, 0)
    next(splitter)
    assert not splitter.is_exhausted()
    next(splitter)
    assert splitter.is_exhausted()
    assert list(splitter) == []


def test_transitions_of_a_socket_are_numbered() -> None:
    """From 0; an assembler takes one after the other."""
    assembler = Assembler(100)
    for number in range(3):
        first, last = cut([b"1234567"], 4, number)
        assert assembler.add(first) is None
        assert not assembler.idle
        assert assembler.add(last) == b"1234567"
        assert assembler.idle


@given(st.integers(2, 6), st.data())
def test_parts_in_another_order_are_refused(count: int, data: st.DataObject) -> None:
    """Also one left out or sent twice."""
    parts = cut([b"x" * (4 * count)], 4)
    others = data.draw(st.lists(st.sampled_from(parts), min_size=count, max_size=count).filter(lambda it: it != parts))
    with pytest.raises(UpdateRejected):
        assemble(others)


@pytest.mark.parametrize("field", ["transition_id", "part_number", "parts_total", "bytes_total"])
@given(st.integers(0, 2), st.integers(0, 100))
def test_a_wrong_number_is_refused(field: str, position: int, value: int) -> None:
    """In whichever part, at the latest with the last one."""
    parts = cut([b"x" * 12], 4)
    if value == getattr(parts[position], field):
        return
    parts[position] = msgspec.structs.replace(parts[position], **{field: value})
    with pytest.raises(UpdateRejected):
        assemble(parts)


@given(st.integers(0, 2), st.text(max_size=8))
def test_a_chunk_of_another_length_is_refused(position: int, chunk: str) -> None:
    """Too short is seen at the end, too long at once."""
    parts = cut([b"x" * 12], 4)
    parts[position] = msgspec.structs.replace(parts[position], chunk=chunk)
    if len(chunk.encode(errors="replace")) != 4:
        with pytest.raises(UpdateRejected):
            assemble(parts)


def test_totals_that_are_wrong_in_every_part_are_refused() -> None:
    """They agree with each other, but not with what comes."""
    for totals in [{"bytes_total": 13}, {"bytes_total": 11}, {"parts_total": 2, "bytes_total": 12}]:
        parts = [msgspec.structs.replace(part, **totals) for part in cut([b"x" * 12], 4)]
        with pytest.raises(UpdateRejected):
            assemble(parts)


def test_half_a_character_is_refused() -> None:
    """JSON can write a lone surrogate, UTF-8 cannot."""
    first, last = cut([b"x" * 8], 4)
    with pytest.raises(UpdateRejected, match="lone surrogate"):
        assemble([first, msgspec.structs.replace(last, chunk="\ud800x")])


def test_a_transition_over_the_limit_is_refused_with_its_first_part() -> None:
    """Before anything of it is kept."""
    parts = cut([b"x" * 101], 50)
    with pytest.raises(UpdateRejected, match="101 bytes in 3 chunks; the limit is 100"):
        assemble(parts, bytes_max=100)


def test_more_than_was_announced_is_refused_at_once() -> None:
    """So what is kept is bounded, whatever comes."""
    first, last = cut([b"x" * 8], 4)
    assembler = Assembler(100)
    assembler.add(first)
    with pytest.raises(UpdateRejected, match="a chunk of 5 bytes after 4"):
        assembler.add(msgspec.structs.replace(last, chunk="xxxxx"))


def test_a_single_part_is_refused() -> None:
    """What fits into one message goes as one."""
    part = cut([b"x" * 8], 4)[0]
    with pytest.raises(UpdateRejected):
        Assembler(100).add(msgspec.structs.replace(part, parts_total=1, bytes_total=4))


def test_an_empty_part_is_refused() -> None:
    """So that parts cannot come for ever without an end getting nearer."""
    part = cut([b"x" * 8], 4)[0]
    with pytest.raises(UpdateRejected):
        Assembler(100).add(msgspec.structs.replace(part, chunk=""))
