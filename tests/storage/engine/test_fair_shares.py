"""Fair shares: who is served next, against the definition of fairness."""

from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvex.limits import FAIR_COST_SECONDS_MIN, SYSTEM_SHARE
from tinyvex.storage.engine.fair_shares import SYSTEM, URGENT, FairShares

CLIENTS = ("a", "b", "c", SYSTEM, URGENT)


@dataclass(eq=False)
class Piece:
    client: str
    number: int
    seconds: float = 1.0


def filled(*clients, running_max=None):
    """Return shares with one piece for each client named, in this order."""
    shares = FairShares(running_max)
    for number, client in enumerate(clients):
        shares.push(Piece(client, number))
    return shares


def served(shares, count, seconds=1.0):
    """Run `count` pieces one after another; return their clients."""
    clients = []
    for _ in range(count):
        clients.append(shares.take().client)
        shares.charge(clients[-1], seconds)
    return clients


def test_a_newcomer_waits_for_no_queue_of_another_client():
    """However much one client has queued, another one's piece is next."""
    shares = filled(*["busy"] * 200)
    served(shares, 5)
    shares.push(Piece("newcomer", 0))
    assert "newcomer" in served(shares, 2)


def test_clients_share_by_run_time():
    """A client whose pieces take ten times as long runs a tenth as many."""
    shares = filled(*["slow"] * 100, *["quick"] * 100)
    clients = []
    for _ in range(55):
        client = shares.take().client
        shares.charge(client, 1.0 if client == "slow" else 0.1)
        clients.append(client)
    assert clients.count("slow") in (4, 5, 6)


def test_the_system_has_its_stated_share():
    """Work without a client counts as much as that of SYSTEM_SHARE clients."""
    shares = filled(*[SYSTEM] * 100, *["a"] * 100)
    assert served(shares, 50).count(SYSTEM) == pytest.approx(50 * SYSTEM_SHARE / (SYSTEM_SHARE + 1), abs=2)


def test_urgent_work_runs_next_however_long_it_took_before():
    """Other pieces run only while none of it waits."""
    shares = filled(SYSTEM, *["a", "b"] * 20)
    served(shares, 5)
    for number in range(5):
        shares.push(Piece(URGENT, number))
        shares.push(Piece(f"new {number}", 0))
        assert served(shares, 3, 10.0)[0] == URGENT


def test_a_client_known_for_quick_pieces_precedes_many_new_ones():
    """However many unknown clients arrive together, it does not wait for the first piece of each."""
    shares = filled("quick")
    served(shares, 1, 0.001)
    for number in range(50):
        shares.push(Piece(f"new {number}", 0))
    shares.push(Piece("quick", 1))
    assert served(shares, 1) == ["quick"]


def test_ever_new_clients_starve_no_waiting_one():
    """A client with a slow piece runs again although another new client arrives before each turn."""
    shares = filled("slow", "slow")
    served(shares, 1, 1.0)
    clients = []
    for number in range(100):
        shares.push(Piece(f"new {number}", 0))
        clients += served(shares, 1, 0.1)
    assert "slow" in clients


def test_an_idle_client_saves_up_no_time():
    """After a pause a client takes turns with the others; it does not run everything that it has."""
    shares = filled(*["busy"] * 100, "idle")
    served(shares, 60)
    for number in range(40):
        shares.push(Piece("idle", number))
    assert served(shares, 20).count("idle") in (9, 10, 11)


def test_a_client_at_its_bound_leaves_the_other_threads_free():
    """With `running_max` 1, a second piece of the client runs only after the first; others' run."""
    shares = filled("a", "a", "b", running_max=1)
    assert [shares.take().client for _ in range(2)] == ["a", "b"]
    assert not shares.is_ready()
    shares.charge("a", 1.0)
    assert shares.take().client == "a"


def test_a_piece_put_back_runs_before_its_clients_others():
    """A piece that must run again keeps its place."""
    shares = filled("a", "a")
    first = shares.take()
    shares.put_back(first)
    assert shares.take() is first


def test_the_client_with_the_most_loses_its_newest():
    """At a bound, the client with the most queued pieces loses the newest one, not the newcomer."""
    shares = filled("a", "b", "b", "b")
    evicted = shares.evict("newcomer")
    assert (evicted.client, evicted.number, shares.waiting) == ("b", 3, 3)


def test_the_client_with_the_most_evicts_no_other():
    """A client that has as much as any other loses nothing of theirs to them."""
    assert filled("a", "b", "b").evict("b") is None


def test_a_piece_moves_to_a_client_whose_turn_comes_sooner():
    """A piece that waits behind others of its client runs in the turn of a client that waits for it too."""
    shares = filled("busy", "busy", "busy")
    last = Piece("busy", 3)
    shares.push(last)
    served(shares, 1)
    assert shares.move(last, "good")
    assert (shares.take(), last.client) == (last, "good")


def test_a_piece_does_not_move_to_a_busier_client():
    """A busier client that wants it too does not delay it."""
    shares = filled(*["busy"] * 5)
    served(shares, 4)
    piece = Piece("good", 0)
    shares.push(piece)
    assert not shares.move(piece, "busy")


def test_clients_that_left_are_forgotten():
    """The accounts do not grow with the number of clients that ever came."""
    shares = FairShares()
    for number in range(10_000):
        shares.push(Piece(str(number), 0))
        shares.charge(shares.take().client, 0.01)
    assert len(shares._accounts) < 200


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from(CLIENTS), st.floats(0.001, 2)),
        st.tuples(st.just("run")),
    ),
    max_size=200,
)


@given(STEPS)
def test_nothing_is_lost_and_each_client_keeps_its_order(steps):
    """Every piece is taken once, in the order of its client, whatever the others do."""
    shares, queued, taken = FairShares(), {client: deque() for client in CLIENTS}, 0
    for number, step in enumerate([*steps, *[("run",)] * len(steps)]):
        if step[0] == "push":
            piece = Piece(step[1], number, step[2])
            queued[piece.client].append(piece)
            shares.push(piece)
        elif shares.is_ready():
            piece = shares.take()
            taken += 1
            assert piece is queued[piece.client].popleft()
            shares.charge(piece.client, piece.seconds)
    assert (shares.waiting, taken) == (0, sum(step[0] == "push" for step in steps))


@given(STEPS)
def test_waiting_clients_differ_by_one_piece_at_most(steps):
    """
    While two clients wait, the time they get for their shares differs by no more than their longest pieces.

    URGENT is ahead of all others.
    """
    sharing = [client for client in CLIENTS if client != URGENT]
    shares, waiting = FairShares(), dict.fromkeys(CLIENTS, 0)
    used = dict.fromkeys(CLIENTS, 0.0)  # since both began to wait, for each pair
    pairs: dict[tuple[str, str], tuple[float, float]] = {}
    for number, step in enumerate([*steps, *[("run",)] * len(steps)]):
        if step[0] == "push":
            waiting[step[1]] += 1
            shares.push(Piece(step[1], number, step[2]))
        elif shares.is_ready():
            piece = shares.take()
            shares.charge(piece.client, piece.seconds)
            waiting[piece.client] -= 1
            used[piece.client] += max(piece.seconds, FAIR_COST_SECONDS_MIN) / (
                SYSTEM_SHARE if piece.client == SYSTEM else 1
            )
        for one in sharing:
            for other in sharing:
                if not (waiting[one] and waiting[other]):
                    pairs.pop((one, other), None)
                    continue
                start = pairs.setdefault((one, other), (used[one], used[other]))
                assert (used[one] - start[0]) - (used[other] - start[1]) <= 4 + 1e-9
