"""The record of calls that held the interpreter until the process ended."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from unittest import mock

import pytest

from tinyvex.errors import MutationStuck, QueryStuck
from tinyvex.functions.run import stuck_calls
from tinyvex.functions.run.idempotency_key import IdempotencyKey
from tinyvex.functions.run.stuck_calls import ActionKey, QueryKey, StuckCalls, Suspects, find_suspects
from tinyvex.limits import RUNNING_ACTIONS_RECORDED_MAX, RUNNING_CALLS_RECORDED_MAX, STUCK_CALLS_MAX

KEY = IdempotencyKey("session of a client", 7, b"\x00digest\xff")
ACTION = ActionKey("app:act")
QUERY = QueryKey("fingerprint of the code", b"\xffdigest\x00")
PACKAGE = Path(stuck_calls.__file__).parents[2]


def trace(thread: int, file: str | Path) -> bytes:
    """Return the stacks that `faulthandler` writes; the innermost frame of one thread is in the file."""
    return (
        "Timeout (0:00:45)!\n"
        f"Thread 0x{1:016x} (most recent call first):\n"
        '  File "/usr/lib/python3/selectors.py", line 468 in select\n\n'
        f"Thread 0x{thread:016x} (most recent call first):\n"
        f'  File "{file}", line 27 in hold\n'
        f'  File "{PACKAGE}/functions/run/function_runner.py", line 170 in _run\n\n'
    ).encode()


def end_process(folder: Path, file: str | Path = "/home/app.py", *, key: IdempotencyKey | QueryKey = KEY) -> None:
    """Leave what a process leaves that the watchdog ended while a call was running."""
    record = StuckCalls(folder).record
    record.begin(key, "app:hold")
    os.write(record.descriptor, trace(threading.get_ident(), file))


def test_the_mutation_that_held_the_interpreter_is_refused_from_then_on(tmp_path: Path) -> None:
    """By the next process, and by the one after it."""
    end_process(tmp_path)
    assert StuckCalls(tmp_path).keys == {KEY}
    assert StuckCalls(tmp_path).keys == {KEY}


def test_the_log_names_the_function_and_its_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The next process has the trace, wherever the stderr of the last one went."""
    end_process(tmp_path)
    StuckCalls(tmp_path)
    assert "mutation `app:hold` held the interpreter" in caplog.text
    assert 'File "/home/app.py", line 27 in hold' in caplog.text


def test_a_mutation_that_waited_for_the_interpreter_is_not_refused(tmp_path: Path) -> None:
    """Its innermost frame is in this package: it had called the database, and another thread did not let it return."""
    end_process(tmp_path, PACKAGE / "storage" / "log" / "document_log.py")
    assert StuckCalls(tmp_path).keys == frozenset()


def test_a_mutation_of_a_killed_process_is_not_refused(tmp_path: Path) -> None:
    """Without the watchdog's trace it may have been in time."""
    StuckCalls(tmp_path).record.begin(KEY, "app:hold")
    assert StuckCalls(tmp_path).keys == frozenset()


def test_a_mutation_that_ended_is_not_refused(tmp_path: Path) -> None:
    """A query held the interpreter afterwards."""
    record = StuckCalls(tmp_path).record
    record.end(record.begin(KEY, "app:hold"))
    os.write(record.descriptor, trace(threading.get_ident(), "/home/app.py"))
    assert StuckCalls(tmp_path).keys == frozenset()


def test_a_discarded_trace_refuses_nothing(tmp_path: Path) -> None:
    """The process was suspended and lived on."""
    record = StuckCalls(tmp_path).record
    record.begin(KEY, "app:hold")
    os.write(record.descriptor, trace(threading.get_ident(), "/home/app.py"))
    record.clear_trace()
    assert StuckCalls(tmp_path).keys == frozenset()


def test_the_number_of_refused_mutations_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest leave first."""
    assert STUCK_CALLS_MAX > 2
    monkeypatch.setattr(stuck_calls, "STUCK_CALLS_MAX", 2)
    keys = [IdempotencyKey("session", number, b"digest") for number in range(3)]
    for key in keys:
        end_process(tmp_path, key=key)
    assert StuckCalls(tmp_path).keys == set(keys[1:])


def test_a_damaged_list_does_not_prevent_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported, and refuses nothing."""
    (tmp_path / "stuck-calls").write_bytes(b"\xff{")
    assert StuckCalls(tmp_path).keys == frozenset()
    assert "is damaged" in caplog.text


@pytest.mark.parametrize(
    "content", [b"null", b"{}", b'["query"]', b'[["query", "code", 5]]', b'[["query", ["code"], "00"]]']
)
def test_json_of_another_shape_is_a_damaged_list(tmp_path: Path, content: bytes) -> None:
    """It does not prevent the start either."""
    (tmp_path / "stuck-calls").write_bytes(content)
    assert StuckCalls(tmp_path).keys == frozenset()


