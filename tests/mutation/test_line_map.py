"""The tests of a line: which they are, and in which order they run."""

from __future__ import annotations

from tests.mutation.line_map import LineMap, files_for
from tests.mutation.sandbox import ROOT

OWN = "tests/sync/test_diff.py::test_own"
OTHER = "tests/sync/test_session.py::test_other"
LONG = "tests/sync/test_session.py::test_long"


def recorded() -> LineMap:
    line_map = LineMap()
    line_map.add({"lines": {"tinyvex/sync/diff.py": {"7": [LONG, OTHER]}}, "seconds": {LONG: 20.0, OTHER: 1.0}})
    line_map.add({"lines": {"tinyvex/sync/diff.py": {"7": [OWN]}}, "seconds": {OWN: 5.0}})
    return line_map


def test_the_module_s_own_tests_are_first_and_then_the_shortest():
    """The own tests usually fail, and soon."""
    assert recorded().tests_of("tinyvex/sync/diff.py", 7, seconds_max=100) == [OWN, OTHER, LONG]


def test_tests_beyond_the_time_are_left_out():
    """A survivor runs all of its tests, so their time is bounded; at least one runs."""
    assert recorded().tests_of("tinyvex/sync/diff.py", 7, seconds_max=10) == [OWN, OTHER]
    assert recorded().tests_of("tinyvex/sync/diff.py", 7, seconds_max=1) == [OWN]


def test_a_line_without_a_record_has_the_tests_of_its_module():
    """No test is recorded for what runs on import."""
    assert recorded().tests_of("tinyvex/sync/diff.py", 8, seconds_max=100) == [OWN]


def test_tests_of_a_module_are_those_of_its_folder_and_those_that_import_it():
    """Whole servers and processes are left out."""
    files = files_for(["tinyvex/server/transport/outbox.py"], ROOT)
    assert "tests/server/transport/test_outbox.py" in files
    assert "tests/server/transport/test_sender.py" in files
    assert not [file for file in files if file.startswith(("tests/end_to_end", "tests/simulation"))]
