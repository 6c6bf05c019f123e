"""Promise 8: a token is issued once for a code, stored only as a hash, and can be revoked."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import ENVIRONMENT
from tinyvex import limits
from tinyvex.errors import DataFolderUnusable
from tinyvex.server.access.pairing import ALPHABET, Pairing
from tinyvex.storage.file.data_folder import lock_briefly


class Desk:
    """A pairing in a folder, with a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.now_us = 1_000_000
        self.folder = folder
        self.pairing = Pairing(folder, lambda: self.now_us, secrets.token_hex)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_code_becomes_a_token_that_is_known_from_then_on(desk: Desk) -> None:
    """Another server on the same folder knows the token too."""
    redeemed = desk.pairing.redeem(desk.pairing.offer("phone"))
    assert redeemed is not None
    token, secret = redeemed
    assert token.name == "phone"
    again = Pairing(desk.folder, lambda: 0, secrets.token_hex)
    assert again.find(secret) == token
    assert again.find(secret[:-1] + "x") is None


@pytest.mark.parametrize(
    "written", [str.lower, lambda code: code.replace("-", ""), lambda code: code.replace("-", " ")]
)
def test_a_code_may_be_written_as_people_write(desk: Desk, written: object) -> None:
    """Lower case and a missing dash are accepted."""
    assert callable(written)
    assert desk.pairing.redeem(written(desk.pairing.offer("phone"))) is not None


def test_a_code_is_good_once(desk: Desk) -> None:
    """A second use is refused."""
    code = desk.pairing.offer("phone")
    assert desk.pairing.redeem(code) is not None
    assert desk.pairing.redeem(code) is None
    assert len(desk.pairing.tokens()) == 1


def test_a_code_is_good_for_a_while(desk: Desk) -> None:
    """The code expires after PAIRING_SECONDS."""
    code = desk.pairing.offer("phone")
    desk.now_us += int(limits.PAIRING_SECONDS * 1e6) + 1
    assert desk.pairing.redeem(code) is None


def test_few_wrong_codes_close_the_pairing(desk: Desk) -> None:
    """Guessing all codes is impossible."""
    code = desk.pairing.offer("phone")
    wrong = "".join(ALPHABET[(ALPHABET.index(letter) + 1) % 32] for letter in code.replace("-", ""))
    for _ in range(limits.PAIRING_TRIES_MAX):
        assert desk.pairing.redeem(wrong) is None
    assert desk.pairing.redeem(code) is None


def test_without_a_pairing_nothing_is_a_code(desk: Desk) -> None:
    """Even the empty code is refused."""
    assert desk.pairing.redeem("") is None
    assert desk.pairing.redeem("ABCD-EFGH") is None


def test_a_newer_pairing_takes_the_place_of_the_older(desk: Desk) -> None:
    """One pairing is open at a time."""
    older, newer = desk.pairing.offer("phone"), desk.pairing.offer("laptop")
    assert desk.pairing.redeem(older) is None
    redeemed = desk.pairing.redeem(newer)
    assert redeemed is not None
    assert redeemed[0].name == "laptop"


def test_a_revoked_token_is_worthless(desk: Desk) -> None:
    """Other tokens stay valid."""
    secrets = []
    for name in ("phone", "laptop"):
        redeemed = desk.pairing.redeem(desk.pairing.offer(name))
        assert redeemed is not None
        secrets.append(redeemed[1])
    assert desk.pairing.revoke(desk.pairing.tokens()[0].id)
    assert [desk.pairing.find(secret) is None for secret in secrets] == [True, False]
    assert not desk.pairing.revoke("unknown")


def test_no_secret_is_in_any_file(desk: Desk) -> None:
    """Only the owner can read the files."""
    open_code = desk.pairing.offer("phone")
    files = {path: path.read_text() for path in desk.folder.iterdir()}
    redeemed = desk.pairing.redeem(open_code)
    assert redeemed is not None
    files |= {path: path.read_text() for path in desk.folder.iterdir()}
    assert files
    for text in files.values():
        assert open_code.replace("-", "") not in text
        assert redeemed[1] not in text
    if sys.platform != "win32":
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in desk.folder.iterdir())


def test_a_damaged_file_admits_no_client(desk: Desk) -> None:
    """A damaged file admits no client."""
    redeemed = desk.pairing.redeem(desk.pairing.offer("phone"))
    assert redeemed is not None
    (desk.folder / "tokens.json").write_text("[")
    assert desk.pairing.find(redeemed[1]) is None


REVOKE = """
import sys
from pathlib import Path
from tinyvex.server.access.pairing import Pairing
pairing = Pairing(Path(sys.argv[1]), lambda: 0, str)
for line in sys.stdin:
    print(pairing.revoke(line.strip()), flush=True)
"""


def test_revocations_at_the_same_time_are_all_kept(desk: Desk) -> None:
    """Four processes revoke a token each; none of them writes back a token that another has revoked."""
    command = [sys.executable, "-c", REVOKE, str(desk.folder)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        for _ in range(4)
    ]
    try:
        for _ in range(25):
            tokens = [desk.pairing.redeem(desk.pairing.offer("phone")) for _ in processes]
            for process, redeemed in zip(processes, tokens, strict=True):
                assert redeemed is not None
                assert process.stdin is not None
                process.stdin.write(f"{redeemed[0].id}\n")
                process.stdin.flush()
            assert [process.stdout.readline() for process in processes if process.stdout] == ["True\n"] * len(processes)
            assert [redeemed for redeemed in tokens if redeemed and desk.pairing.find(redeemed[1])] == []
    finally:
        for process in processes:
            process.communicate()


def test_a_token_file_that_cannot_be_read_is_not_replaced(desk: Desk) -> None:
    """A new token would otherwise replace all others; no token is accepted meanwhile."""
    redeemed = desk.pairing.redeem(desk.pairing.offer("phone"))
    assert redeemed is not None
    file = desk.folder / "tokens.json"
    content = file.read_bytes()
    file.write_bytes(content[:-5])
    assert desk.pairing.find(redeemed[1]) is None
    code = desk.pairing.offer("tablet")
    with pytest.raises(DataFolderUnusable, match="cannot be read"):
        desk.pairing.redeem(code)
    file.write_bytes(content)
    assert desk.pairing.redeem(code) is not None
    assert len(desk.pairing.tokens()) == 2


def test_a_process_that_keeps_the_lock_is_not_waited_for_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server waits on its loop, so the wait is bounded."""
    monkeypatch.setattr(limits, "PAIRING_LOCK_SECONDS", 0.01)
    with lock_briefly(desk.folder / "tokens.lock", 1), pytest.raises(DataFolderUnusable, match="another process"):
        desk.pairing.offer("phone")
