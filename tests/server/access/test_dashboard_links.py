"""Links to the dashboard: valid once, for a limited time, a few concurrently; and the tabs that they admit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tinyvex import limits
from tinyvex.errors import Unauthenticated
from tinyvex.server.access.dashboard_links import DashboardLinks


def redeem(access: DashboardLinks, code: str) -> str | None:
    """Return the token of a tab; None if the code is refused."""
    try:
        return access.redeem(code)
    except Unauthenticated:
        return None


class Clock:
    """A monotonic clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def secret() -> Callable[[], str]:
    """Return distinguishable secrets."""
    numbers: Iterator[int] = count()
    return lambda: f"secret-{next(numbers)}"


@pytest.fixture
def access(clock: Clock, secret: Callable[[], str]) -> DashboardLinks:
    return DashboardLinks(clock, secret)


def test_a_code_gives_a_token(access: DashboardLinks) -> None:
    """The token is another secret, and an administrator's."""
    code = access.offer()
    token = redeem(access, code)
    assert token is not None
    assert token != code
    assert access.is_admin(token)


def test_a_code_is_good_once(access: DashboardLinks) -> None:
    """A second use is refused."""
    code = access.offer()
    assert redeem(access, code) is not None
    assert redeem(access, code) is None


def test_a_code_is_not_a_token(access: DashboardLinks) -> None:
    """A code is not accepted as a token, neither before its use nor after."""
    code = access.offer()
    assert not access.is_admin(code)
    redeem(access, code)
    assert not access.is_admin(code)


@pytest.mark.parametrize("code", ["", "guessed", "secret-1"])
def test_a_wrong_code_gives_nothing(access: DashboardLinks, code: str) -> None:
    """A wrong code does not affect the right one."""
    right = access.offer()
    assert redeem(access, code) is None
    assert redeem(access, right) is not None


def test_a_code_is_good_for_a_while(access: DashboardLinks, clock: Clock) -> None:
    """A code is valid up to its deadline, and not beyond."""
    first, second = access.offer(), access.offer()
    clock.now += limits.DASHBOARD_LINK_SECONDS
    assert redeem(access, first) is not None
    clock.now += 0.001
    assert redeem(access, second) is None


def test_open_links_are_bounded(access: DashboardLinks) -> None:
    """A further link replaces the oldest one."""
    codes = [access.offer() for _ in range(limits.DASHBOARD_LINKS_MAX + 1)]
    assert redeem(access, codes[0]) is None
    assert all(redeem(access, code) is not None for code in codes[1:])


def test_tabs_are_bounded(access: DashboardLinks) -> None:
    """A further tab replaces the first one admitted."""
    tokens = [redeem(access, access.offer()) or "" for _ in range(limits.DASHBOARD_TABS_MAX + 1)]
    assert not access.is_admin(tokens[0])
    assert all(access.is_admin(token) for token in tokens[1:])


def test_no_secret_is_kept(access: DashboardLinks) -> None:
    """Only hashes are stored, so reading the memory gives no access."""
    token = redeem(access, access.offer())
    code = access.offer()
    assert token not in repr(vars(access))
    assert code not in repr(vars(access))


def test_another_server_knows_nothing_of_it(access: DashboardLinks, clock: Clock) -> None:
    """Access ends with the process that granted it."""
    token = redeem(access, access.offer())
    assert token is not None
    assert not DashboardLinks(clock, lambda: "secret").is_admin(token)


def test_a_link_survives_a_client_that_is_refused_for_another_reason(access: DashboardLinks) -> None:
    """The error reaches the client, and the link is valid for the next attempt."""

    def refuse() -> None:
        raise KeyError

    code = access.offer()
    with pytest.raises(KeyError):
        access.redeem(code, refuse)
    assert redeem(access, code) is not None