def test_calls_are_refused_although_the_list_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk, for example, prevents neither the start nor the stop."""
    end_process(tmp_path, key=QUERY)
    (tmp_path / f"stuck-calls.{os.getpid()}.new").mkdir()  # the unfinished list
    stuck = StuckCalls(tmp_path)
    assert stuck.keys == {QUERY}
    assert "cannot be written" in caplog.text
    stuck.close()


def test_calls_run_unrecorded_if_the_disk_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Writing to a mapped page for which the disk has no place would end the process."""
    with mock.patch.object(stuck_calls.os, "write", side_effect=OSError(errno.ENOSPC, "no space")):
        stuck = StuckCalls(tmp_path)
    assert "cannot be written" in caplog.text
    stuck.record.begin(KEY, "app:hold")
    os.write(stuck.record.descriptor, trace(threading.get_ident(), "/home/app.py"))
    assert StuckCalls(tmp_path).keys == set()


def test_queries_stay_refused_if_the_stopping_server_cannot_write_the_list(tmp_path: Path) -> None:
    """The server stops in order."""
    end_process(tmp_path, key=QUERY)
    stuck = StuckCalls(tmp_path)
    (tmp_path / f"stuck-calls.{os.getpid()}.new").mkdir()  # the unfinished list
    stuck.close()
    assert StuckCalls(tmp_path).keys == {QUERY}


def test_a_server_that_stopped_leaves_no_record(tmp_path: Path) -> None:
    """The folder of a stopped server has no file for the running mutation."""
    StuckCalls(tmp_path).record.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 500_000, b"nonsense\0", b"1\x1fp\x1fmutation\x1fzz\x1fp\x1fs\0" + b"\0" * 500_000]
)
def test_an_incomplete_record_names_no_call(content: bytes) -> None:
    """The file of a process that ended while it was created, or another program's."""
    assert find_suspects(content) == Suspects([], [], 0)


def test_only_the_stuck_request_is_refused(tmp_path: Path) -> None:
    """The same mutation under a new id is a new decision of the client."""
    end_process(tmp_path)
    stuck = StuckCalls(tmp_path)
    stuck.refuse(IdempotencyKey(KEY.session_id, 8, KEY.digest), "app:hold")
    with pytest.raises(MutationStuck, match="request 7"):
        stuck.refuse(KEY, "app:hold")


def test_a_query_is_refused_until_its_code_changes(tmp_path: Path) -> None:
    """Otherwise its subscribers would end each process after the other."""
    end_process(tmp_path, key=QUERY)
    stuck = StuckCalls(tmp_path)
    stuck.refuse(QueryKey("fingerprint of the repaired code", QUERY.digest), "app:hold")
    stuck.refuse(QueryKey(QUERY.code, b"digest of other arguments"), "app:hold")
    with pytest.raises(QueryStuck, match="`app:hold` with these arguments"):
        stuck.refuse(QUERY, "app:hold")


def test_a_query_runs_again_after_a_requested_stop(tmp_path: Path) -> None:
    """The operator may have repaired the data; a mutation stays refused."""
    end_process(tmp_path, key=KEY)
    end_process(tmp_path, key=QUERY)
    stuck = StuckCalls(tmp_path)
    assert stuck.keys == {KEY, QUERY}
    stuck.close()
    assert StuckCalls(tmp_path).keys == {KEY}


def test_of_several_suspected_calls_only_the_queries_are_refused(tmp_path: Path) -> None:
    """A mutation is refused for good, so it has to be the only one that can have held the interpreter."""
    record = StuckCalls(tmp_path).record
    record.begin(KEY, "app:hold")
    record.begin(QUERY, "app:read")
    os.write(record.descriptor, trace(threading.get_ident(), "/home/app.py"))
    assert StuckCalls(tmp_path).keys == {QUERY}


STDLIB = "/usr/lib/python3"
IN_APP = ("/home/app.py", "hold")
IN_LOOP = (f"{STDLIB}/selectors.py", "select")
IN_POOL = (f"{STDLIB}/concurrent/futures/thread.py", "run")
IN_IDLE_POOL = (f"{STDLIB}/concurrent/futures/thread.py", "_worker")
IN_PACKAGE = (str(PACKAGE / "storage" / "log" / "document_log.py"), "get")
Call = IdempotencyKey | QueryKey | ActionKey | None


