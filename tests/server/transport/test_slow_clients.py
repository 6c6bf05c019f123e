"""The time since a client last read."""

from tinyvex.server.transport.slow_clients import UnreadWatch


def test_a_client_that_reads_a_little_starts_again() -> None:
    """Only a client that reads nothing is stuck."""
    watch = UnreadWatch()
    assert watch.seconds(5.0, 100) == 0.0
    watch.begin(10.0, 100)
    assert watch.seconds(70.0, 100) == 60.0
    assert watch.seconds(75.0, 99) == 0.0
    assert watch.seconds(80.0, 99) == 5.0
    watch.end()
    assert watch.seconds(900.0, 99) == 0.0
