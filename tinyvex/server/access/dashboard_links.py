"""
Access to the dashboard: a link with a one-time code becomes a token for one browser tab.

::

    tinyvex dashboard ──admin token──► offer()      stores the hash of a code and its expiry
                                          │
    the tab sends `dashboard:CODE` once   ▼
                                       redeem()     stores the hash of a token; only the tab has the token
                                          │
    the tab sends the token               ▼
                                       is_admin()

Nothing is stored in a file, so all access ends with the server process. Codes and tokens are never logged.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

from tinyvex import limits
from tinyvex.errors import Unauthenticated

__all__ = ["CODE_PREFIX", "DashboardLinks"]

CODE_PREFIX = "dashboard:"
"""The prefix that distinguishes a code from a token."""


class DashboardLinks:
    """
    The valid links and the admitted tabs, by the hashes of their codes and tokens.

    Hashes are looked up in a dictionary. The duration of a lookup reveals something about hashes only, and a client
    cannot choose the hash that its text has.

    Args:
        monotonic: the clock, in seconds.
        secret: returns a new unguessable text.
    """

    def __init__(self, monotonic: Callable[[], float], secret: Callable[[], str]) -> None:
        self._monotonic = monotonic
        self._secret = secret
        self._links: dict[str, float] = {}  # expiry by hash
        self._tabs: dict[str, None] = {}

    def offer(self) -> str:
        """Return the code of a new link. Above DASHBOARD_LINKS_MAX the oldest link becomes invalid."""
        code = self._secret()
        self._links[_digest(code)] = self._monotonic() + limits.DASHBOARD_LINK_SECONDS
        _discard_oldest(self._links, limits.DASHBOARD_LINKS_MAX)
        return code

    def redeem(self, code: str, confirm: Callable[[], None] = lambda: None) -> str:
        """
        Exchange a code, which becomes invalid, for a tab's token.

        Args:
            code: the code.
            confirm: called when the code is right, before it is used up; what it raises leaves the code valid.

        Raises:
            Unauthenticated: the code is wrong, used or expired.
        """
        digest = _digest(code)
        if self._links.get(digest, -math.inf) < self._monotonic():
            raise Unauthenticated("the link is wrong, used or expired; create another with `tinyvex dashboard`")
        confirm()
        del self._links[digest]
        token = self._secret()
        self._tabs[_digest(token)] = None
        _discard_oldest(self._tabs, limits.DASHBOARD_TABS_MAX)
        return token

    def clear(self) -> None:
        """Invalidate all links, and sign all tabs out."""
        self._links.clear()
        self._tabs.clear()

    def is_admin(self, token: str) -> bool:
        """Return whether a token is a tab's."""
        return _digest(token) in self._tabs


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _discard_oldest(entries: dict[str, float] | dict[str, None], size_max: int) -> None:
    while len(entries) > size_max:
        del entries[next(iter(entries))]
