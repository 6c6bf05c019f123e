"""The public types, as mypy and pyright see them: `tests/typing/` and the examples."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.required import required_program

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_mypy_strict_agrees() -> None:
    """Mypy infers the asserted types, and reports errors exactly where they are expected."""
    finished = run(sys.executable, "-m", "mypy", "--strict", "tests/typing", "examples")
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_pyright_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pyright infers the same."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"])
    pyright = required_program("pyright")
    finished = run(pyright, "--outputjson", "--pythonpath", sys.executable, "--project", "tests/typing")
    report = json.loads(finished.stdout)
    problems = [
        f"{problem['file']}:{problem['range']['start']['line'] + 1}: {problem['message']}"
        for problem in report["generalDiagnostics"]
    ]
    assert problems == []
    assert report["summary"]["filesAnalyzed"] >= len(list((ROOT / "tests" / "typing").glob("*.py")))
