"""Source locations: the app's line that an exception came from."""

from pathlib import Path

import pytest

from tinyvex.errors import InvalidId
from tinyvex.functions.schema.location import Location
from tinyvex.values.ids import parse_id


def test_the_line_of_an_error_is_the_apps_last_one() -> None:
    """Tinyvex's own frames, before and after the app's, are skipped; without a frame of the app there is no line."""
    with pytest.raises(InvalidId) as caught:
        parse_id("nonsense")
    location = Location.of_error(caught.value)
    assert location is not None
    assert location.file == __file__
    assert Location.of_error(ValueError("never raised")) is None


def test_a_file_below_the_working_directory_is_shown_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other files are shown with their whole path."""
    monkeypatch.chdir(tmp_path)
    assert str(Location(str(tmp_path / "app" / "main.py"), 3)) == str(Path("app", "main.py")) + ":3"
    assert str(Location("/elsewhere/main.py", 3)) == "/elsewhere/main.py:3"


def test_a_problem_has_file_and_line() -> None:
    """In the message, and as data for tools."""
    error = Location("/elsewhere/main.py", 3).invalid("a table needs a name")
    assert str(error) == "/elsewhere/main.py:3: a table needs a name"
    assert error.data == {"file": "/elsewhere/main.py", "line": 3}
