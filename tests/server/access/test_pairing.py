"""Promise 8: a token is issued once for a code, stored only as a hash, and can be revoked."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import ENVIRONMENT
from tinyvex import limits
from tinyvex.errors import DataFolderUnusable, ObservedTsAhead, Unauthenticated
from tinyvex.server.access.audit_log import AuditLog
from tinyvex.server.access.pairing import ALPHABET, PairedToken, Pairing
from tinyvex.server.access.token_uses import read_token_uses
from tinyvex.storage.file.data_folder import lock_briefly


class Desk:
    """A pairing in a folder, with a clock that the test sets."""

    def __init__(self, folder: Path) -> None:
        self.now_us = 1_000_000
        self.folder = folder
        self.pairing = Pairing(folder, lambda: self.now_us, secrets.token_hex)


def redeem(pairing: Pairing, code: str, address: str = "") -> tuple[PairedToken, str] | None:
    """Return the new token; None if the code is refused."""
    try:
        return pairing.redeem(code, address)
    except Unauthenticated:
        return None


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_code_becomes_a_token_that_is_known_from_then_on(desk: Desk) -> None:
    """Another server on the same folder knows the token too."""
    redeemed = redeem(desk.pairing, desk.pairing.offer("phone"))
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
    assert redeem(desk.pairing, written(desk.pairing.offer("phone"))) is not None


def test_a_code_is_good_once(desk: Desk) -> None:
    """A second use is refused."""
    code = desk.pairing.offer("phone")
    assert redeem(desk.pairing, code) is not None
    assert redeem(desk.pairing, code) is None
    assert len(desk.pairing.tokens()) == 1


def test_a_code_is_good_for_a_while(desk: Desk) -> None:
    """The code expires after PAIRING_SECONDS."""
    code = desk.pairing.offer("phone")
    desk.now_us += int(limits.PAIRING_SECONDS * 1e6) + 1
    assert redeem(desk.pairing, code) is None


def other(code: str) -> str:
    """Return a wrong code."""
    return "".join(ALPHABET[(ALPHABET.index(letter) + 1) % 32] for letter in code.replace("-", ""))


@pytest.mark.parametrize(
    ("stranger", "friend"), [("192.0.2.1", "192.0.2.2"), ("2001:db8:0:1::1", "2001:db8:0:2::1"), ("::1", "127.0.0.1")]
)
def test_wrong_codes_of_one_address_leave_the_pairing_open_to_others(desk: Desk, stranger: str, friend: str) -> None:
    """A stranger cannot end a pairing."""
    code = desk.pairing.offer("phone")
    for _ in range(10 * limits.PAIRING_TRIES_MAX):
        assert redeem(desk.pairing, other(code), stranger) is None
    assert redeem(desk.pairing, code, stranger) is None
    assert redeem(desk.pairing, code, friend) is not None


@pytest.mark.parametrize("second", ["192.0.2.1", "::ffff:192.0.2.1"])
def test_an_address_that_sent_wrong_codes_waits_between_two(desk: Desk, second: str) -> None:
    """It learns how long; attempts during the wait do not extend it. An IPv4 address counts in either form."""
    code = desk.pairing.offer("phone")
    for _ in range(limits.PAIRING_TRIES_MAX):
        assert redeem(desk.pairing, other(code), "192.0.2.1") is None
    desk.now_us += 1_500_000
    with pytest.raises(Unauthenticated, match=r"too many wrong codes came from this address; try again in 9 s"):
        desk.pairing.redeem(code, second)
    desk.now_us += int(limits.PAIRING_PAUSE_SECONDS * 1e6) - 1_500_000
    assert redeem(desk.pairing, code, second) is not None


def test_addresses_of_one_ipv6_network_count_together(desk: Desk) -> None:
    """One machine has all of them at its disposal."""
    code = desk.pairing.offer("phone")
    for number in range(limits.PAIRING_TRIES_MAX):
        assert redeem(desk.pairing, other(code), f"2001:db8::{number}") is None
    assert redeem(desk.pairing, code, "2001:db8::ffff") is None


def test_a_new_code_has_no_wrong_attempts(desk: Desk) -> None:
    """The operator need not wait."""
    code = desk.pairing.offer("phone")
    for _ in range(limits.PAIRING_TRIES_MAX):
        assert redeem(desk.pairing, other(code), "192.0.2.1") is None
    assert redeem(desk.pairing, desk.pairing.offer("phone"), "192.0.2.1") is not None


def test_counted_addresses_are_bounded(desk: Desk) -> None:
    """The one that was counted first is forgotten."""
    code = desk.pairing.offer("phone")
    for number in range(limits.PAIRING_NETWORKS_MAX + 10):
        assert redeem(desk.pairing, other(code), f"10.0.{number >> 8}.{number & 255}") is None
    assert len(desk.pairing._attempts._failures) == limits.PAIRING_NETWORKS_MAX


def test_a_code_survives_a_client_that_is_refused_for_another_reason(desk: Desk) -> None:
    """The error reaches the client, and the code is valid for the next attempt."""

    def refuse() -> None:
        raise ObservedTsAhead("the client has seen ts 2, this database's last is 1")

    code = desk.pairing.offer("phone")
    with pytest.raises(ObservedTsAhead):
        desk.pairing.redeem(code, "192.0.2.1", refuse)
    assert desk.pairing.tokens() == []
    assert redeem(desk.pairing, code, "192.0.2.1") is not None


def test_without_a_pairing_nothing_is_a_code(desk: Desk) -> None:
    """Even the empty code is refused."""
    assert redeem(desk.pairing, "") is None
    assert redeem(desk.pairing, "ABCD-EFGH") is None


def test_a_newer_pairing_takes_the_place_of_the_older(desk: Desk) -> None:
    """One pairing is open at a time."""
    older, newer = desk.pairing.offer("phone"), desk.pairing.offer("laptop")
    assert redeem(desk.pairing, older) is None
    redeemed = redeem(desk.pairing, newer)
    assert redeemed is not None
    assert redeemed[0].name == "laptop"


def test_a_revoked_token_is_worthless(desk: Desk) -> None:
    """Other tokens stay valid."""
    secrets = []
    for name in ("phone", "laptop"):
        redeemed = redeem(desk.pairing, desk.pairing.offer(name))
        assert redeemed is not None
        secrets.append(redeemed[1])
    assert desk.pairing.revoke(desk.pairing.tokens()[0].id)
    assert [desk.pairing.find(secret) is None for secret in secrets] == [True, False]
    assert not desk.pairing.revoke("unknown")


def test_no_secret_is_in_any_file(desk: Desk) -> None:
    """Only the owner can read the files."""
    open_code = desk.pairing.offer("phone")
    files = {path: path.read_text() for path in desk.folder.iterdir()}
    redeemed = redeem(desk.pairing, open_code)
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
    redeemed = redeem(desk.pairing, desk.pairing.offer("phone"))
    assert redeemed is not None
    (desk.folder / "tokens.json").write_text("[")
    assert desk.pairing.find(redeemed[1]) is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_read_that_fails_for_lack_of_descriptors_is_repeated(desk: Desk) -> None:
    """Otherwise one lack of a free descriptor would refuse every paired client until the file changes again."""
    import resource

    code = desk.pairing.offer("phone")
    redeemed = redeem(Pairing(desk.folder, lambda: desk.now_us, secrets.token_hex), code)
    assert redeemed is not None
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as lowest_free:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno(), before[1]))
        try:
            assert desk.pairing.find(redeemed[1]) is None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert desk.pairing.find(redeemed[1]) == redeemed[0]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_changed_file_that_cannot_be_read_revokes_no_token(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """A client that is refused does not reconnect, so it must outlast a lack of descriptors; the next read counts."""
    import resource

    kept, revoked = (desk.pairing.redeem(desk.pairing.offer(name))[0] for name in ("phone", "tablet"))
    assert desk.pairing.valid_tokens() == [kept, revoked]
    Pairing(desk.folder, lambda: desk.now_us, secrets.token_hex).revoke(revoked.id)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path(os.devnull).open() as lowest_free:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno(), before[1]))
        try:
            assert [desk.pairing.valid_tokens() for _ in range(2)] == [[kept, revoked]] * 2
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert ["cannot be read" in message for message in caplog.messages] == [True]
    assert desk.pairing.valid_tokens() == [kept]


def test_a_deleted_file_revokes_all_tokens(desk: Desk) -> None:
    """That is the advice for a damaged file."""
    desk.pairing.redeem(desk.pairing.offer("phone"))
    assert desk.pairing.valid_tokens() != []
    (desk.folder / "tokens.json").unlink()
    assert desk.pairing.valid_tokens() == []


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
            tokens = [redeem(desk.pairing, desk.pairing.offer("phone")) for _ in processes]
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
    redeemed = redeem(desk.pairing, desk.pairing.offer("phone"))
    assert redeemed is not None
    file = desk.folder / "tokens.json"
    content = file.read_bytes()
    file.write_bytes(content[:-5])
    assert desk.pairing.find(redeemed[1]) is None
    code = desk.pairing.offer("tablet")
    with pytest.raises(DataFolderUnusable, match="cannot be read"):
        redeem(desk.pairing, code)
    file.write_bytes(content)
    assert redeem(desk.pairing, code) is not None
    assert len(desk.pairing.tokens()) == 2


def test_a_process_that_keeps_the_lock_is_not_waited_for_long(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server waits on its loop, so the wait is bounded."""
    monkeypatch.setattr(limits, "PAIRING_LOCK_SECONDS", 0.01)
    with lock_briefly(desk.folder / "tokens.lock", 1), pytest.raises(DataFolderUnusable, match="another process"):
        desk.pairing.offer("phone")


