"""
The client's token source: asks the program for a token on every new socket, after a refusal, and before one expires.

`identity` decides when a token is needed. This file waits for the program's callable and for the time to renew.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import anyio

from tinyvex import limits
from tinyvex.client.decoding import is_encodable
from tinyvex.client.identity import token_claims
from tinyvex.errors import Unauthenticated

if TYPE_CHECKING:
    from tinyvex.client.identity import ClientIdentity
    from tinyvex.runtime import Runtime

__all__ = ["Source", "TokenSource"]

logger = logging.getLogger(__name__)

Source: TypeAlias = Callable[[], str | Awaitable[str | None] | None]
"""Returns a JSON Web Token, or None for no user."""

_LIFETIME_FRACTION = 0.9  # of a token's remaining lifetime, after which another token is requested
_EXPIRY_SECONDS_MAX = 1e12  # a larger `exp` is not a time


class TokenSource:
    """
    Supplies one `ClientIdentity` with tokens.

    Args:
        identity: decides when a token is needed, and receives it.
        runtime: the clock.
        on_change: called after the identity has changed.
    """

    def __init__(self, identity: ClientIdentity, runtime: Runtime, on_change: Callable[[], None]) -> None:
        self._identity, self._runtime, self._on_change = identity, runtime, on_change
        self._source: Source | None = None
        self._attention = asyncio.Event()
        self._asking: anyio.CancelScope | None = None
        self._token: str | None = None  # the token that `_renew_at` is about
        self._renew_at: float | None = None  # on the monotonic clock
        self._failures = 0  # of the source, in a row
        self._stopped = False

    def set(self, source: Source | None) -> None:
        """Replace the source, and cancel a call of the previous one."""
        self._source = source
        self._failures = 0
        if self._asking is not None:
            self._asking.cancel()
        self._identity.set_source(has_source=source is not None)
        self.wake()

    def wake(self) -> None:
        """Make `run` look at the identity again."""
        self._attention.set()

    def stop(self) -> None:
        """End `run`; cancels a call of the program's callable, even one that suppresses cancellation."""
        self._stopped = True
        if self._asking is not None:
            self._asking.cancel()
        self.wake()

    async def run(self) -> None:
        """Supply tokens until `stop` is called."""
        while not self._stopped:
            self._attention.clear()
            self._plan_renewal()
            if self._identity.needs_token and self._renew_at is None:
                self._plan_retry()
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
        if not isinstance(expires, int | float) or not abs(expires) < _EXPIRY_SECONDS_MAX:
            return
        remaining = expires - self._runtime.now_us() / 1e6
        if remaining > 0:
            delay = max(remaining * _LIFETIME_FRACTION, limits.AUTH_RENEW_SECONDS_MIN)
            self._renew_at = self._runtime.monotonic() + delay

    def _plan_retry(self) -> None:
        """Ask a source that failed again, with exponential backoff and jitter."""
        longest = min(
            limits.AUTH_CALLABLE_RETRY_SECONDS_MAX,
            limits.AUTH_CALLABLE_RETRY_SECONDS_MIN * 2.0 ** min(self._failures, 20),
        )
        self._failures += 1
        self._renew_at = self._runtime.monotonic() + longest * (0.5 + self._runtime.random.random() / 2)

    async def _ask(self) -> None:
        source = self._source
        assert source is not None
        with anyio.CancelScope() as self._asking:
            try:
                with anyio.fail_after(limits.AUTH_CALLABLE_SECONDS):
                    returned = source()
                    token = await returned if inspect.isawaitable(returned) else returned
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and self._is_cancelled():
                    raise
                # The program's own code failed, perhaps because it needs a network: it is asked again.
                logger.exception("the auth callable raised")
                self._identity.fail(Unauthenticated(f"the auth callable {_failure_text(error)}"))
            else:
                self._supply(token)
            self._on_change()
        self._asking = None

    def _is_cancelled(self) -> bool:
        """Return whether this task is being cancelled, as opposed to something that the callable waited for."""
        task = asyncio.current_task()
        return (self._asking is not None and self._asking.cancel_called) or (task is not None and task.cancelling() > 0)

    def _supply(self, token: object) -> None:
        if token is None or (isinstance(token, str) and token and is_encodable(token)):
            self._failures = 0
            self._identity.supply(token)
        else:
            returned = f"a value of type {type(token).__name__}"
            if isinstance(token, str):
                returned = "an empty string" if not token else "text with a lone surrogate"
            self._identity.refuse(
                Unauthenticated(f"the auth callable returned {returned}; it must return a token or None")
            )


def _failure_text(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"did not return within {limits.AUTH_CALLABLE_SECONDS:g} seconds"
    return f"raised {type(error).__name__}: {error}"
