"""The audit trail: records of their own kind, bounded, and strangers crowd out no other record."""

from __future__ import annotations

import pytest

from tinyvex import limits
from tinyvex.server.access.audit_log import MINUTE_SECONDS, AuditLog


class Clock:
    """A clock that tests set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_record_has_a_kind_and_fields(caplog: pytest.LogCaptureFixture) -> None:
    """A program that reads the log finds event, address and token without parsing text."""
    caplog.set_level("INFO")
    audit = AuditLog(Clock())
    audit.granted("token-issued", "paired token 1 was issued to a client", address="192.0.2.1", token_id="1")
    audit.refused("token-refused", "the token is wrong", "192.0.2.2")
    fields = [
        tuple(vars(record).get(name) for name in ("name", "levelname", "kind", "event", "address", "token_id"))
        for record in caplog.records
    ]
    assert fields == [
        ("tinyvex.audit", "INFO", "audit", "token-issued", "192.0.2.1", "1"),
        ("tinyvex.audit", "WARNING", "audit", "token-refused", "192.0.2.2", None),
    ]
    assert caplog.messages[1] == "refused a client at 192.0.2.2: the token is wrong"


def test_equal_refusals_are_recorded_once_a_minute_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The next minute begins with the count."""
    clock = Clock()
    audit = AuditLog(clock)
    for _ in range(3):
        audit.refused("token-refused", "the token is wrong", "192.0.2.1")
    audit.refused("token-refused", "the token is wrong", "192.0.2.2")
    clock.now = MINUTE_SECONDS
    audit.tick()
    audit.tick()
    assert caplog.messages == [
        "refused a client at 192.0.2.1: the token is wrong",
        "refused a client at 192.0.2.2: the token is wrong",
        "2 more refusals in the same minute",
    ]


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::{:x}"])
def test_one_client_hides_no_other(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """Reasons differ by text that it chose, and its addresses within its IPv6 network."""
    audit = AuditLog(Clock())
    for number in range(1, 2 * limits.AUDIT_REFUSALS_PER_MINUTE):
        audit.refused("user-refused", f"the token names the key `{number}`", address.format(number))
    audit.refused("user-refused", "the token has expired", "192.0.2.2")
    assert caplog.messages == [
        f"refused a client at {address.format(1)}: the token names the key `1`",
        "refused a client at 192.0.2.2: the token has expired",
    ]


def test_refusals_are_bounded_and_leave_room_for_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    """A stranger with many addresses hides no revocation."""
    caplog.set_level("INFO")
    audit = AuditLog(Clock())
    for number in range(10 * limits.AUDIT_REFUSALS_PER_MINUTE):
        audit.refused("token-refused", "the token is wrong", f"10.0.{number >> 8}.{number & 255}")
    audit.granted("token-revoked", "paired token 1 was revoked", token_id="1")
    assert len(caplog.messages) == limits.AUDIT_REFUSALS_PER_MINUTE + 1
    assert caplog.messages[-1] == "paired token 1 was revoked"


def test_other_records_are_bounded_too(caplog: pytest.LogCaptureFixture) -> None:
    """A program that connects as an administrator again and again does not fill the log."""
    caplog.set_level("INFO")
    clock = Clock()
    audit = AuditLog(clock)
    for _ in range(limits.AUDIT_RECORDS_PER_MINUTE + 5):
        audit.granted("admin-admitted", "a client acts as an administrator")
    clock.now = MINUTE_SECONDS
    audit.tick()
    assert len(caplog.messages) == limits.AUDIT_RECORDS_PER_MINUTE + 1
    assert caplog.messages[-1] == "5 more records of access in the same minute"