def test_an_id_is_a_number_that_is_not_used_again(desk: Desk) -> None:
    """It has nothing of the secret, and names the same token in every record."""
    first, secret = desk.pairing.redeem(desk.pairing.offer("phone"))
    assert desk.pairing.revoke(first.id)
    second, _ = desk.pairing.redeem(desk.pairing.offer("phone"))
    assert (first.id, second.id) == ("1", "2")
    assert not secret.startswith(first.id * 2)


def test_a_token_ends_if_its_code_says_so(desk: Desk) -> None:
    """Other tokens have no end."""
    ending, endless = (desk.pairing.redeem(desk.pairing.offer("phone", seconds))[1] for seconds in (60.0, None))
    desk.now_us += 59_000_000
    assert desk.pairing.find(ending) is not None
    desk.now_us += 1_000_000
    assert desk.pairing.find(ending) is None
    assert desk.pairing.find(endless) is not None


def test_the_last_use_is_written_now_and_then(desk: Desk) -> None:
    """Every TOKEN_USES_SECONDS and at the end; without the tokens that were revoked."""
    token, secret = desk.pairing.redeem(desk.pairing.offer("phone"))
    path = desk.folder / "token-uses.json"
    used = []
    for desk.now_us in (2_000_000, 3_000_000, 2_000_000 + int(limits.TOKEN_USES_SECONDS * 1e6)):
        desk.pairing.find(secret)
        desk.pairing.uses.write_if_due({token.id})
        used.append(read_token_uses(path)[token.id])
    assert used == [2_000_000, 2_000_000, desk.now_us]
    desk.now_us += 1
    desk.pairing.find(secret)
    desk.pairing.uses.write({token.id})
    assert read_token_uses(path) == {token.id: desk.now_us}
    desk.pairing.uses.note("another")
    desk.pairing.uses.write({"another"})
    assert read_token_uses(path) == {"another": desk.now_us}


