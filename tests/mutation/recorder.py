"""
A pytest plugin that records which tests execute which lines, and how long each test takes.

`pytest -p tests.mutation.recorder` writes the file that TINYVEX_LINES names. A test that fails is not recorded,
so a mutant is judged only by tests that pass without it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from coverage import Coverage

recording = Coverage(data_file=None, source=["tinyvex"], config_file=False, messages=False)
seconds: dict[str, float] = {}
failed: set[str] = set()


def function_of(nodeid: str) -> str:
    """Return the id of the test function, without its parameters."""
    return nodeid.split("[", 1)[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    # Started for each test, because one that sets a trace function of its own ends the recording.
    recording.start()
    recording.switch_context(function_of(item.nodeid))
    try:
        return (yield)
    finally:
        recording.stop()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    test = function_of(report.nodeid)
    seconds[test] = seconds.get(test, 0) + report.duration
    if report.failed:
        failed.add(test)


def pytest_sessionfinish() -> None:
    data = recording.get_data()
    lines = {
        str(Path(path).relative_to(Path.cwd())): {
            line: sorted({test for test in tests if test} - failed)
            for line, tests in data.contexts_by_lineno(path).items()
        }
        for path in data.measured_files()
    }
    Path(os.environ["TINYVEX_LINES"]).write_text(json.dumps({"lines": lines, "seconds": seconds}))
