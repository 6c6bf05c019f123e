"""The watch for saves: which files belong to the app; `test_dev.py` has the rest, with a real process."""

from __future__ import annotations

from pathlib import Path

import pytest
from watchfiles import Change

from tinyvex.cli.save_watch import SaveWatch


@pytest.mark.parametrize(
    ("saved", "belongs"),
    [("app.py", True), ("other.py", False), ("app.py.swp", False)],
)
def test_only_the_file_of_a_single_file_app_belongs_to_it(tmp_path: Path, saved: str, belongs: bool) -> None:
    """Its folder is watched, and may contain anything."""
    app = tmp_path / "app.py"
    app.touch()
    watch = SaveWatch(app, lambda: None)
    assert watch._belongs_to_app(Change.modified, str(tmp_path / saved)) is belongs


@pytest.mark.parametrize(
    ("saved", "belongs"),
    [("__init__.py", True), ("inner/tables.py", True), ("notes.md", False)],
)
def test_every_python_file_of_a_package_belongs_to_it(tmp_path: Path, saved: str, belongs: bool) -> None:
    """At any depth."""
    watch = SaveWatch(tmp_path, lambda: None)
    assert watch._belongs_to_app(Change.modified, str(tmp_path / saved)) is belongs