def test_changes_by_commands_and_time_are_recorded(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The server sees codes, revocations and ends, although commands change the files; what was before is not reported."""
    caplog.set_level("INFO", "tinyvex.audit")
    audit, command = AuditLog(lambda: 0.0), Pairing(desk.folder, lambda: desk.now_us, secrets.token_hex)
    desk.pairing.redeem(command.offer("old"))
    desk.pairing.report_changes(audit)
    assert caplog.messages == []
    code = command.offer("phone", 60.0)
    desk.pairing.report_changes(audit)
    desk.pairing.redeem(code)
    desk.pairing.report_changes(audit)
    command.revoke("1")
    desk.pairing.report_changes(audit)
    desk.now_us += 60_000_000
    for _ in range(2):
        desk.pairing.report_changes(audit)
    assert [(vars(record)["event"], vars(record)["token_id"]) for record in caplog.records] == [
        ("pairing-offered", None), ("token-revoked", "1"), ("token-expired", "2"),
    ]  # fmt: skip


def test_a_monitor_gets_its_token_from_a_command(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Only its hash is stored, and a running server records it; one that starts later does not."""
    caplog.set_level("INFO", "tinyvex.audit")
    audit = AuditLog(lambda: 0.0)
    desk.pairing.report_changes(audit)
    secret = Pairing(desk.folder, lambda: desk.now_us, secrets.token_hex).issue_monitor("prometheus")
    desk.pairing.report_changes(audit)
    desk.pairing.report_changes(audit)
    Pairing(desk.folder, lambda: desk.now_us, secrets.token_hex).report_changes(audit)
    assert caplog.messages == ["the monitor token 1, `prometheus`, was issued by a command"]
    assert secret not in (desk.folder / "tokens.json").read_text()
