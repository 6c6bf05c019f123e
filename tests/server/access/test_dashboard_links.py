"""Links to the dashboard: valid once, for a limited time, a few concurrently; and the tabs that they admit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tinyvex import limits
from tinyvex.server.access.dashboard_links import DashboardLinks


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
    token = access.redeem(code)
    assert token is not None
    assert token != code
    assert access.is_admin(token)


def test_a_code_is_good_once(access: DashboardLinks) -> None:
    """A second use is refused."""
    code = access.offer()
    assert access.redeem(code) is not None
    assert access.redeem(code) is None


def test_a_code_is_not_a_token(access: DashboardLinks) -> None:
    """A code is not accepted as a token, neither before its use nor after."""
    code = access.offer()
    assert not access.is_admin(code)
    access.redeem(code)
    assert not access.is_admin(code)


@pytest.mark.parametrize("code", ["", "guessed", "secret-1"])
def test_a_wrong_code_gives_nothing(access: DashboardLinks, code: str) -> None:
    """A wrong code does not affect the right one."""
    right = access.offer()
    assert access.redeem(code) is None
    assert access.redeem(right) is not None


def test_a_code_is_good_for_a_while(access: DashboardLinks, clock: Clock) -> None:
    """A code is valid up to its deadline, and not beyond."""
    first, second = access.offer(), access.offer()
    clock.now += limits.DASHBOARD_LINK_SECONDS
    assert access.redeem(first) is not None
    clock.now += 0.001
    assert access.redeem(second) is None


def test_open_links_are_bounded(access: DashboardLinks) -> None:
    """A further link replaces the oldest one."""
    codes = [access.offer() for _ in range(limits.DASHBOARD_LINKS_MAX + 1)]
    assert access.redeem(codes[0]) is None
    assert all(access.redeem(code) is not None for code in codes[1:])


def test_tabs_are_bounded(access: DashboardLinks) -> None:
    """A further tab replaces the first one admitted."""
    tokens = [access.redeem(access.offer()) or "" for _ in range(limits.DASHBOARD_TABS_MAX + 1)]
    assert not access.is_admin(tokens[0])
    assert all(access.is_admin(token) for token in tokens[1:])


def test_no_secret_is_kept(access: DashboardLinks) -> None:
    """Only hashes are stored, so reading the memory gives no access."""
    token = access.redeem(access.offer())
    code = access.offer()
    assert token not in repr(vars(access))
    assert code not in repr(vars(access))


def test_another_server_knows_nothing_of_it(access: DashboardLinks, clock: Clock) -> None:
    """Access ends with the process that granted it."""
    token = access.redeem(access.offer())
    assert token is not None
    assert not DashboardLinks(clock, lambda: "secret").is_admin(token)
