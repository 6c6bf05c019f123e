"""The code that serves at each timestamp."""

from types import SimpleNamespace
from typing import Any

from tinyvex.functions.run.code_switch import APPS_RETAINED, CodeSwitch
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.operations import Write, WriteDocuments
from tinyvex.storage.log.system_tablets import CODE_INTERNAL, CODE_TABLET


def app(name: str) -> Any:
    """Stand for an app whose fingerprint is its name."""
    return SimpleNamespace(name=name, fingerprint=name)


FIRST, SECOND = app("first"), app("second")


def commit_of(fingerprint: str, ts: int) -> CommitRecord:
    """Return the commit that makes code current."""
    write = Write(CODE_TABLET, CODE_INTERNAL, b'{"fingerprint":"%s"}' % fingerprint.encode(), None, (), (), ())
    return CommitRecord(ts, (WriteDocuments((write,)),))


def switched() -> CodeSwitch:
    """Return a history in which the second app follows the first at 20."""
    code = CodeSwitch(FIRST)
    code.next_app = SECOND
    code.applied(commit_of("second", 20))
    return code


def test_code_is_part_of_the_snapshot() -> None:
    """Executions before a code change use the old code; those at its timestamp and later use the new code."""
    code = switched()
    assert [code.at(ts) for ts in (10, 19, 20, 21)] == [FIRST, FIRST, SECOND, SECOND]
    assert code.newest is SECOND


def test_a_commit_of_other_code_does_not_switch() -> None:
    """An import writes the code document again, with the fingerprint that it had."""
    code = CodeSwitch(FIRST)
    code.next_app = SECOND
    code.applied(commit_of("first", 20))
    assert code.newest is FIRST


def test_a_commit_without_a_next_app_does_not_switch() -> None:
    """No reload is in progress."""
    code = CodeSwitch(FIRST)
    code.applied(commit_of("second", 20))
    assert code.newest is FIRST


def test_a_switch_is_rolled_back_with_its_group() -> None:
    """After a rollback, the old code serves later timestamps too."""
    code = switched()
    code.rolled_back(19)
    assert code.at(30) is FIRST
    assert code.newest is FIRST


def test_a_rollback_of_the_first_commit_leaves_the_first_app() -> None:
    """An empty database is at 0, and its app serves from there."""
    code = switched()
    code.rolled_back(0)
    assert code.newest is FIRST


def test_a_group_that_runs_again_switches_at_its_new_timestamp() -> None:
    """The timestamp of the first attempt has no meaning."""
    code = switched()
    code.rolled_back(19)
    code.applied(commit_of("second", 30))
    assert [code.at(ts) for ts in (20, 30)] == [FIRST, SECOND]


def test_only_the_last_few_apps_are_retained() -> None:
    """A developer who saves often does not fill the memory; the oldest retained app serves all earlier timestamps."""
    code = CodeSwitch(FIRST)
    apps: list[Any] = [app(str(ts)) for ts in range(20, 40)]
    for ts, each in enumerate(apps, 20):
        code.next_app = each
        code.applied(commit_of(each.fingerprint, ts))
    assert [code.at(ts) for ts in range(40 - APPS_RETAINED, 40)] == apps[-APPS_RETAINED:]
    assert code.at(10) is apps[-APPS_RETAINED]
