"""
Promise 9: a byte of a closed file changes, as on a disk that decays; the check finds it, or no reader sees a difference.

The sample covers pages of every kind: leaves and interior pages of tables and indexes, overflow pages, free pages, headers.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.flips import Refused, create, flip, outcome, reads, visible
from tests.support.postings import SEED
from tinyvex.storage.file.pragmas import PAGE_BYTES

SERVED_PERCENT_MAX = 5.0
"""A damaged cell pointer or key can hide a row from a read; the check finds it."""


@pytest.mark.parametrize("flips", [100, pytest.param(500, marks=pytest.mark.slow)])
async def test_a_changed_byte_is_found_or_changes_nothing(tmp_path: Path, flips: int) -> None:
    """No reader sees other content in a file that passes the check, no read ends with a defect of ours, and none hangs."""
    folder = tmp_path / "data"
    await create(folder)
    file = folder / "data.sqlite3"
    data = file.read_bytes()
    wanted = reads(folder)
    sound = visible(folder, wanted)
    assert not [result for result in sound.values() if isinstance(result, Refused | Exception)]
    pick = random.Random(f"{SEED} {flips}")
    print("seed", SEED, len(data), "bytes", len(wanted), "reads")
    counts: Counter[str] = Counter()
    for _ in range(flips):
        offset, changed = flip(data, pick)
        file.write_bytes(changed)
        for suffix in ("-wal", "-shm", "-journal"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        result = outcome(folder, wanted, sound)
        is_visible = bool(result.refused or result.other or result.crashed)
        counts["found by the check"] += result.found
        counts["visible"] += is_visible
        counts["visible and found"] += is_visible and result.found
        counts["refused by a read"] += bool(result.refused)
        counts["served as other content"] += bool(result.other)
        where = f"page {offset // PAGE_BYTES + 1}, byte {offset % PAGE_BYTES}: {data[offset]} became {changed[offset]}"
        assert not result.crashed, (where, result.crashed)
        assert result.found or not is_visible, (where, result)
    print({name: f"{100 * count / flips:.1f} %" for name, count in counts.items()})
    assert counts["visible"] > flips / 2, "the file is mostly visible"
    assert 100 * counts["served as other content"] / flips <= SERVED_PERCENT_MAX


def changed_text(data: bytes, old: bytes, new: bytes) -> bytes:
    """Return a file's contents in which a text has become another of the same length, once."""
    assert len(old) == len(new)
    position = data.rindex(old)
    return data[:position] + new + data[position + len(old) :]


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"text":"', b'"tuxt":"'), (b'"list":[', b'"lost":['), (b"\xc3\xa4", b"\xc3\xa5")],
    ids=["a field's name", "a nested field's name", "a character"],
)
async def test_another_content_is_never_served(tmp_path: Path, old: bytes, new: bytes) -> None:
    """Valid JSON that is not what was written is refused by every read that meets it, and found by the check."""
    folder = tmp_path / "data"
    await create(folder)
    file = folder / "data.sqlite3"
    wanted: dict[str, Any] = reads(folder)
    sound = visible(folder, wanted)
    file.write_bytes(changed_text(file.read_bytes(), old, new))
    result = outcome(folder, wanted, sound)
    assert result.found
    assert result.refused
    assert (result.other, result.crashed) == ([], [])
