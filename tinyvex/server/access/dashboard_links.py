"""
Who may see the dashboard's data: a link with a code, good once, becomes access for one browser tab.

::

    tinyvex dashboard ──admin token──► offer()    the hash of a code, and until when it is good
                                          │
    a page shows `dashboard:CODE`, once   ▼
                                       redeem()   the hash of a token; the token itself only its tab has
                                          │
    the tab comes back, asks again        ▼
                                      is_admin()

Nothing of it is written down: it ends with the server's run. Codes and tokens are never logged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tinyvex import limits

__all__ = ["CODE_PREFIX", "DashboardLinks"]

CODE_PREFIX = "dashboard:"
"""In front of a code, where a token would be."""


class DashboardLinks:
    """
    The open links and the tabs let in, by the hashes of what they show.

    A hash is found by looking it up: what the lookup's time tells is about hashes, which nobody can choose.

    Args:
        monotonic: the clock.
        secret: makes a new one that nobody can guess.
    """

    def __init__(self, monotonic: Callable[[], float], secret: Callable[[], str]) -> None:
        self._monotonic = monotonic
        self._secret = secret
        self._links: dict[str, float] = {}  # until when each is good
        self._tabs: dict[str, None] = {}

    def offer(self) -> str:
        """The code of a new link; the oldest of too many is good no more."""
        code = self._secret()
        self._links[_digest(code)] = self._monotonic() + limits.DASHBOARD_LINK_SECONDS
        _forget_oldest(self._links, limits.DASHBOARD_LINKS_MAX)
        return code

    def redeem(self, code: str) -> str | None:
        """A tab's token for the code of a link, which is used up by that; None when it is wrong, used or too old."""
        good_until = self._links.pop(_digest(code), None)
        if good_until is None or good_until < self._monotonic():
            return None
        token = self._secret()
        self._tabs[_digest(token)] = None
        _forget_oldest(self._tabs, limits.DASHBOARD_TABS_MAX)
        return token

    def is_admin(self, token: str) -> bool:
        """Whether it is a tab's token."""
        return _digest(token) in self._tabs


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _forget_oldest(kept: dict[str, float] | dict[str, None], size_max: int) -> None:
    while len(kept) > size_max:
        del kept[next(iter(kept))]