def end_among(folder: Path, *threads: tuple[Call, tuple[str, str]]) -> frozenset[Call]:
    """End a process whose threads ran these calls and were at these frames; return the calls that the next one refuses."""
    record = StuckCalls(folder).record
    stacks = ["Timeout (0:00:45)!\n"]
    for number, (key, (file, function)) in enumerate(threads, 1):
        if key is not None:
            with mock.patch("threading.get_ident", return_value=number):
                record.begin(key, "app:act" if key == ACTION else "app:hold")
        stacks.append(f'Thread 0x{number:016x} (most recent call first):\n  File "{file}", line 9 in {function}\n\n')
    main = f'  File "/lib/uvloop.py", line 9 in run\n  File "{PACKAGE}/cli/serve_process.py", line 42 in serve\n'
    stacks.append(f"Thread 0x{99:016x} (most recent call first):\n{main}\n")
    os.write(record.descriptor, "".join(stacks).encode())
    return StuckCalls(folder).keys


@pytest.mark.parametrize(
    "others",
    [
        [(ACTION, IN_APP)],
        [(ACTION, IN_LOOP), (None, IN_POOL)],
        [(None, IN_APP)],
    ],
    ids=["action", "thread of an action", "thread of the app"],
)
@pytest.mark.parametrize("call", [KEY, QUERY], ids=["mutation", "query"])
def test_a_call_is_not_refused_if_an_action_or_a_thread_may_have_held_the_interpreter(
    tmp_path: Path, call: Call, others: list[tuple[Call, tuple[str, str]]]
) -> None:
    """It may have waited in the app's code; and no client resends the action, so the next process may well live."""
    assert end_among(tmp_path, (call, IN_APP), *others) == frozenset()


@pytest.mark.parametrize("call", [KEY, QUERY], ids=["mutation", "query"])
def test_the_call_that_is_suspected_both_times_is_refused(tmp_path: Path, call: Call) -> None:
    """Otherwise it would end each process after the other, if a thread of the app is always suspected too."""
    assert end_among(tmp_path, (call, IN_APP), (None, IN_APP)) == frozenset()
    assert end_among(tmp_path, (call, IN_APP), (ACTION, IN_APP)) == {call}


def test_a_mutation_is_not_refused_if_the_same_action_is_suspected_both_times(tmp_path: Path) -> None:
    """The action may have held the interpreter both times."""
    for _ in range(3):
        assert end_among(tmp_path, (KEY, IN_APP), (ACTION, IN_APP)) == frozenset()
    assert end_among(tmp_path, (KEY, IN_APP)) == {KEY}


def test_only_the_query_is_refused_if_a_mutation_is_suspected_both_times_too(tmp_path: Path) -> None:
    """A query is refused for a time, and a mutation for good."""
    for _ in range(2):
        refused = end_among(tmp_path, (KEY, IN_APP), (QUERY, IN_APP), (None, IN_POOL))
    assert refused == {QUERY}


@pytest.mark.parametrize("frame", [IN_LOOP, IN_IDLE_POOL, IN_PACKAGE, (f"{STDLIB}/threading.py", "wait")])
def test_a_thread_that_waits_for_work_is_not_suspected(tmp_path: Path, frame: tuple[str, str]) -> None:
    """The action awaits something, or no call runs on the thread; so the mutation is the only suspect."""
    assert end_among(tmp_path, (KEY, IN_APP), (ACTION, frame), (None, frame)) == {KEY}


def test_an_action_alone_is_not_refused(tmp_path: Path) -> None:
    """No client resends it."""
    for _ in range(2):
        assert end_among(tmp_path, (ACTION, IN_APP), (KEY, IN_PACKAGE)) == frozenset()


def test_a_requested_stop_ends_a_suspicion(tmp_path: Path) -> None:
    """Two ends count only if the server was restarted by its supervisor in between."""
    end_among(tmp_path, (KEY, IN_APP), (None, IN_APP))
    StuckCalls(tmp_path).close()
    assert end_among(tmp_path, (KEY, IN_APP), (None, IN_APP)) == frozenset()


def test_actions_leave_records_for_queries_and_mutations(tmp_path: Path) -> None:
    """Thousands of actions may run, and only the calls that clients resend can be refused."""
    record = StuckCalls(tmp_path).record
    numbers = [record.begin(ACTION, "app:act") for _ in range(RUNNING_CALLS_RECORDED_MAX)]
    assert sum(number >= 0 for number in numbers) == RUNNING_ACTIONS_RECORDED_MAX
    assert record.begin(KEY, "app:hold") >= 0


def test_calls_beyond_the_bound_are_not_recorded(tmp_path: Path) -> None:
    """They run; a record is free again after its call."""
    record = StuckCalls(tmp_path).record
    numbers = [record.begin(QUERY, "app:read") for _ in range(RUNNING_CALLS_RECORDED_MAX)]
    assert len(set(numbers)) == RUNNING_CALLS_RECORDED_MAX
    beyond = record.begin(QUERY, "app:read")
    record.end(beyond)
    assert beyond < 0
    record.end(numbers[3])
    assert record.begin(QUERY, "app:read") == numbers[3]
