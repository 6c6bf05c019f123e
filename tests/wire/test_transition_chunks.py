"""Chunks of long transitions: split messages are joined again, and inconsistent chunks are refused."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.errors import UpdateRejected
from tinyvex.wire.messages import Envelope
from tinyvex.wire.transition_chunks import Assembler, Splitter

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\é字🐍'), max_size=40))
CHUNK_SIZES = st.integers(4, 40)


class TransitionChunkParams(msgspec.Struct, rename="camel", kw_only=True, frozen=True):
    transition_id: int
    part_number: int
    parts_total: int
    bytes_total: int
    chunk: str


_decode_envelope = msgspec.json.Decoder(Envelope).decode
_decode = msgspec.json.Decoder(TransitionChunkParams).decode


def split(pieces: list[bytes], chunk_bytes: int, transition_id: int = 0) -> list[TransitionChunkParams]:
    """Split a transition and return the chunks as the client reads them."""
    return [_decode(_decode_envelope(message).params) for message in Splitter(pieces, chunk_bytes, transition_id)]


def pieces_of(texts: list[str], chunk_bytes: int) -> list[bytes]:
    """Return the texts as bytes, with enough bytes for two chunks."""
    return [*(text.encode() for text in texts), b"x" * (chunk_bytes + 1)]


def assemble(chunks: list[TransitionChunkParams], bytes_max: int = 1 << 20) -> bytes | None:
    """Join chunks; return the message, or None if it is incomplete."""
    assembler, message = Assembler(bytes_max), None
    for chunk in chunks:
        assert message is None, "a message was complete before the last chunk"
        message = assembler.add(chunk)
    assert assembler.idle == (message is not None)
    return message


@given(TEXTS, CHUNK_SIZES)
def test_a_split_transition_is_joined_again(texts: list[str], chunk_bytes: int) -> None:
    """For any pieces, any chunk size, and characters of any length."""
    pieces = pieces_of(texts, chunk_bytes)
    assert assemble(split(pieces, chunk_bytes)) == b"".join(pieces)


@given(st.binary(max_size=200).map(lambda data: data.decode("latin-1").encode()), CHUNK_SIZES, st.data())
def test_a_piece_may_end_inside_a_character(text: bytes, chunk_bytes: int, data: st.DataObject) -> None:
    """The ends of pieces are independent of the ends of chunks."""
    text += b"x" * (chunk_bytes + 1)
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    assert assemble(split(pieces, chunk_bytes)) == text


@given(TEXTS, CHUNK_SIZES)
def test_chunks_end_at_multiples_of_their_size(texts: list[str], chunk_bytes: int) -> None:
    """Moved back to the start of a character; so no chunk is empty, and their number is known."""
    pieces = pieces_of(texts, chunk_bytes)
    chunks = split(pieces, chunk_bytes)
    total = sum(map(len, pieces))
    assert len(chunks) == chunks[0].parts_total == -(-total // chunk_bytes)
    end = 0
    for multiple, chunk in enumerate(chunks[:-1], start=1):
        end += len(chunk.chunk.encode())
        assert multiple * chunk_bytes - 3 <= end <= multiple * chunk_bytes


def test_a_chunk_is_produced_on_demand() -> None:
    """No pieces are read beyond it, so that the rest stays shared."""
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


def test_the_last_chunk_exhausts_a_splitter() -> None:
    """The sender knows that it was the last chunk without requesting another."""
    splitter = Splitter([b"123456789"], 5, 0)
    next(splitter)
    assert not splitter.is_exhausted()
    next(splitter)
    assert splitter.is_exhausted()
    assert list(splitter) == []


def test_transitions_of_a_socket_are_numbered() -> None:
    """Ids count from 0; an assembler accepts one transition after another."""
    assembler = Assembler(100)
    for number in range(3):
        first, last = split([b"1234567"], 4, number)
        assert assembler.add(first) is None
        assert not assembler.idle
        assert assembler.add(last) == b"1234567"
        assert assembler.idle


@given(st.integers(2, 6), st.data())
def test_chunks_in_another_order_are_refused(count: int, data: st.DataObject) -> None:
    """As are missing and repeated chunks."""
    chunks = split([b"x" * (4 * count)], 4)
    others = data.draw(
        st.lists(st.sampled_from(chunks), min_size=count, max_size=count).filter(lambda it: it != chunks)
    )
    with pytest.raises(UpdateRejected):
        assemble(others)


@pytest.mark.parametrize("field", ["transition_id", "part_number", "parts_total", "bytes_total"])
@given(st.integers(0, 2), st.integers(0, 100))
def test_a_wrong_number_is_refused(field: str, position: int, value: int) -> None:
    """In any chunk, at the latest with the last one."""
    chunks = split([b"x" * 12], 4)
    if value == getattr(chunks[position], field):
        return
    chunks[position] = msgspec.structs.replace(chunks[position], **{field: value})
    with pytest.raises(UpdateRejected):
        assemble(chunks)


@given(st.integers(0, 2), st.text(max_size=8))
def test_a_chunk_of_another_length_is_refused(position: int, chunk: str) -> None:
    """One that is too long is refused immediately, one that is too short at the end."""
    chunks = split([b"x" * 12], 4)
    chunks[position] = msgspec.structs.replace(chunks[position], chunk=chunk)
    if len(chunk.encode(errors="replace")) != 4:
        with pytest.raises(UpdateRejected):
            assemble(chunks)


def test_totals_that_are_wrong_in_every_chunk_are_refused() -> None:
    """They agree with each other, but not with the chunks."""
    for totals in [{"bytes_total": 13}, {"bytes_total": 11}, {"parts_total": 2, "bytes_total": 12}]:
        chunks = [msgspec.structs.replace(chunk, **totals) for chunk in split([b"x" * 12], 4)]
        with pytest.raises(UpdateRejected):
            assemble(chunks)


def test_a_lone_surrogate_is_refused() -> None:
    """JSON can express one, UTF-8 cannot."""
    first, last = split([b"x" * 8], 4)
    with pytest.raises(UpdateRejected, match="lone surrogate"):
        assemble([first, msgspec.structs.replace(last, chunk="\ud800x")])


def test_a_transition_over_the_limit_is_refused_with_its_first_chunk() -> None:
    """Before any of it is buffered."""
    chunks = split([b"x" * 101], 50)
    with pytest.raises(UpdateRejected, match="101 bytes in 3 chunks; the limit is 100"):
        assemble(chunks, bytes_max=100)


def test_more_bytes_than_announced_are_refused_immediately() -> None:
    """So the buffer is bounded."""
    first, last = split([b"x" * 8], 4)
    assembler = Assembler(100)
    assembler.add(first)
    with pytest.raises(UpdateRejected, match="a chunk of 5 bytes after 4"):
        assembler.add(msgspec.structs.replace(last, chunk="xxxxx"))


def test_a_single_chunk_is_refused() -> None:
    """A transition that fits in one message is sent unsplit."""
    chunk = split([b"x" * 8], 4)[0]
    with pytest.raises(UpdateRejected):
        Assembler(100).add(msgspec.structs.replace(chunk, parts_total=1, bytes_total=4))


def test_an_empty_chunk_is_refused() -> None:
    """Otherwise a server could send chunks forever without making progress."""
    chunk = split([b"x" * 8], 4)[0]
    with pytest.raises(UpdateRejected):
        Assembler(100).add(msgspec.structs.replace(chunk, chunk=""))
