"""
The map from lines of the package to the tests that execute them.

Tests of a module are its mirrored tests (`tests/sync` for `tinyvex/sync/diff.py`) and those of any floor that import
it. Suites of whole servers and processes (`end_to_end`, `simulation`, …) are left out: a fault should be noticed by
the test that names it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.mutation.sandbox import ROOT, Sandbox, spread

FLOORS = ("cli", "client", "dialects", "functions", "server", "storage", "sync", "values", "wire")

FILES_A_RUN = 6
"""Few enough that the runs of two workers end at about the same time; starting pytest takes a second."""

RUN_SECONDS_MAX = 1800
"""A file of tests takes at most a minute, and several times that on a busy machine under coverage."""


class LineMap:
    """The tests that execute each line, and the seconds that each test took."""

    def __init__(self) -> None:
        self.lines: dict[str, dict[int, set[str]]] = {}
        self.seconds: dict[str, float] = {}

    def add(self, recorded: dict[str, Any]) -> None:
        for path, lines in recorded["lines"].items():
            of_path = self.lines.setdefault(path, {})
            for line, tests in lines.items():
                of_path.setdefault(int(line), set()).update(tests)
        self.seconds.update(recorded["seconds"])

    def tests_of(self, path: str, line: int, seconds_max: float) -> list[str]:
        """
        Return the tests that execute a line: those of its module first, then the shortest, within a time.

        Lines that run on import or in an audit hook are recorded for no test: they have all tests of their module.
        """
        folder, stem = mirrored(path)
        own = f"{folder}/test_{stem}"
        executing = self.lines.get(path, {}).get(line) or {test for test in self.seconds if test.startswith(own)}

        def rank(test: str) -> tuple[bool, float]:
            return not test.startswith(own), self.seconds[test]

        chosen = []
        for test in sorted(executing, key=rank):
            seconds_max -= self.seconds[test]
            if chosen and seconds_max < 0:
                break
            chosen.append(test)
        return chosen


def mirrored(path: str) -> tuple[str, str]:
    """Return the folder of a module's tests, and the name of the module."""
    module = Path(path).relative_to("tinyvex")
    return (Path("tests") / module.parent).as_posix(), module.stem


def files_for(paths: Iterable[str], tree: Path) -> list[str]:
    """Return the files of tests for modules."""
    tests = {
        file.relative_to(tree).as_posix(): file.read_text(encoding="utf-8")
        for floor in FLOORS
        for file in tree.glob(f"tests/{floor}/**/test_*.py")
    }
    tests |= {f"tests/{file.name}": file.read_text(encoding="utf-8") for file in tree.glob("tests/test_*.py")}
    chosen: set[str] = set()
    for path in paths:
        folder, stem = mirrored(path)
        package, _, module = path.removesuffix(".py").replace("/", ".").rpartition(".")
        imports = re.compile(
            rf"^from {re.escape(package)}\.{module} import|^from {re.escape(package)} import .*\b{module}\b",
            re.MULTILINE,
        )
        of_folder = {file for file in tests if Path(file).parent.as_posix() == folder}
        of_parent = {f"{parent}/test_{stem}.py" for parent in map(str, Path(folder).parents)} & tests.keys()
        importers = {file for file, text in tests.items() if file.count("/") > 1 and imports.search(text)}
        chosen |= (of_folder if folder != "tests" else {f"tests/test_{stem}.py"} & tests.keys()) | of_parent | importers
    return sorted(chosen)


def record(files: list[str], tree: Path, jobs: int, report: Callable[[str], None]) -> LineMap:
    """Run files of tests under coverage; a map of the same sources is read from `build/mutants`."""
    sources = sorted(file for folder in ("tinyvex", "tests") for file in (tree / folder).rglob("*.py"))
    key = hashlib.sha256(json.dumps(files).encode())
    for source in sources:
        key.update(source.read_bytes())
    cached = ROOT / "build" / "mutants" / f"lines-{key.hexdigest()[:16]}.json"
    recorded = json.loads(cached.read_text()) if cached.exists() else run_recorder(files, tree, jobs, report)
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_text(json.dumps(recorded))
    line_map = LineMap()
    for part in recorded:
        line_map.add(part)
    return line_map


def run_recorder(files: list[str], tree: Path, jobs: int, report: Callable[[str], None]) -> list[dict[str, Any]]:
    def run(sandbox: Sandbox, group: list[str]) -> dict[str, Any]:
        output = sandbox.folder / "lines.json"
        finished = sandbox.pytest(
            "-p", "tests.mutation.recorder", tests=group, seconds=RUN_SECONDS_MAX, TINYVEX_LINES=str(output)
        )
        if not output.exists():
            raise SystemExit(finished.output)
        report(f"{group[0]} … {group[-1]}: {finished.output.strip().splitlines()[-1]}")
        recorded = json.loads(output.read_text())
        output.unlink()
        return recorded

    groups = [files[first : first + FILES_A_RUN] for first in range(0, len(files), FILES_A_RUN)]
    return spread(groups, jobs, tree, run)
