"""Requests become commands that do not hold the message they came in."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tinyvex.dialects.tinyvex.decoding import to_command, to_open_session
from tinyvex.sync import commands
from tinyvex.wire import codec, messages

COMMANDS: dict[str, tuple[dict[str, Any], Any]] = {
    "mutation": (
        {"requestId": 4, "udfPath": "a:b", "args": {"a": 1}},
        commands.RunMutation(7, "a:b", b'{"a":1}', 4),
    ),
    "action": ({"requestId": 4, "udfPath": "a:b", "args": {}}, commands.RunAction(7, "a:b", b"{}", 4)),
    "query": ({"udfPath": "a:b", "args": {}, "ts": 9}, commands.RunQuery(7, "a:b", b"{}", 9)),
    "ping": ({}, commands.ReadClock(7)),
    "authenticate": (
        {"baseVersion": 1, "kind": "admin", "token": "secret", "actingAs": {"subject": "ada"}},
        commands.SetIdentity(7, 1, "admin", "secret", {"subject": "ada"}),
    ),
    "modifyQuerySet": (
        {
            "baseVersion": 0,
            "newVersion": 1,
            "modifications": [
                {"type": "Add", "queryId": 3, "udfPath": "a:b", "args": {}, "resume": {"ts": 5, "hash": "h"}},
                {"type": "Remove", "queryId": 2},
            ],
        },
        commands.ModifyQueries(
            7, 0, 1, [commands.AddQuery(3, "a:b", b"{}", commands.ResumeOffer(5, "h")), commands.RemoveQuery(2)]
        ),
    ),
}


def request(method: str, params: dict[str, Any]) -> messages.ClientRequest:
    message = {"jsonrpc": "2.0", "id": 7, "method": f"tinyvex/{method}", "params": params}
    return codec.decode_request(msgspec.json.encode(message))


@pytest.mark.parametrize("method", COMMANDS)
def test_each_request_has_its_command(method: str) -> None:
    """With the JSON-RPC id as its correlation."""
    params, command = COMMANDS[method]
    assert to_command(request(method, params)) == command


def test_every_request_but_connect_has_a_case() -> None:
    """A method that is added to the protocol needs a line above."""
    assert COMMANDS.keys() == {method.removeprefix("tinyvex/") for method in codec._METHODS} - {"connect"}


@pytest.mark.parametrize("method", ["mutation", "action", "query"])
def test_a_call_copies_its_arguments(method: str) -> None:
    """`Raw` would hold the whole message."""
    command: Any = to_command(request(method, COMMANDS[method][0]))
    assert type(command.args) is bytes


def test_a_subscription_copies_its_arguments() -> None:
    """`Raw` would hold the whole message."""
    command: Any = to_command(request("modifyQuerySet", COMMANDS["modifyQuerySet"][0]))
    assert type(command.modifications[0].args) is bytes


def test_connect_opens_a_session() -> None:
    """The core learns of the capabilities only whether the client takes patches."""
    connect = request("connect", {"protocolVersion": 1, "sessionId": "session-1", "capabilities": ["patch", "x"]})
    assert isinstance(connect, messages.Connect)
    assert to_command(connect) is None
    assert to_open_session(connect.params) == commands.OpenSession("session-1", takes_patches=True)
