"""Output to a terminal is formatted by `rich`; output to a pipe is plain, and does not import it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tinyvex.cli import output, terminal
from tinyvex.cli.main import run
from tinyvex.cli.terminal import fit_widths

ROWS: list[dict[str, object]] = [
    {"_id": "a" * 32, "name": "Ada", "n": 1, "_creationTime": 1.5},
    {"_id": "b" * 32, "name": "Bob", "n": 22, "_creationTime": 2},
]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        """The text without escape sequences."""
        return ESCAPE.sub("", self.getvalue())


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 120 columns that has colours."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")


def displayed(show: Callable[[], None]) -> Terminal:
    """Run a function with stdout and stderr on one terminal."""
    screen = Terminal()
    with redirect_stdout(screen), redirect_stderr(screen):
        show()
    return screen


def print_rows() -> None:
    printer = output.TablePrinter()
    for row in ROWS:
        printer.add(row)
    printer.end()


def print_value() -> None:
    output.print_value(b'{"name":"Ada","n":[1,null]}')


def print_error() -> None:
    terminal.echo_error("the disk is full")


def print_styled() -> None:
    terminal.echo_styled("created", "green")


PRINTERS = [print_rows, print_value, print_error, print_styled]


@pytest.mark.parametrize("show", PRINTERS)
def test_a_terminal_shows_colours(show: Callable[[], None]) -> None:
    """Each kind of output has escape sequences for colours."""
    assert COLOUR.search(displayed(show).getvalue())


@pytest.mark.parametrize("show", PRINTERS)
def test_no_color_is_respected(show: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """With `NO_COLOR`, no kind of output has a colour."""
    monkeypatch.setenv("NO_COLOR", "1")
    screen = displayed(show)
    assert screen.shown.strip()
    assert not COLOUR.search(screen.getvalue())


@pytest.mark.parametrize("show", PRINTERS)
def test_a_dumb_terminal_gets_plain_text(show: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """With `TERM=dumb` the output has no escape sequence."""
    monkeypatch.setenv("TERM", "dumb")
    screen = displayed(show)
    assert screen.shown.strip()
    assert "\x1b" not in screen.getvalue()


def test_a_table_on_a_terminal_has_every_cell() -> None:
    """Numbers are aligned to the right."""
    shown = displayed(print_rows).shown.splitlines()
    lines = [line.split() for line in shown]
    assert ["a" * 32, "Ada", "1", "1.5"] in lines
    assert ["b" * 32, "Bob", "22", "2"] in lines
    narrow, wide = (line for line in shown if "Ada" in line or "Bob" in line)
    assert narrow.index(" 1 ") + 1 == wide.index("22 ") + 1


def test_a_row_is_one_line_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids and numbers are neither cut nor folded, so that they can be copied; the terminal wraps the line."""
    monkeypatch.setenv("COLUMNS", "20")
    lines = [line.split() for line in displayed(print_rows).shown.splitlines()]
    assert ["a" * 32, "Ada", "1", "1.5"] in lines


@pytest.mark.parametrize(
    ("widths", "least", "room", "fitted"),
    [
        ([10, 20], [10, 8], 40, [10, 20]),
        ([10, 20], [10, 8], 33, [10, 20]),
        ([10, 20], [10, 8], 32, [10, 19]),
        ([30, 20], [8, 8], 33, [15, 15]),
        ([32, 90], [32, 8], 10, [32, 8]),
        ([], [], 0, []),
    ],
)
def test_the_widest_column_is_shortened_first(
    widths: list[int], least: list[int], room: int, fitted: list[int]
) -> None:
    """None becomes narrower than its least width, even if the line is too long then."""
    assert fit_widths(widths, least, room) == fitted


@pytest.mark.parametrize("columns", [80, 72])
def test_a_table_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text is shortened and marked; ids, times and numbers are whole."""
    monkeypatch.setenv("COLUMNS", str(columns))
    long = {
        "_id": "a" * 32,
        "done": False,
        "text": "Water the plants in the kitchen",
        "_creationTime": 1796111782492.432,
    }

    def show() -> None:
        printer = output.TablePrinter()
        printer.add(long)
        printer.end()

    lines = displayed(show).shown.splitlines()
    assert max(map(len, lines)) <= columns
    assert "a" * 32 in lines[2]
    assert "1796111782492.432" in lines[2]
    assert "Water" in lines[2]
    assert "…" in lines[2]


def test_cells_are_text() -> None:
    """`rich` interprets no markup in documents."""

    def show() -> None:
        printer = output.TablePrinter(["text"])
        printer.add({"text": "[bold]x[/bold] :smile:"})
        printer.end()

    assert "[bold]x[/bold] :smile:" in displayed(show).shown


def test_a_value_on_a_terminal_is_the_same_json() -> None:
    """Highlighting changes colours only."""
    assert displayed(print_value).shown == json.dumps({"name": "Ada", "n": [1, None]}, indent=2) + "\n"


def test_a_long_value_is_printed_without_colours() -> None:
    """Highlighting a large result would take longer than computing it."""
    value = json.dumps(["x" * output.HIGHLIGHTED_CHARACTERS_MAX]).encode()
    assert "\x1b" not in displayed(lambda: output.print_value(value)).getvalue()


def test_a_progress_bar_is_complete_at_the_last_unit() -> None:
    """The bar shows its label and percentage, and ends before the block does, so that a question can follow."""
    at_the_last, at_the_end = [], []

    def show() -> None:
        assert isinstance(sys.stderr, Terminal)
        screen = sys.stderr
        with terminal.progress_bar("Copying") as progress:
            progress(0, 0)
            progress(1, 4)
            progress(4, 4)
            at_the_last.append(screen.getvalue())
            progress(4, 4)
        at_the_end.append(screen.getvalue())

    shown = displayed(show).shown
    assert "Copying" in shown
    assert "100%" in shown
    assert at_the_last == at_the_end


def test_a_progress_bar_ends_with_an_error() -> None:
    """The cursor, which the bar hides, is shown again."""

    def show() -> None:
        with pytest.raises(ZeroDivisionError), terminal.progress_bar("Copying") as progress:
            progress(1, 4)
            raise ZeroDivisionError

    text = displayed(show).getvalue()
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_without_a_terminal_a_progress_bar_is_its_label(capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr, none on stdout."""
    with terminal.progress_bar("Copying") as progress:
        progress(1, 2)
        progress(2, 2)
    assert capsys.readouterr() == ("", "Copying\n")


APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"


@pytest.mark.parametrize(
    "arguments",
    [
        ["data"],
        ["data", "books"],
        ["stats"],
        ["check"],
        ["backup", "copy"],
        ["export", "--path", "copy.zip"],
        ["compact"],
    ],
    ids=" ".join,
)
def test_commands_in_a_pipe_do_not_import_rich(arguments: list[str], tmp_path: Path) -> None:
    """Their output has no escape sequence, and their start is not slower."""
    data = ["--data", str(tmp_path / "data")]
    assert run(["run", "shelf:add", '{"title": "A"}', "--app", str(APP), *data]) == 0
    program = (
        "import sys; from tinyvex.cli.main import run; code = run(sys.argv[1:]); print('rich' in sys.modules, code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, *data], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False 0"
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize(("arguments", "shown"), [(["data"], "books"), (["check"], "100%"), (["compact"], "100%")])
def test_commands_on_a_terminal_use_rich(arguments: list[str], shown: str, tmp_path: Path) -> None:
    """On a real pseudo-terminal they show colours and complete their bars."""
    import pty

    data = ["--data", str(tmp_path / "data")]
    assert run(["run", "shelf:add", '{"title": "A"}', "--app", str(APP), *data]) == 0
    chunks = []

    def read(descriptor: int) -> bytes:
        import os

        chunks.append(os.read(descriptor, 65536))
        return chunks[-1]

    code = pty.spawn(
        ["env", "TERM=xterm-256color", "NO_COLOR=", sys.executable, "-m", "tinyvex", *arguments, *data], read
    )
    text = b"".join(chunks).decode()
    assert code == 0
    assert "\x1b[" in text
    assert shown in ESCAPE.sub("", text)


HOSTILE = "\x9b31m\u202egnp.exe\u2066\x1b]0;title\x07\r"
"""Text that would colour the terminal, reverse a line, and set the window's title."""
NOTES = """
import tinyvex as tv

@tv.table("notes")
class Note(tv.Document):
    text: str

@tv.mutation
def add(ctx: tv.MutationCtx, text: str) -> tv.Id[Note]:
    ctx.log(text)
    return ctx.db.insert(Note(text=text))

@tv.query
def texts(ctx: tv.QueryCtx) -> dict[str, str]:
    return {"text": ctx.db.query(Note).first().text}

@tv.query
def fail(ctx: tv.QueryCtx, text: str) -> None:
    raise tv.AppError(text)
"""


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "pipe"])
def test_no_document_log_line_or_error_controls_the_terminal(
    tmp_path: Path, is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters and those that change the direction are escaped, and JSON keeps its value."""
    app, options = tmp_path / "app.py", ["--data", str(tmp_path / "data")]
    app.write_text(NOTES)
    named = [*options, "--app", str(app)]
    argument = json.dumps({"text": HOSTILE})
    monkeypatch.setenv("NO_COLOR", "1")
    if is_terminal:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run(["run", "app:add", argument, "--format", "json", *named]) == 0
    note = json.loads(capsys.readouterr().out)
    assert run(["run", "app:add", argument, *named]) == 0
    assert run(["run", "app:fail", argument, *named]) == 3
    assert run(["data", "notes", *options]) == 0
    assert run(["history", note, *options]) == 0
    assert run(["data", HOSTILE, *options]) != 0
    printed = "".join(capsys.readouterr())
    for output_format in ("pretty", "json"):
        assert run(["run", "app:texts", "--format", output_format, *named]) == 0
        result = capsys.readouterr().out
        assert json.loads(ESCAPE.sub("", result)) == {"text": HOSTILE}
        printed += result
    assert "\\u202egnp.exe" in printed
    assert (
        set(re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", ESCAPE.sub("", printed)))
        == set()
    )


def test_every_command_prints_through_this_file() -> None:
    """`click.echo` would print such characters as they are; `main.py` prints the help and the version with it."""
    folder = Path(terminal.__file__).parent
    assert {path.name for path in folder.glob("*.py") if "click.echo" in path.read_text()} - {
        "main.py",
        "terminal.py",
    } == set()
