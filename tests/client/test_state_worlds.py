"""The client's state machine in random worlds: any order of calls, messages, lost sockets and restores."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fake_server import FIRST_TS, FakeServer, FakeSession
from tinyvex.client.pending_requests import CallKind
from tinyvex.client.query_set import ClientQuery
from tinyvex.client.query_value import QueryValue
from tinyvex.client.state import ClientState, Completed, Connected, Failed, ResultsChanged, SessionPhase
from tinyvex.errors import ConnectionLost
from tinyvex.values import codec

NAMES = "abc"
WORLDS = 300
STEPS = 120


class World:
    """
    One client, one server of counters, and sockets that open and close.

    Every result shown without an optimistic update must be the server's at one `ts`, the same for all queries,
    which never decreases. Every mutation must commit exactly once and complete only when its effect is shown.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.server = FakeServer()
        self.state = ClientState("session")
        self.session: FakeSession | None = None
        self.to_server: list[str] = []
        self.held: list[ClientQuery] = []
        self.expected: dict[str, int] = {}
        self.open_mutations: dict[int, str] = {}
        self.open_calls: set[int] = set()
        self.shown_ts = FIRST_TS
        self.covered_ts = FIRST_TS

    def step(self) -> None:
        """Take one random step; messages move more often than anything else happens."""
        online: list[tuple[Callable[[], None], int]] = [
            (self.client_sends, 6),
            (self.server_receives, 6),
            (self.server_transitions, 5),
            (self.client_receives, 8),
            (self.cut, 1),
        ]
        any_time: list[tuple[Callable[[], None], int]] = [
            (self.subscribe, 2),
            (self.release, 1),
            (self.add, 2),
            (self.call, 1),
            (self.another_client_commits, 2),
        ]
        choices = any_time + (online if self.session is not None else [(self.dial, 3)])
        (happens,) = self.random.choices([one for one, _ in choices], [weight for _, weight in choices])
        happens()
        self.state.validate()

    # Calls.

    def name(self) -> str:
        return self.random.choice(NAMES)

    def subscribe(self) -> None:
        self.held.append(self.state.subscribe("counters:get", codec.encode({"name": self.name()})))
        self.look()

    def release(self) -> None:
        if self.held:
            query = self.held.pop(self.random.randrange(len(self.held)))
            self.state.queries.release(query.query_id)
            self.look()

    def add(self) -> None:
        name, by = self.name(), self.random.randint(1, 9)
        self.expected[name] = self.expected.get(name, 0) + by
        number = self.state.call(CallKind.MUTATION, "counters:add", codec.encode({"name": name, "by": by})).number
        self.open_mutations[number] = name
        self.look()

    def call(self) -> None:
        kind = self.random.choice([CallKind.ACTION, CallKind.QUERY])
        self.open_calls.add(self.state.call(kind, "counters:echo", b'{"value":1}').number)
        self.look()

    # Other clients.

    def another_client_commits(self) -> None:
        name = self.name()
        self.expected[name] = self.expected.get(name, 0) + 1
        self.server.commit(name, 1)

    # Sockets.

    def dial(self) -> None:
        self.session = self.server.connect()
        self.to_server = []
        self.state.opened(0)

    def cut(self) -> None:
        self.session = None
        self.state.lost("cut")
        self.look()

    def client_sends(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            if (text := self.state.next_message()) is not None:
                self.to_server.append(text.decode())
        self.look()

    def server_receives(self) -> None:
        assert self.session is not None
        count = self.random.randint(1, 4)
        for text in self.to_server[:count]:
            self.session.receive(text)
        del self.to_server[:count]

    def server_transitions(self) -> None:
        """Send a transition, often to a version that is not the newest, and before every message was received."""
        assert self.session is not None
        self.session.turn(self.random.randint(self.session.version["ts"] or FIRST_TS, self.server.ts))

    def client_receives(self) -> None:
        assert self.session is not None
        count = self.random.randint(1, 4)
        for text in self.session.out[:count]:
            self.state.receive(text)
            self.look()
        del self.session.out[:count]

    # Invariants.

    def look(self) -> None:
        for event in self.state.events():
            match event:
                case Completed(number=number, answer=answer):
                    self.finish(number, answer.ts)
                case Failed(number=number, error=error):
                    assert isinstance(error, ConnectionLost)
                    self.open_calls.remove(number)
                case Connected() | ResultsChanged():
                    pass
                case _:
                    raise AssertionError(event)
        self.check_shown()

    def finish(self, number: int, ts: int) -> None:
        if number in self.open_calls:
            self.open_calls.remove(number)
            return
        del self.open_mutations[number]
        assert self.server.records["session", number]["ts"] == ts
        self.covered_ts = max(self.covered_ts, ts)
        assert self.state.version.ts >= ts

    def check_shown(self) -> None:
        """Check that the results of some `ts`, at or past the previous one, explain everything that is shown."""
        values: dict[str, Any] = {
            json.loads(query.args)["name"]: json.loads(query.shown.json)
            for query in self.state.queries
            if isinstance(query.shown, QueryValue)
        }
        candidates = [
            ts
            for ts in range(max(self.shown_ts, self.covered_ts), self.server.ts + 1)
            if all(self.server.at(ts).get(name, 0) == value for name, value in values.items())
        ]
        assert candidates, values
        self.shown_ts = candidates[0]

    def finish_all(self) -> None:
        """Let every pending request finish without disturbance."""
        if self.state.phase is SessionPhase.OFFLINE:
            self.dial()
        assert self.session is not None
        for _ in range(100):
            while (text := self.state.next_message()) is not None:
                self.to_server.append(text.decode())
            for text in self.to_server:
                self.session.receive(text)
            self.to_server = []
            self.session.turn()
            messages, self.session.out = self.session.out, []
            for line in messages:
                self.state.receive(line)
                self.look()
        assert not self.open_mutations
        assert not self.open_calls
        assert self.server.counters == self.expected
        assert self.state.caught_up
        for query in self.held:
            assert isinstance(query.shown, QueryValue)
            assert json.loads(query.shown.json) == self.server.counters.get(json.loads(query.args)["name"], 0)


@pytest.mark.parametrize("seed", range(WORLDS))
def test_every_world_is_consistent(seed: int) -> None:
    """The results are always those of one version, and every mutation runs once."""
    world = World(seed)
    for _ in range(STEPS):
        world.step()
    world.finish_all()
