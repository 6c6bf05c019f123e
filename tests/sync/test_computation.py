"""Computations: the hash and the patch are ready before an outcome reaches the loop."""

from __future__ import annotations

import pytest

from tinyvex import errors
from tinyvex.functions.result.result_body import Body
from tinyvex.functions.run.call import Call, QueryOutcome
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.sync.computation import Computation, Recomputation, Reconstruction, SnapshotComputation
from tinyvex.sync.live_query import LiveQuery, LiveQueryKey
from tinyvex.sync.results import Result, Version

OLD = Body((b'{"text":"%b","n":1}' % (b"x" * 200),))
NEW = Body((b'{"text":"%b","n":2}' % (b"x" * 200),))


def outcome(body: Body | None) -> QueryOutcome:
    return QueryOutcome(5, body, None if body is not None else errors.AppError("no"), ReadSet())


def live_query(newest: Body | None = OLD, holders: int = 1) -> LiveQuery:
    """A live query with a newest result."""
    live = LiveQuery(LiveQueryKey("m:f", b"{}", admin=False, identity=None), Call("m:f", b"{}"))
    if newest is not None:
        version = Version(newest.token, newest)
        version.holders = holders
        live.result = Result.of(outcome(newest), None, version, "q1")
    return live


@pytest.mark.parametrize("computation", [Computation(live_query(), None), SnapshotComputation(live_query(), 3)])
def test_the_hash_is_ready(computation: Computation) -> None:
    """The body caches it."""
    body = Body((b"1",))
    computation.prepare(outcome(body))
    assert body._token


def test_a_recomputation_prepares_the_patch_from_the_newest_result() -> None:
    """For the clients that hold that result."""
    computation = Recomputation(live_query(), None, 0.0)
    computation.prepare(outcome(NEW))
    assert computation.difference is not None
    assert computation.difference.patch == b'[{"op":"replace","path":"/n","value":2}]'


@pytest.mark.parametrize(
    ("live", "body"),
    [(live_query(holders=0), NEW), (live_query(), OLD), (live_query(), None), (live_query(None), NEW)],
    ids=["no client holds it", "it is unchanged", "it failed", "it is the first"],
)
def test_a_recomputation_prepares_no_superfluous_patch(live: LiveQuery, body: Body | None) -> None:
    """Comparing takes time."""
    computation = Recomputation(live, None, 0.0)
    computation.prepare(outcome(body))
    assert computation.difference is None


def test_a_base_that_is_evicted_meanwhile_gives_no_patch() -> None:
    """The loop may evict it while the reader runs."""
    live = live_query()
    computation = Recomputation(live, None, 0.0)
    assert live.result is not None
    live.result.version.body = None
    computation.prepare(outcome(NEW))
    assert computation.difference is None


def test_a_reconstruction_prepares_the_patch_to_the_newest_result() -> None:
    """From the result that clients offered."""
    computation = Reconstruction(live_query(NEW), OLD.token, 3)
    computation.prepare(outcome(OLD))
    assert computation.difference is not None
    assert computation.difference.patch == b'[{"op":"replace","path":"/n","value":2}]'


@pytest.mark.parametrize("body", [NEW, None])
def test_a_mismatched_reconstruction_prepares_no_patch(body: Body | None) -> None:
    """Its hash is not the one offered."""
    computation = Reconstruction(live_query(NEW), OLD.token, 3)
    computation.prepare(outcome(body))
    assert computation.difference is None
