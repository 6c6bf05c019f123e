"""
Seeded worlds: whatever is cut, delayed or killed, what clients are told is true, and everything converges.

`make simulate SEED=7 WORLDS=1` replays one; `WORLDS=1000` runs more.
"""

import os
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.loop import run_virtual

FIRST_SEED = int(os.environ.get("SEED", "1"))
WORLDS = int(os.environ.get("WORLDS", "50"))


def live(seed: int, folder: Path) -> Cluster:
    """One world, from start to convergence."""
    folder.mkdir()
    cluster = Cluster(seed, folder)
    print(f"seed {seed}")
    run_virtual(cluster.run())
    return cluster


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + WORLDS))
def test_what_clients_are_told_equals_a_fresh_run_at_that_version(seed: int, tmp_path: Path) -> None:
    """After every transition each result equals the model's; in the end nothing acknowledged is lost or doubled."""
    cluster = live(seed, tmp_path / "world")
    assert cluster.checks > 0
    assert cluster.acknowledged


def test_a_seed_is_a_world(tmp_path: Path) -> None:
    """The same seed gives the same events at the same times."""
    first, second = live(FIRST_SEED, tmp_path / "one"), live(FIRST_SEED, tmp_path / "two")
    assert first.trace == second.trace
