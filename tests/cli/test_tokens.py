"""`tinyvex tokens` without a token; `end_to_end/test_pairing.py` has the rest."""

from pathlib import Path

import pytest

from tinyvex.cli.main import run


def test_an_empty_list_names_the_command_that_issues_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line goes to stderr, so that a script that counts lines counts none."""
    assert run(["tokens", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr() == ("", "no tokens; `tinyvex pair` prints a code with which a program gets one\n")
