"""
Promises 3 and 4, in seeded worlds: whatever is cut, delayed or killed, every result is correct, and everything
converges.

`make simulate SEED=7 WORLDS=1` replays one; `WORLDS=1000` runs more.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.loop import run_virtual
from tests.support.users import SlowTokens
from tinyvex import limits

FIRST_SEED = int(os.environ.get("SEED", "1"))
WORLDS = int(os.environ.get("WORLDS", "50"))


STEPS_MIN = 200
"""Events of each world's clients. With 50 worlds at least 10,000."""


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Path], Cluster]:
    """Run one world, from start to convergence."""

    def run(seed: int, folder: Path) -> Cluster:
        folder.mkdir()
        cluster = Cluster(seed, folder)
        print(f"seed {seed}")
        for name, value in cluster.limits.items():
            monkeypatch.setattr(limits, name, value)
        monkeypatch.setattr("tinyvex.server.access.jwt.UserTokens", SlowTokens)
        if cluster.is_trusting:
            monkeypatch.setattr("tinyvex.client.identity._owner", lambda _token: ("", ""))
        run_virtual(cluster.run())
        return cluster

    return run


@pytest.fixture(scope="module")
def totals() -> Iterator[Counter[str]]:
    """Print the totals of all worlds."""
    counted: Counter[str] = Counter()
    yield counted
    print(f"\nseeds {FIRST_SEED} to {FIRST_SEED + WORLDS - 1}: {dict(counted)}")


Live = Callable[[int, Path], Cluster]


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + WORLDS))
def test_results_equal_a_fresh_run_at_their_version(
    seed: int, tmp_path: Path, live: Live, totals: Counter[str]
) -> None:
    """After every transition each result equals the model's; at the end no acknowledged mutation is lost or doubled."""
    cluster = live(seed, tmp_path / "world")
    assert cluster.acts + cluster.steps >= STEPS_MIN
    assert cluster.checkers.checks > 0
    assert cluster.checkers.acknowledged
    assert cluster.counted["patches_failed"] == 0, "every patch fits"
    totals.update(
        worlds=1, steps=cluster.acts + cluster.steps, results_checked=cluster.checkers.checks,
        mutations_acknowledged=len(cluster.checkers.acknowledged), kills=cluster.kills, cuts=cluster.cuts,
        patches=cluster.counted["patches_applied"], tokens_taken=cluster.issuer.seen["tokens_taken"],
    )  # fmt: skip


def test_a_seed_is_a_world(tmp_path: Path, live: Live) -> None:
    """The same seed gives the same events at the same times."""
    first, second = live(FIRST_SEED, tmp_path / "one"), live(FIRST_SEED, tmp_path / "two")
    assert first.trace == second.trace


def test_worlds_cover_every_form_of_update(tmp_path: Path, live: Live) -> None:
    """A few worlds cover patches, chunks, resumed results, evicted results, and users that come and go."""
    counted: Counter[str] = Counter()
    for seed in range(1, 9):
        cluster = live(seed, tmp_path / str(seed))
        counted += cluster.counted
        counted.update(kills=cluster.kills, cuts=cluster.cuts, stalls=cluster.stalls, vanished=cluster.vanished)
        counted.update(cluster.issuer.seen, clock_steps=cluster.clock_steps, crashed_clients=cluster.crashed_clients)
    ways = [
        "patches_applied", "values_received", "chunks_received", "unchanged_sent", "results_reconstructed",
        "transitions_skipped", "results_evicted", "rows_applied", "mutations_replayed", "acknowledged_refused", "kills", "cuts", "stalls",
        "revisions_purged", "vanished", "crashed_clients", "clock_steps", "tokens_taken", "tokens_refused", "tokens_ended",
        "signed_out", "identities_changed", "imports", "imports_failed", "mutations_of_users", "results_of_users", "queries_answered",
    ]  # fmt: skip
    print(counted)
    assert [way for way in ways if not counted[way]] == [], counted
