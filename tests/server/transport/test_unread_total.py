"""The memory that unread answers of all clients take together, and the client that is closed."""

from typing import Any

import pytest

from tinyvex import limits
from tinyvex.server.transport.unread_total import UnreadTotal

MIB = 1 << 20


class Client:
    """A holder; it records why it was closed."""

    def __init__(self, total: UnreadTotal, size: int = 0, unread_seconds: float = 0.0) -> None:
        self.total = total
        self.size = size
        self.seconds = unread_seconds
        self.reasons: list[str] = []
        self.pieces: list[Any] = []
        total.report(self, size)

    def recount(self) -> None:
        self.total.report(self, self.size)

    def unread_seconds(self, now: float) -> float:
        return self.seconds

    def close_unread(self, reason: str) -> None:
        self.reasons.append(reason)
        self.total.report(self, 0)
        if self.pieces:
            self.total.release(self, self.pieces)


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a bound of 10 MiB."""
    monkeypatch.setattr(limits, "UNREAD_BYTES_MAX", 10 * MIB)


def test_the_client_with_the_most_is_closed_until_the_rest_fits() -> None:
    """The others stay."""
    total = UnreadTotal()
    clients = [Client(total, size * MIB) for size in (3, 6, 5, 2)]
    total.relieve(0.0)
    assert ([len(client.reasons) for client in clients], total.bytes) == ([0, 1, 0, 0], 10 * MIB)


def test_a_client_that_reads_stays() -> None:
    """A stalled client is closed before a reading client with as many bytes."""
    total = UnreadTotal()
    reading, stalled = Client(total, 6 * MIB), Client(total, 6 * MIB, unread_seconds=2.0)
    total.relieve(0.0)
    assert ([len(client.reasons) for client in (reading, stalled)], total.bytes) == ([0, 1], 6 * MIB)


def test_what_was_read_meanwhile_closes_no_client() -> None:
    """The transport's buffer shrinks without a report, so it is counted again first."""
    total = UnreadTotal()
    clients = [Client(total, 6 * MIB), Client(total, 6 * MIB)]
    clients[0].size = MIB
    total.relieve(0.0)
    assert [client.reasons for client in clients] == [[], []]


def test_pieces_of_a_result_count_once() -> None:
    """A large result with many subscribers is no reason to close one of them."""
    total, pieces = UnreadTotal(), [b"x" * 6 * MIB]
    clients = [Client(total) for _ in range(3)]
    for client in clients:
        client.pieces = pieces
        total.hold(client, pieces)
    total.relieve(0.0)
    assert (total.bytes, [client.reasons for client in clients]) == (6 * MIB, [[], [], []])


def test_different_results_of_stalled_subscribers_count_together() -> None:
    """Unmade chunks hold their results in memory, so they count like answers."""
    total = UnreadTotal()
    clients = [Client(total) for _ in range(2)]
    for client in clients:
        client.pieces = [bytes(6 * MIB)]
        total.hold(client, client.pieces)
    total.relieve(0.0)
    assert (sum(len(client.reasons) for client in clients), total.bytes) == (1, 6 * MIB)
