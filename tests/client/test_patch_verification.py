"""Verification of patches: patched results are compared with fresh queries; differences are counted and repaired."""

import json
from typing import Any

import msgspec

from tinyvex.client.pending_requests import CallKind
from tinyvex.client.query_set import ClientQuery
from tinyvex.client.query_value import QueryValue
from tinyvex.client.state import ClientState, Completed, Failed, ResultsChanged

GREETING = {
    "protocolVersion": 1, "serverVersion": "1", "databaseId": "d", "epoch": "e", "lastTs": 0, "clientClockSkew": 0,
    "limits": {"messageBytesMax": 1 << 20, "queriesMax": 100, "requestsMax": 100}, "heartbeatMs": 1000,
}  # fmt: skip


class Served:
    """A verifying client with one query whose result is [1], and its server."""

    def __init__(self) -> None:
        self.client = ClientState("session-1", verify=True)
        self.client.opened(1)
        self.asked: list[dict[str, Any]] = []
        self.listen()
        self.answer(self.asked.pop(), GREETING)
        self.query: ClientQuery = self.client.subscribe("m:f", b"{}")
        self.listen()
        self.answer(self.asked.pop(), {})
        self.version = {"querySet": 0, "identity": 0, "ts": 0}
        self.transition({"type": "QueryUpdated", "queryId": 0, "hash": "h0", "value": [1]}, query_set=1)
        self.client.events()

    def listen(self) -> None:
        """Read the messages that the client sends."""
        while (message := self.client.next_message()) is not None:
            self.asked.append(json.loads(message))

    def answer(self, request: dict[str, Any], result: object) -> None:
        """Answer a request."""
        self.client.receive(msgspec.json.encode({"jsonrpc": "2.0", "id": request["id"], "result": result}))
        self.listen()

    def answer_check(self, value: object) -> None:
        """Answer the one-shot query that the client sent."""
        [request] = self.asked
        self.asked.clear()
        assert request["method"] == "tinyvex/query"
        assert request["params"]["ts"] == self.version["ts"]
        self.answer(request, {"value": value, "ts": request["params"]["ts"], "logLines": []})

    def transition(self, modification: dict[str, Any], query_set: int = 1) -> None:
        """Send a transition to the next `ts`."""
        end = {**self.version, "querySet": query_set, "ts": self.version["ts"] + 1}
        params = {"startVersion": self.version, "endVersion": end, "modifications": [modification]}
        self.version = end
        self.client.receive(msgspec.json.encode({"jsonrpc": "2.0", "method": "tinyvex/transition", "params": params}))
        self.listen()

    def patch(self, hash_: str = "h1") -> None:
        """Change the query's result to [1, 2], by a patch."""
        operations = [{"op": "add", "path": "/1", "value": 2}]
        self.transition({"type": "QueryUpdated", "queryId": 0, "hash": hash_, "patch": operations})


def test_a_result_that_a_fresh_query_agrees_with_passes() -> None:
    """The fresh query reads the `ts` of the transition."""
    served = Served()
    served.patch()
    served.answer_check([1, 2])
    assert (served.client.counters.checks_passed, served.client.counters.checks_failed) == (1, 0)


def test_full_values_are_not_checked() -> None:
    """They do not depend on patches."""
    served = Served()
    served.transition({"type": "QueryUpdated", "queryId": 0, "hash": "h1", "value": [2]})
    assert served.asked == []


def test_a_different_result_requests_the_full_value() -> None:
    """The full value is shown, although its hash equals the old one."""
    served = Served()
    served.patch()
    served.client.events()
    served.answer_check([1, 3])
    assert served.client.counters.checks_failed == 1
    [request] = served.asked
    assert [change["type"] for change in request["params"]["modifications"]] == ["Remove", "Add"]
    assert request["params"]["modifications"][1]["resume"] is None
    served.transition({"type": "QueryUpdated", "queryId": 0, "hash": "h1", "value": [1, 3]}, query_set=2)
    assert served.query.shown == QueryValue(b"[1,3]")
    assert ResultsChanged([0]) in served.client.events()


def test_checks_cause_no_events() -> None:
    """Checks may be answered, fail, be lost or closed."""
    served = Served()
    served.patch()
    served.answer_check([1, 2])
    served.patch("h2")
    error = {"code": 1, "message": "gone", "data": {"name": "SnapshotUnavailable", "fault": "client", "retry": "never"}}
    request = served.asked.pop()
    served.client.receive(msgspec.json.encode({"jsonrpc": "2.0", "id": request["id"], "error": error}))
    served.patch("h3")
    served.client.lost("cut")
    served.client.close()
    assert not [event for event in served.client.events() if isinstance(event, Completed | Failed)]
    assert served.client.counters.checks_failed == 0


def test_other_calls_complete_during_checks() -> None:
    """The events of a one-shot query are unaffected."""
    served = Served()
    served.client.call(CallKind.QUERY, "m:g", b"{}")
    served.listen()
    served.answer(served.asked.pop(), {"value": 7, "ts": 1, "logLines": []})
    assert [type(event) for event in served.client.events()] == [Completed]


def test_a_different_result_is_not_offered_in_resume() -> None:
    """Otherwise the server would confirm it on the next socket."""
    served = Served()
    served.patch()
    served.answer_check([1, 3])
    served.asked.clear()
    served.client.lost("cut")
    served.client.opened(2)
    served.listen()
    served.answer(served.asked.pop(), GREETING)
    [request] = served.asked
    assert request["params"]["modifications"][0]["resume"] is None
