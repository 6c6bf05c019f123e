"""The session vectors, played against the Python client's state machine: the runner is the server and the user."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.sessions import Symbols, read, sessions
from tinyvex.client.pending_requests import CallKind
from tinyvex.client.query_set import ClientQuery, QueryFailure
from tinyvex.client.query_value import QueryValue
from tinyvex.client.state import ClientState, Completed, Failed, SessionPhase
from tinyvex.errors import TinyvexError
from tinyvex.values import codec as values

ZERO = {"querySet": 0, "identity": 0, "ts": 0}
KINDS = {"tinyvex/mutation": CallKind.MUTATION, "tinyvex/action": CallKind.ACTION, "tinyvex/query": CallKind.QUERY}
PHASES = {SessionPhase.READY: "connected", SessionPhase.OFFLINE: "disconnected", SessionPhase.CLOSED: "closed"}


class Script:
    """A vector being played; its ids are those that the Python client chooses, counted from 0."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.symbols = Symbols(vector["bind"])
        bound = self.symbols.bound
        token = bound.get("$wrongToken", bound.get("$clientToken"))
        self.client = ClientState(bound["$session"], token)
        self.tokens = [bound[name] for name in ("$userToken", "$renewedToken") if name in bound]
        self.client.identity.set_source(has_source=bool(self.tokens))
        self.queries: dict[int, ClientQuery] = {}
        self.sent_query_set = 0
        self.said: list[bytes] = []
        self.gave_up = False

    def play(self, steps: list[dict[str, Any]]) -> None:
        """Play every step of the first socket; others belong to other clients."""
        for step in steps:
            if step.get("socket", "a") == "a":
                try:
                    self.step(step)
                    self.listen()
                except (AssertionError, KeyError) as error:
                    raise AssertionError(f"step {step}: {error!r}") from error
                self.client.validate()
        assert not self.said, "the client says more than the vector"

    def listen(self) -> None:
        """Collect the client's messages, as its driver does after every event."""
        if self.client.identity.wants_token:
            self.client.identity.supply(self.tokens.pop(0))
        while (message := self.client.next_message()) is not None:
            self.said.append(message)

    def step(self, step: dict[str, Any]) -> None:
        """Play one step, and check the state after it."""
        match step:
            case {"open": True}:
                self.client.opened(now_ms=1)
                self.gave_up = False
            case {"cut": True} | {"close": {"by": "server"}}:
                assert not self.said, "the client says more than the vector"
                self.client.lost("the socket is gone")
            case {"close": {"by": "client"}}:
                assert self.gave_up, "the client goes on with a server that it cannot trust"
                self.client.lost("the server cannot be trusted")
            case {"silence": "client"}:
                assert not self.said
            case {"order": _}:
                pass  # of numbers that this runner made up
            case {"from": "client", "message": pattern}:
                self.expect(pattern)
            case {"from": "server"}:
                self.hear(step)
            case {"server": "stop"} | {"then": _}:
                pass  # what the server does, it says in its next message
            case _:
                raise AssertionError("an unknown step")
        if "then" in step:
            self.check(step["then"])

    # The user and the client.

    def expect(self, pattern: dict[str, Any]) -> None:
        """Expect this message, sent by the client itself or after its user requests it."""
        if not self.said:
            self.want(pattern["method"], pattern["params"])
            self.listen()
        assert self.said, "the client says nothing"
        message = json.loads(self.said.pop(0))
        self.symbols.match(pattern, message)
        if pattern["method"] == "tinyvex/modifyQuerySet":
            self.sent_query_set = pattern["params"]["newVersion"]
            for one, other in zip(pattern["params"]["modifications"], message["params"]["modifications"], strict=True):
                assert other.get("resume") is None or "resume" in one, "S-16: nothing is offered that is not held"

    def want(self, method: str, params: dict[str, Any]) -> None:
        """Act as the user."""
        if method in KINDS:
            self.client.call(KINDS[method], params["udfPath"], values.encode(params["args"]), at=params.get("ts"))
            return
        assert method == "tinyvex/modifyQuerySet", "the client should have said this by itself"
        for change in params["modifications"]:
            if change["type"] == "Add":
                query = self.client.subscribe(change["udfPath"], values.encode(change["args"]))
                self.queries[change["queryId"]] = query
            else:
                self.client.queries.release(self.queries.pop(change["queryId"]).query_id)

    # The server.

    def hear(self, step: dict[str, Any]) -> None:
        """Send the message of the vector's server."""
        if "message" in step:
            self.receive(json.dumps(self.symbols.invent(step["message"])))
        elif "text" in step:
            self.receive(step["text"])
        elif "responses" in step:
            for response in step["responses"]:
                self.receive(json.dumps(self.symbols.invent(response)))
        else:
            self.receive(json.dumps(self.settling(step["settle"])))

    def receive(self, text: str) -> None:
        """Deliver one message; an error means that the client wants another socket."""
        try:
            self.client.receive(text)
        except TinyvexError:
            self.gave_up = True

    def settling(self, settle: dict[str, Any]) -> dict[str, Any]:
        """Build one transition with everything that a server may send in several."""
        version = self.client.version
        start = {"querySet": version.query_set, "identity": version.identity, "ts": version.ts}
        modifications = [
            {
                "type": "QueryUpdated",
                "queryId": int(query_id),
                "hash": self.symbols.invent(settle["hashes"][query_id]),
                "value": value,
            }
            for query_id, value in settle.get("results", {}).items()
        ]
        end = {**start, "querySet": self.sent_query_set, "ts": self.symbols.invent(settle["ts"])}
        params = {"startVersion": start, "endVersion": end, "serverTs": 0, "modifications": modifications}
        return {"jsonrpc": "2.0", "method": "tinyvex/transition", "params": params}

    # Expected state.

    def check(self, then: dict[str, Any]) -> None:
        """Check the client's state, and the events for its user since the last check."""
        if "state" in then:
            assert PHASES[self.client.phase] == then["state"]
        if "version" in then:
            version = self.client.version
            shown = {"querySet": version.query_set, "identity": version.identity, "ts": version.ts}
            self.symbols.match(then["version"], shown)
        if "results" in then:
            shown_values = {
                str(key): json.loads(q.shown.json) for key, q in self.queries.items() if isinstance(q.shown, QueryValue)
            }
            assert shown_values == then["results"]
        if "failures" in then:
            failures = {
                str(key): q.shown.error.name for key, q in self.queries.items() if isinstance(q.shown, QueryFailure)
            }
            assert failures == then["failures"]
        if "retryAfterMs" in then:
            assert self.client.retry_after_ms == self.symbols.invent(then["retryAfterMs"])
        if {"completed", "rejected"} & then.keys():
            self.check_calls(then)

    def check_calls(self, then: dict[str, Any]) -> None:
        """Check the calls that have ended since the last check."""
        events = self.client.events()
        completed = {
            str(event.number): json.loads(event.answer.value) for event in events if isinstance(event, Completed)
        }
        rejected = {str(event.number): event.error.name for event in events if isinstance(event, Failed)}
        expected = self.symbols.fill(then.get("completed", {}))
        if "completed" in then and not expected:
            assert not completed, "complete too early"
        assert {key: completed.get(key) for key in expected} == expected
        assert rejected == then.get("rejected", {})


@pytest.mark.parametrize("name", sessions("client"))
def test_session(name: str) -> None:
    """The client sends and shows what the vector states."""
    vector = read(name)
    Script(vector).play(vector["steps"])
