"""The shell of a session; tests on real servers cover its commands."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tinyvex import errors, limits
from tinyvex.functions.result.result_body import Body
from tinyvex.functions.run.call import MutationOutcome, QueryOutcome
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.sync.commands import (
    AddQuery,
    Command,
    ModifyQueries,
    ReadClock,
    RemoveQuery,
    RunAction,
    RunMutation,
    RunQuery,
)
from tinyvex.sync.counters import Counters
from tinyvex.sync.events import ClockRead, Done, Event, Fatal, Refused, StateTransition
from tinyvex.sync.live_query import LiveQuery, LiveQueryKey
from tinyvex.sync.session import SyncSession


class FakePeer:
    """Record events and actions."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.actions: list[Any] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def is_full(self) -> bool:
        return False

    def run_action(self, action: Any) -> None:
        self.actions.append(action)


def session(peer: FakePeer, executor: Any = None, live: Any = None, loop: Any = None) -> SyncSession:
    runtime: Any = SimpleNamespace(now_us=lambda: 5, loop=loop, threaded=False)
    nothing: Any = SimpleNamespace()
    return SyncSession(
        peer=peer, live=live, executor=executor, counters=Counters(), runtime=runtime, session_id="session-1",
        is_admin=False, takes_patches=True, credentials=nothing,
    )  # fmt: skip


@pytest.mark.parametrize(
    "command", [RunMutation(1, "a:b", b"{}", 0), RunQuery(1, "a:b", b"{}"), RunAction(1, "a:b", b"{}", 0)]
)
def test_a_pending_call_does_not_hold_its_command(command: Command) -> None:
    """The call may be pending for long, and its arguments may be megabytes."""
    pending: list[Any] = []
    executor = SimpleNamespace(
        mutation_nowait=lambda *args: pending.append(args),
        query_nowait=lambda *args, at, wanted, can_wait: pending.append(args),
    )
    peer = FakePeer()
    peer.actions = pending
    before = sys.getrefcount(command)
    session(peer, executor).receive(command, 10)
    assert len(pending) == 1
    assert sys.getrefcount(command) == before


def test_an_answer_carries_the_correlation_of_its_command() -> None:
    """The session does not interpret it."""
    peer, correlation = FakePeer(), object()
    session(peer).receive(ReadClock(correlation), 10)
    assert peer.events == [ClockRead(correlation, 5)]
    assert isinstance(peer.events[0], ClockRead)
    assert peer.events[0].correlation is correlation


def test_an_error_refuses_its_command_only() -> None:
    """The session continues."""
    peer = FakePeer()
    session(peer).receive(ModifyQueries(7, 0, 1, [RemoveQuery(4)]), 10)
    [refused] = peer.events
    assert isinstance(refused, Refused)
    assert refused.correlation == 7
    assert isinstance(refused.error, errors.UnknownQueryId)


def test_a_closed_session_emits_nothing() -> None:
    """Calls that end after their connection are counted, and answered to no client."""
    pending: list[Any] = []
    executor = SimpleNamespace(
        mutation_nowait=lambda call, key, done: pending.append(lambda: done(MutationOutcome(b"null", 1), None)),
        query_nowait=lambda call, done, at, wanted, can_wait: pending.append(
            lambda: done(QueryOutcome(1, Body([b"null"]), None, ReadSet()))
        ),
    )
    peer = FakePeer()
    closed = session(peer, executor)
    closed.receive(RunMutation(1, "a:b", b"{}", 0), 10)
    closed.receive(RunQuery(2, "a:b", b"{}"), 10)
    assert closed.requests.count == 2
    closed.close()
    for finish in pending:
        finish()
    assert closed.requests.count == 0
    assert peer.events == []


def test_a_queued_query_is_not_wanted_once_its_session_has_closed() -> None:
    """A client that disconnects leaves no queries behind that others would wait for."""
    asked: list[Any] = []
    executor = SimpleNamespace(query_nowait=lambda call, done, *, at, wanted, can_wait: asked.append(wanted))
    closed = session(FakePeer(), executor)
    closed.receive(RunQuery(2, "a:b", b"{}"), 10)
    before = asked[0]()
    closed.close()
    assert (before, asked[0]()) == (True, False)


def test_a_fatal_error_follows_its_answer() -> None:
    """The client receives the answer first."""
    peer = FakePeer()
    session(peer).receive(ModifyQueries(7, 5, 6, []), 10)
    refused, fatal = peer.events
    assert isinstance(refused, Refused)
    assert isinstance(fatal, Fatal)
    assert fatal.error is refused.error
    assert isinstance(fatal.error, errors.BaseVersionMismatch)


def test_an_answer_that_cannot_be_encoded_ends_the_session() -> None:
    """Otherwise its caller would wait forever, for example if memory runs out while a large result is encoded."""

    class ForgetfulPeer(FakePeer):
        def emit(self, event: Event) -> None:
            if isinstance(event, Done):
                raise MemoryError  # noqa: TRY004 - it stands for a machine without memory
            super().emit(event)

    pending: list[Any] = []
    executor = SimpleNamespace(query_nowait=lambda call, done, at, wanted, can_wait: pending.append(done))
    peer = ForgetfulPeer()
    session(peer, executor).receive(RunQuery(2, "a:b", b"{}"), 10)
    pending[0](QueryOutcome(1, Body([b"null"]), None, ReadSet()))
    [fatal] = peer.events
    assert isinstance(fatal, Fatal)
    assert isinstance(fatal.error, errors.InternalError)


def test_a_turn_starts_a_bounded_number_of_computations() -> None:
    """The next turn continues, after other connections had theirs."""
    turns: list[Any] = []
    computed: list[Any] = []
    live = SimpleNamespace(
        published=1,
        splits=0,
        subscribe=lambda call, _: LiveQuery(LiveQueryKey(call.path, call.args, False, None), call),
        is_shared=lambda _: True,
        compute=computed.append,
    )
    count = limits.PLAN_QUERIES_MAX + 1
    opened = session(FakePeer(), live=live, loop=SimpleNamespace(call_soon=turns.append))
    opened.receive(ModifyQueries(1, 0, 1, [AddQuery(number, "m:f", b"%d" % number) for number in range(count)]), 10)
    counts = []
    while turns:
        turns.pop()()
        counts.append(len(computed))
    assert counts == [limits.PLAN_QUERIES_MAX, count]


def test_a_transition_that_is_ready_leaves_with_its_answer() -> None:
    """One write has both, so a mutation without affected queries costs one write and one iteration of the loop less."""
    scheduled: list[Any] = []
    written: list[list[type]] = []

    class WritingPeer(FakePeer):
        def emit(self, event: Event) -> None:
            if not self.events:
                scheduled.append(self.write)
            super().emit(event)

        def write(self) -> None:
            written.append([type(event) for event in self.events])
            self.events.clear()

    pending: list[Any] = []
    executor = SimpleNamespace(mutation_nowait=lambda call, key, done: pending.append(done))
    live = SimpleNamespace(published=7, splits=0)
    opened = session(WritingPeer(), executor, live=live, loop=SimpleNamespace(call_soon=scheduled.append))
    opened.receive(RunMutation(1, "a:b", b"{}", 0), 10)
    pending[0](MutationOutcome(b"null", 7), None)
    while scheduled:
        scheduled.pop(0)()
    assert written == [[Done, StateTransition]]
