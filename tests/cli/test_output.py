"""The formats of rows."""

import json

import pytest

from tinyvex.cli import output


def shown(printer: output.RowPrinter, rows: list[dict[str, object]], capsys: pytest.CaptureFixture[str]) -> str:
    for row in rows:
        printer.add(row)
    printer.end()
    return capsys.readouterr().out


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_array_is_json_whatever_its_length(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Only rows are separated."""
    rows: list[dict[str, object]] = [{"n": n} for n in range(count)]
    assert json.loads(shown(output.JsonArrayPrinter(), rows, capsys)) == rows


def test_json_lines_are_compact_and_readable(capsys: pytest.CaptureFixture[str]) -> None:
    """One document per line, without spaces, with letters unescaped."""
    assert shown(output.JsonLinesPrinter(), [{"word": "größe", "n": 1}], capsys) == '{"word":"größe","n":1}\n'


def test_a_table_has_every_field_of_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows may differ; a missing field is an empty cell."""
    rows: list[dict[str, object]] = [
        {"_id": "a", "x": 1, "_creationTime": 1.5},
        {"_id": "b", "y": [], "_creationTime": 2},
    ]
    assert shown(output.TablePrinter(), rows, capsys).splitlines() == [
        "_id  x  y   _creationTime",
        "---  -  --  -------------",
        "a    1      1.5",
        "b       []  2",
    ]


def test_a_long_cell_is_cut_and_marked(capsys: pytest.CaptureFixture[str]) -> None:
    """One large field does not displace the others."""
    cell = shown(output.TablePrinter(["text"]), [{"text": "x" * 1000}], capsys).splitlines()[-1]
    assert len(cell) == output.CELL_WIDTH_MAX
    assert cell.endswith("…")


def test_a_cell_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Line breaks in a string are escaped."""
    assert shown(output.TablePrinter(["text"]), [{"text": "a\nb"}], capsys).splitlines()[-1] == r'"a\nb"'


def test_a_long_table_is_aligned_in_parts(capsys: pytest.CaptureFixture[str]) -> None:
    """To bound memory, the heading is repeated after a number of rows."""
    rows: list[dict[str, object]] = [{"n": n} for n in range(output.ALIGNED_ROWS + 1)]
    lines = shown(output.TablePrinter(["n"]), rows, capsys).splitlines()
    assert lines.count("n") == 2
    assert len(lines) == len(rows) + 4


def test_an_empty_table_is_reported_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout stays empty for programs."""
    output.TablePrinter().end()
    assert capsys.readouterr() == ("", "(empty)\n")
