"""The code that serves at each timestamp."""

from types import SimpleNamespace
from typing import Any

from tinyvex.functions.run.code_switch import APPS_RETAINED, CodeSwitch

FIRST: Any = SimpleNamespace(name="first")
SECOND: Any = SimpleNamespace(name="second")


def test_code_is_part_of_the_snapshot() -> None:
    """Executions before a code change use the old code; those at its timestamp and later use the new code."""
    code = CodeSwitch(FIRST)
    code.switch(SECOND, 20)
    assert [code.at(ts) for ts in (10, 19, 20, 21)] == [FIRST, FIRST, SECOND, SECOND]
    assert code.newest is SECOND


def test_a_switch_is_reverted_with_its_commit() -> None:
    """After a rollback, the old code serves later timestamps too."""
    code = CodeSwitch(FIRST)
    code.switch(SECOND, 20)
    code.revert(20)
    assert code.at(30) is FIRST
    assert code.newest is FIRST


def test_only_the_last_few_apps_are_retained() -> None:
    """A developer who saves often does not fill the memory; the oldest retained app serves all earlier timestamps."""
    code = CodeSwitch(FIRST)
    apps: list[Any] = [SimpleNamespace(name=str(ts)) for ts in range(20, 40)]
    for ts, app in enumerate(apps, 20):
        code.switch(app, ts)
    assert [code.at(ts) for ts in range(40 - APPS_RETAINED, 40)] == apps[-APPS_RETAINED:]
    assert code.at(10) is apps[-APPS_RETAINED]
