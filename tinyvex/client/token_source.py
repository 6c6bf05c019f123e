"""
Asks the program for tokens: on every new socket, when the server takes one no more, and before one ends.

`identity` decides when; this file waits for the program's callable and for the time.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import anyio

from tinyvex import limits
from tinyvex.client.identity import token_claims
from tinyvex.errors import Unauthenticated

if TYPE_CHECKING:
    from tinyvex.client.identity import ClientIdentity
    from tinyvex.runtime import Runtime

__all__ = ["Source", "TokenSource"]

logger = logging.getLogger(__name__)

Source: TypeAlias = Callable[[], str | Awaitable[str | None] | None]
"""Gives a JSON Web Token, or None for nobody."""

_LIFE_USED = 0.9  # of what was left when the token was taken; then another is asked for


class TokenSource:
    """
    Drives one `ClientIdentity`.

    Args:
        identity: decides what is wanted, and takes what was given.
        runtime: the clock.
        changed: called when the identity has something new to say or to show.
    """

    def __init__(self, identity: ClientIdentity, runtime: Runtime, changed: Callable[[], None]) -> None:
        self._identity, self._runtime, self._changed = identity, runtime, changed
        self._source: Source | None = None
        self._attention = asyncio.Event()
        self._asking: anyio.CancelScope | None = None
        self._renew_at: float | None = None  # by the monotonic clock
        self._token: str | None = None  # that this is about
        self._stopped = False

    def set(self, source: Source | None) -> None:
        """Ask another source from now on; what the one before would still give is not waited for."""
        self._source = source
        if self._asking is not None:
            self._asking.cancel()
        self._identity.set_source(has_source=source is not None)
        self.look_up()

    def look_up(self) -> None:
        """The identity may want something else than before."""
        self._attention.set()

    def stop(self) -> None:
        """End `run`, and the asking under way, also where the program's callable lets no cancellation through."""
        self._stopped = True
        if self._asking is not None:
            self._asking.cancel()
        self.look_up()

    async def run(self) -> None:
        """Until `stop`."""
        while not self._stopped:
            self._attention.clear()
            self._plan_renewal()
            if self._identity.wants_token:
                await self._ask()
                continue
            seconds = None if self._renew_at is None else self._renew_at - self._runtime.monotonic()
            if seconds is not None and seconds <= 0:
                self._renew_at = None
                self._identity.renew()
                continue
            with anyio.move_on_after(seconds):
                await self._attention.wait()

    def _plan_renewal(self) -> None:
        token = self._identity.token
        if token == self._token:
            return
        self._token, self._renew_at = token, None
        expires = token_claims(token).get("exp") if token is not None else None
        if not isinstance(expires, int | float) or not abs(expires) < 1e12:
            return
        left = expires - self._runtime.now_us() / 1e6
        if left > 0:
            pause = max(left * _LIFE_USED, limits.AUTH_RENEW_SECONDS_MIN)
            self._renew_at = self._runtime.monotonic() + pause

    async def _ask(self) -> None:
        source = self._source
        assert source is not None
        with anyio.CancelScope() as self._asking:
            try:
                with anyio.fail_after(limits.AUTH_CALLABLE_SECONDS):
                    given = source()
                    token = await given if inspect.isawaitable(given) else given
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and self._is_cancelled():
                    raise
                # The program's own code failed: that is told as a state, and the client goes on as nobody.
                logger.exception("the auth callable raised")
                reason = (
                    "took too long" if isinstance(error, TimeoutError) else f"raised {type(error).__name__}: {error}"
                )
                self._identity.fail(Unauthenticated(f"the auth callable {reason}"))
            else:
                self._take(token)
            self._changed()
        self._asking = None

    def _is_cancelled(self) -> bool:
        """Whether it is us who are cancelled, and not something that the callable waited for."""
        task = asyncio.current_task()
        return (self._asking is not None and self._asking.cancel_called) or (task is not None and task.cancelling() > 0)

    def _take(self, token: object) -> None:
        if token is None or (isinstance(token, str) and token):
            self._identity.supply(token)
        else:
            self._identity.fail(Unauthenticated(f"the auth callable returned {type(token).__name__}, not a token"))
