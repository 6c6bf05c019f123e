"""
The audit trail: who was admitted with which rights, who was refused, and how tokens changed.

Log records of the logger `tinyvex.audit`, with `kind` "audit". They have an `event` of this table, the client's `address`
and a paired token's `token_id` if there are any, and never a token or code.

===================  =======  ====================================================================================
event                level    meaning
===================  =======  ====================================================================================
`token-refused`      warning  a wrong token
`code-refused`       warning  a wrong pairing code
`link-refused`       warning  a wrong link to the dashboard
`admin-refused`      warning  a wrong admin token, or another token where the admin token is required
`user-refused`       warning  a JSON Web Token that is not valid
`admin-admitted`     info     a client acts as an administrator: a command, or a tab of the dashboard
`pairing-offered`    info     `tinyvex pair` issued a code
`token-issued`       info     a client exchanged the code for a token, or `tinyvex tokens --monitor`
`token-revoked`      info     `tinyvex tokens --revoke`
`token-expired`      info     the end of a token, which was given with its code
`tokens-renewed`     info     the admin token and the client token were replaced
`link-created`       info     `tinyvex dashboard` created a link
`link-used`          info     a browser tab was admitted by a link
===================  =======  ====================================================================================

Strangers cause refusals, so these have a bound of their own and crowd out no other record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from tinyvex import limits

__all__ = ["AuditLog"]

log = logging.getLogger("tinyvex.audit")

MINUTE_SECONDS = 60.0


class AuditLog:
    """
    Writes the records: refusals once a minute for each event and address, and at most a number of each sort per minute.

    The others are counted, and one record reports the count at the end of the minute.

    Args:
        monotonic: the clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._refused = _Minute("refusals", limits.AUDIT_REFUSALS_PER_MINUTE)
        self._granted = _Minute("records of access", limits.AUDIT_RECORDS_PER_MINUTE)

    def refused(self, event: str, reason: str, address: str) -> None:
        """
        Record that a client was refused, once a minute for each event and address, or IPv6 network.

        A reason may contain text that the client chose, so other reasons are counted too: otherwise one client could use
        up the records of a minute.
        """
        from tinyvex.server.access.peer_address import network_of  # imported by the first refusal

        if self._current(self._refused).admits((event, network_of(address))):
            text = f"refused a client{_at(address)}: {reason}"
            log.warning("%s", text, extra={"kind": "audit", "event": event, "address": address or None})

    def granted(
        self, event: str, text: str, *, address: str = "", token_id: str | None = None, once: bool = False
    ) -> None:
        """Record access that was given, changed or taken away; with `once`, once a minute for each address."""
        minute, record = self._current(self._granted), (event, address) if once else object()
        if record not in minute.written and minute.admits(record):
            extra = {"kind": "audit", "event": event, "address": address or None, "token_id": token_id}
            log.info("%s", f"{text}{_at(address)}", extra=extra)

    def tick(self) -> None:
        """Report what was left out of minutes that have ended; called once a second."""
        self._current(self._refused)
        self._current(self._granted)

    def _current(self, minute: _Minute) -> _Minute:
        now = self._monotonic()
        if now - minute.begun_at >= MINUTE_SECONDS:
            if minute.left_out:
                extra = {"kind": "audit", "left_out": minute.left_out}
                log.warning("%d more %s in the same minute", minute.left_out, minute.name, extra=extra)
            minute.begin(now)
        return minute


class _Minute:
    """The records of one sort in the current minute."""

    def __init__(self, name: str, records_max: int) -> None:
        self.name = name
        self._records_max = records_max
        self.begin(float("-inf"))

    def begin(self, now: float) -> None:
        """Begin another minute."""
        self.begun_at = now
        self.left_out = 0
        self.written: set[object] = set()

    def admits(self, record: object) -> bool:
        """Return whether to write a record; equal ones and those above the bound are counted instead."""
        if record in self.written or len(self.written) >= self._records_max:
            self.left_out += 1
            return False
        self.written.add(record)
        return True


def _at(address: str) -> str:
    return f" at {address}" if address else ""
