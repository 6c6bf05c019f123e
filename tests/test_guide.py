"""The programs in the guide to writing an app work verbatim."""

import subprocess
import sys
from pathlib import Path

from tests.support.readme import README, programs

GUIDE = README.parent / "docs" / "functions.md"


def test_the_guides_tests_pass(tmp_path: Path) -> None:
    """The guide's app and its tests pass when copied."""
    for name, text in programs(GUIDE).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
