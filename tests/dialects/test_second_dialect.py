"""A second dialect: it needs an entry in the server's table, and shares sessions and live queries with the first."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.support.http import SHELF
from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.raw import RawClient
from tests.support.world import WorldRuntime
from tinyvex.dialects.dialect import Farewell, Outlet
from tinyvex.errors import TinyvexError
from tinyvex.server.server import DIALECTS, Server, ServerOptions
from tinyvex.sync.commands import AddQuery, ModifyQueries, OpenSession, RunMutation
from tinyvex.sync.events import Accepted, Done, Event, Fatal, FullValue, StateTransition
from tinyvex.sync.session import SyncSession


class TerseDialect:
    """`Connect` and `ModifyQuerySet` have no answer, no request has an id of JSON-RPC, and results are never patched."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._session: SyncSession | None = None
        self.is_full = outlet.is_full
        self.run_action = outlet.run_action

    def receive(self, text: bytes) -> None:
        message = json.loads(text)
        if self._session is None:
            self._session = self._outlet.open_session(OpenSession(message["sessionId"]), self).session
            return
        args = json.dumps(message["args"][0]).encode()
        if message["type"] == "Add":
            add = AddQuery(message["queryId"], message["udfPath"], args)
            self._session.receive(ModifyQueries(None, 0, 1, [add]), len(text))
        else:
            key = (message["type"], message["requestId"])
            self._session.receive(RunMutation(key, message["udfPath"], args, message["requestId"]), len(text))

    def emit(self, event: Event) -> None:
        match event:
            case Accepted():
                pass
            case Done(correlation=(kind, request_id)):
                self._send({"type": f"{kind}Response", "requestId": request_id, "result": json.loads(event.value)})
            case StateTransition():
                values = [[change.query_id, self._value(change)] for change in event.changes]
                pieces = [json.dumps({"type": "Transition", "values": values}).encode()]
                self._outlet.send_transition(pieces, None)
            case Fatal(error=error):
                self._outlet.fail(error)
            case _:
                raise NotImplementedError(event)

    def _value(self, change: Any) -> Any:
        assert isinstance(change, FullValue)
        text = change.result.fragments.setdefault("terse value", change.result.body().json())
        return json.loads(text)

    def _send(self, message: dict[str, Any]) -> None:
        self._outlet.send(json.dumps(message).encode())

    def ping(self) -> bytes:
        return b'{"type":"Ping"}'

    def farewell(self, error: TinyvexError) -> Farewell:
        return Farewell(b"", None, "")


def test_clients_of_two_dialects_see_each_others_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in its own messages; at the end, the farewell of the second is a close frame without a code."""
    monkeypatch.setitem(DIALECTS, b"/api/sync", lambda: TerseDialect)

    async def main() -> None:
        runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
        async with Server(ServerOptions(app=SHELF, data=tmp_path / "data", port=4800), runtime) as server:
            first = await RawClient.open(server.url, runtime)
            await first.answer(first.connect())
            add = {"type": "Add", "queryId": 0, "udfPath": "shelf:titles", "args": {}}
            await first.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=[add])
            second = await RawClient.open(f"{server.url.rstrip('/')}/api", runtime)
            second.send_text('{"type":"Connect","sessionId":"another-session-of-another-client"}')
            second.send_text('{"type":"Add","queryId":3,"udfPath":"shelf:titles","args":[{}]}')
            await second.message(lambda message: message.get("values") == [[3, []]])
            assert "result" in await first.ask("mutation", udfPath="shelf:add", args={"title": "Emma"}, requestId=0)
            await second.message(lambda message: message.get("values") == [[3, ["Emma"]]])
            add_another = {
                "type": "Mutation",
                "requestId": 0,
                "udfPath": "shelf:add",
                "args": [{"title": "Lady Susan"}],
            }
            second.send_text(json.dumps(add_another))
            await second.message(lambda message: message.get("values") == [[3, ["Emma", "Lady Susan"]]])
            answer, transition = second.messages[-2:]
            assert (answer["type"], transition["type"]) == ("MutationResponse", "Transition")
            await first.message(lambda message: "Lady Susan" in str(message))
            server.request_stop()
            assert await second.end() == 1005

    run_virtual(main())
