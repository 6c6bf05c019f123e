"""`--tls-cert` and `--tls-key`, and the fingerprint that `pair` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.process import ServerProcess
from tinyvex.cli.main import run

APP = Path(__file__).resolve().parents[1] / "support" / "shelf.py"


@pytest.mark.parametrize("command", ["serve", "dev"])
@pytest.mark.parametrize("option", ["--tls-cert", "--tls-key"])
def test_both_are_required(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, option: str) -> None:
    """Exit code 2."""
    assert run([command, str(APP), "--data", str(tmp_path / "data"), option, "file.pem"]) == 2
    assert "--tls-cert and --tls-key are only valid together" in capsys.readouterr().err


def test_pair_prints_the_fingerprint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, because stdout has only the code."""
    made = Certificates(tmp_path / "certificates")
    with ServerProcess(APP, tmp_path / "data", *made.options):
        assert run(["pair", "--data", str(tmp_path / "data")]) == 0
        printed = capsys.readouterr()
    assert made.fingerprint in printed.err
    assert len(printed.out.strip()) == len("ABCD-EFGH")
    assert run(["pair", "--data", str(tmp_path / "data")]) == 0
    assert "sha256" not in capsys.readouterr().err
