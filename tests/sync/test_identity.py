"""The identity of a connection: signing in, renewing, expiring; on a server in virtual time, message by message."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.raw import RawClient
from tests.support.tokens import OTHER_SECRET, claims, secret_options, signed
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.errors import Unauthenticated
from tinyvex.server.server import Server, ServerOptions
from tinyvex.sync.identity import UserIdentity

APP = """
import tinyvex as tv
notes = tv.table("notes")

@tv.query
def me(ctx: tv.QueryCtx) -> str | None:
    return None if ctx.auth is None else ctx.auth["subject"]

@tv.query
def age(ctx: tv.QueryCtx) -> tv.Int64:
    return ctx.auth["age"]

@tv.query
def becoming_admin(ctx: tv.QueryCtx) -> str:
    ctx.auth["subject"] = "root"
    ctx.auth["groups"].append("admins")
    return ctx.auth["subject"]

@tv.query
def groups(ctx: tv.QueryCtx) -> list[str]:
    return ctx.auth["groups"]

@tv.query
def plain(ctx: tv.QueryCtx) -> int:
    return 1

@tv.mutation
def write(ctx: tv.MutationCtx) -> str | None:
    ctx.db.insert("notes", {})
    return None if ctx.auth is None else ctx.auth["subject"]
"""

Scenario = Callable[[Server, WorldRuntime], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Runs a scenario against a server on a virtual loop that takes tokens signed with SECRET."""

    def play_scenario(scenario: Scenario, **options: Any) -> None:
        app = tmp_path / "app.py"
        app.write_text(APP, "utf-8")
        options = {"auth": secret_options(tmp_path)} | options

        async def main() -> None:
            runtime = WorldRuntime(Network(random.Random(1)), random.Random(2))
            async with Server(ServerOptions(app=app, data=tmp_path / "data", port=4800, **options), runtime) as server:
                await scenario(server, runtime)

        run_virtual(main())

    return play_scenario


async def watching(server: Server, runtime: WorldRuntime, session: str = "session-of-a-test") -> RawClient:
    """A client that watches `me` as query 0 and `plain` as query 1."""
    client = await RawClient.open(server.url, runtime)
    assert "result" in await client.ask("connect", protocolVersion=1, sessionId=session)
    adds = [
        {"type": "Add", "queryId": index, "udfPath": f"app:{name}", "args": {}}
        for index, name in enumerate(["me", "plain"])
    ]
    await client.ask("modifyQuerySet", baseVersion=0, newVersion=1, modifications=adds)
    await client.notification("transition")
    return client


async def sign_in(client: RawClient, token: str, base: int = 0) -> dict[str, Any]:
    return await client.ask("authenticate", baseVersion=base, kind="user", token=token)


async def transition_to(client: RawClient, identity: int) -> dict[str, Any]:
    """The transition that reached an identity version: results by query id."""

    def wanted(message: dict[str, Any]) -> bool:
        return (
            message.get("method") == "tinyvex/transition"
            and message["params"]["startVersion"]["identity"] < identity
            and message["params"]["endVersion"]["identity"] >= identity
        )

    params = (await client.message(wanted))["params"]
    return {change["queryId"]: change.get("value") for change in params["modifications"]}


def auth_errors(client: RawClient) -> list[dict[str, Any]]:
    return [message["params"] for message in client.messages if message.get("method") == "tinyvex/authError"]


def checked_by_hand(server: Server) -> list[Callable[[Any], None]]:
    """Let the test decide about tokens; return the list of callbacks, one per token that waits for its decision."""
    waiting: list[Any] = []
    identity = server.sessions.connections[1].session.identity
    identity._credentials = identity._credentials._replace(check_user=lambda _token, done: waiting.append(done))
    return waiting


def test_a_user_signs_in(play: Callable[..., None]) -> None:
    """S-83: the answer is `{}`, and a transition follows with the queries that read the identity, and no others."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        assert (await sign_in(client, signed(claims(runtime.now_us()))))["result"] == {}
        assert await transition_to(client, 1) == {0: "ada"}

    play(scenario)


def test_functions_are_called_by_the_user(play: Callable[..., None]) -> None:
    """S-83: calls after signing in run under the user's identity."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        client.send("authenticate", baseVersion=0, kind="user", token=signed(claims(runtime.now_us())))
        answer = await client.ask("mutation", requestId=0, udfPath="app:write", args={})
        assert answer["result"]["value"] == "ada"

    play(scenario)


def test_a_user_is_not_an_administrator(play: Callable[..., None]) -> None:
    """S-83: an administrator who signs in as a user can no longer call internal functions."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        await client.ask("authenticate", baseVersion=0, kind="admin", token=server.admin_token)
        assert server.sessions.connections[1].session.identity.is_admin
        await sign_in(client, signed(claims(runtime.now_us())), 1)
        assert not server.sessions.connections[1].session.identity.is_admin

    play(scenario)


def test_a_refused_token_changes_nothing(play: Callable[..., None]) -> None:
    """S-84: the answer and `tinyvex/authError` carry the reason; identity, version and connection stay."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        await sign_in(client, signed(claims(runtime.now_us())))
        refused = await sign_in(client, signed(claims(runtime.now_us(), subject="eve"), OTHER_SECRET), 1)
        assert refused["error"]["data"]["name"] == "Unauthenticated"
        expected = {"error": refused["error"], "baseVersion": 1, "authUpdateAttempted": True}
        await client.notification("authError")
        assert auth_errors(client) == [expected]
        answer = await client.ask("query", udfPath="app:me", args={})
        assert answer["result"]["value"] == "ada"
        assert "result" in await client.ask("authenticate", baseVersion=1, kind="none")

    play(scenario)


def test_a_server_without_keys_reports_the_missing_options(play: Callable[..., None]) -> None:
    """S-84: the answer names the options that a server needs for users to sign in."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        refused = await sign_in(client, signed(claims(runtime.now_us())))
        assert "--auth-jwks" in refused["error"]["message"]

    play(scenario, auth=None)


def test_a_huge_token_is_refused(play: Callable[..., None]) -> None:
    """S-5: a token longer than 8192 characters does not fit the schema."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        refused = await sign_in(client, "x" * 8193)
        assert refused["error"]["data"]["name"] == "InvalidParams"
        assert (await sign_in(client, signed(claims(runtime.now_us()))))["result"] == {}

    play(scenario)


def test_a_token_expires_while_connected(play: Callable[..., None]) -> None:
    """S-85: the connection becomes anonymous, reports it by an authError and a transition, and stays open."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        began_us = runtime.now_us()
        await sign_in(client, signed(claims(began_us, lasts=3600)))
        while not auth_errors(client):
            assert runtime.now_us() < began_us + int((3602 + limits.AUTH_LEEWAY_SECONDS) * 1e6), "it should have ended"
            await asyncio.sleep(0.5)
        assert runtime.now_us() >= began_us + int((3599 + limits.AUTH_LEEWAY_SECONDS) * 1e6), "too early"
        (expected,) = auth_errors(client)
        assert (expected["baseVersion"], expected["authUpdateAttempted"]) == (2, False)
        assert expected["error"]["data"]["name"] == "Unauthenticated"
        assert await transition_to(client, 2) == {0: None}
        assert (await sign_in(client, signed(claims(runtime.now_us())), 2))["result"] == {}
        assert await transition_to(client, 3) == {0: "ada"}

    play(scenario)


def test_no_call_runs_under_an_expired_token(play: Callable[..., None]) -> None:
    """S-85: a mutation that arrives after the expiry runs anonymously, even if the timer is late."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        await sign_in(client, signed(claims(runtime.now_us(), lasts=60)))
        later_us = runtime.now_us() + 120_000_000
        runtime.now_us = lambda: later_us  # type: ignore[method-assign] # the machine slept
        answer = await client.ask("mutation", requestId=0, udfPath="app:write", args={})
        assert answer["result"]["value"] is None

    play(scenario)


def test_setting_the_wall_clock_moves_the_expiry(play: Callable[..., None]) -> None:
    """S-85: the expiry is a time of the wall clock, which is read every AUTH_CLOCK_SECONDS."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        await sign_in(client, signed(claims(runtime.now_us(), lasts=86400)))
        later_us = runtime.now_us() + 2 * 86400_000_000
        runtime.now_us = lambda: later_us  # type: ignore[method-assign]
        await asyncio.sleep(limits.AUTH_CLOCK_SECONDS + 1)
        assert len(auth_errors(client)) == 1

    play(scenario)


def test_a_renewed_token_continues_the_session(play: Callable[..., None]) -> None:
    """S-86: the session accepts another token of the same subject, and the first token's expiry has no effect."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        await sign_in(client, signed(claims(runtime.now_us(), lasts=60)))
        await asyncio.sleep(30)
        assert (await sign_in(client, signed(claims(runtime.now_us(), lasts=60, name="Ada L.")), 1))["result"] == {}
        await asyncio.sleep(55)
        assert auth_errors(client) == []
        await asyncio.sleep(30)
        assert len(auth_errors(client)) == 1

    play(scenario)


def test_a_session_belongs_to_one_subject(play: Callable[..., None]) -> None:
    """S-86: another subject, or the same one of another issuer, needs a session of its own."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        now_us = runtime.now_us()
        await sign_in(client, signed(claims(now_us)))
        for other in (claims(now_us, subject="bob"), claims(now_us, iss="https://else.test")):
            refused = await sign_in(client, signed(other), 1)
            assert refused["error"]["data"]["name"] == "SessionIdentity"
        assert (await client.ask("query", udfPath="app:me", args={}))["result"]["value"] == "ada"

    play(scenario)


def test_a_mutation_is_resent_with_a_renewed_token(play: Callable[..., None]) -> None:
    """S-86: exactly-once records belong to the subject, whatever its token was."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        await sign_in(client, signed(claims(runtime.now_us())))
        first = await client.ask("mutation", requestId=0, udfPath="app:write", args={})
        client.cut()
        await asyncio.sleep(5)
        again = await watching(server, runtime)
        await sign_in(again, signed(claims(runtime.now_us())))
        assert (await again.ask("mutation", requestId=0, udfPath="app:write", args={}))["result"] == first["result"]

    play(scenario)


def test_no_other_user_gets_the_answer_of_a_mutation(play: Callable[..., None]) -> None:
    """S-86: with the same session and request id, another subject is refused."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        await sign_in(client, signed(claims(runtime.now_us())))
        await client.ask("mutation", requestId=0, udfPath="app:write", args={})
        thief = await watching(server, runtime)
        await sign_in(thief, signed(claims(runtime.now_us(), subject="eve")))
        answer = await thief.ask("mutation", requestId=0, udfPath="app:write", args={})
        assert answer["error"]["data"]["name"] == "RequestIdReused"

    play(scenario)


def test_a_renewal_may_cross_the_expiry(play: Callable[..., None]) -> None:
    """S-87: the server accepts a token that was sent before the client could learn of the expiry."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        await sign_in(client, signed(claims(runtime.now_us(), lasts=60)))
        await asyncio.sleep(61 + limits.AUTH_LEEWAY_SECONDS)
        assert (await sign_in(client, signed(claims(runtime.now_us())), 1))["result"] == {}
        assert await transition_to(client, 3) == {0: "ada"}
        assert (await sign_in(client, signed(claims(runtime.now_us())), 3))["result"] == {}
        client.send("authenticate", baseVersion=1, kind="none")
        assert (await client.notification("fatalError"))["params"]["error"]["data"]["name"] == "BaseVersionMismatch"

    play(scenario)


def test_only_one_renewal_may_cross_the_expiry(play: Callable[..., None]) -> None:
    """S-87: once the client has the version of its renewal, the one before the expiry continues nothing."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        await sign_in(client, signed(claims(runtime.now_us(), lasts=60)))
        await asyncio.sleep(61 + limits.AUTH_LEEWAY_SECONDS)
        assert (await sign_in(client, signed(claims(runtime.now_us())), 1))["result"] == {}
        client.send("authenticate", baseVersion=1, kind="none")
        async with asyncio.timeout(10):
            fatal = await client.notification("fatalError")
        assert fatal["params"]["error"]["data"]["name"] == "BaseVersionMismatch"

    play(scenario)


def test_messages_wait_while_keys_are_fetched(play: Callable[..., None]) -> None:
    """
    S-83: messages that arrive while a token is checked run afterwards, in order, under the identity that it names.
    """

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        waiting = checked_by_hand(server)
        sign_in_id = client.send("authenticate", baseVersion=0, kind="user", token="x")
        write_id = client.send("mutation", requestId=0, udfPath="app:write", args={})
        ping_id = client.send("ping")
        none_id = client.send("authenticate", baseVersion=1, kind="none")
        await asyncio.sleep(1)
        asked = {sign_in_id, write_id, ping_id, none_id}
        assert not [message for message in client.messages if message.get("id") in asked]
        waiting[0](UserIdentity({"subject": "ada", "issuer": None}, runtime.now_us() + 10**9))
        assert (await client.answer(write_id))["result"]["value"] == "ada"
        assert (await client.answer(none_id))["result"] == {}
        answered = [message["id"] for message in client.messages if message.get("id") in asked]
        assert answered.index(sign_in_id) < answered.index(ping_id) < answered.index(none_id)

    play(scenario)


def test_messages_behind_a_refused_token_run_under_the_former_identity(play: Callable[..., None]) -> None:
    """S-84: a refusal changes no identity, and the messages that waited for it are executed, in order."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        await sign_in(client, signed(claims(runtime.now_us())))
        waiting = checked_by_hand(server)
        refused_id = client.send("authenticate", baseVersion=1, kind="user", token="x")
        write_id = client.send("mutation", requestId=0, udfPath="app:write", args={})
        ping_id = client.send("ping")
        await asyncio.sleep(1)
        waiting[0](Unauthenticated("the token is wrong"))
        async with asyncio.timeout(10):
            assert (await client.answer(refused_id))["error"]["data"]["name"] == "Unauthenticated"
            assert (await client.answer(write_id))["result"]["value"] == "ada"
            assert "result" in await client.answer(ping_id)

    play(scenario)


def test_messages_behind_two_tokens_wait_for_the_second(play: Callable[..., None]) -> None:
    """S-83: a token among the messages that waited is checked in its turn, and those behind it wait for that."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        waiting = checked_by_hand(server)
        client.send("authenticate", baseVersion=0, kind="user", token="x")
        client.send("authenticate", baseVersion=0, kind="user", token="y")
        write_id = client.send("mutation", requestId=0, udfPath="app:write", args={})
        await asyncio.sleep(1)
        waiting[0](Unauthenticated("the token is wrong"))
        await asyncio.sleep(1)
        assert not [message for message in client.messages if message.get("id") == write_id]
        waiting[1](UserIdentity({"subject": "ada", "issuer": None}, runtime.now_us() + 10**9))
        assert (await client.answer(write_id))["result"]["value"] == "ada"

    play(scenario)


def test_each_token_has_the_whole_bound_behind_it(play: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that waited for an earlier token do not count behind a later one."""
    monkeypatch.setattr(limits, "MESSAGE_BYTES_MAX", 10_000)

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        waiting = checked_by_hand(server)
        for number in range(3):
            client.send("authenticate", baseVersion=0, kind="user", token="x")
            query_id = client.send("query", udfPath="app:plain", args={"ignored": "x" * 6_000})
            await asyncio.sleep(1)
            waiting[number](Unauthenticated("the token is wrong"))
            assert "error" in await client.answer(query_id)
        assert client.is_open

    play(scenario)


def test_many_bytes_behind_a_token_end_the_connection(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue behind a token is bounded by MESSAGE_BYTES_MAX too, over all its messages."""
    monkeypatch.setattr(limits, "MESSAGE_BYTES_MAX", 10_000)

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        checked_by_hand(server)
        client.send("authenticate", baseVersion=0, kind="user", token="x")
        for _ in range(2):
            client.send("query", udfPath="app:plain", args={"ignored": "x" * 6_000})
        async with asyncio.timeout(10):
            assert await client.end() == 1013

    play(scenario)


def test_a_token_that_is_checked_after_the_end_changes_nothing(play: Callable[..., None]) -> None:
    """The client is gone: neither its identity nor a timer is set, and nothing that waited is executed."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        identity = server.sessions.connections[1].session.identity
        waiting = checked_by_hand(server)
        client.send("authenticate", baseVersion=0, kind="user", token="x")
        client.send("mutation", requestId=0, udfPath="app:write", args={})
        await asyncio.sleep(1)
        client.cut()
        await asyncio.sleep(1)
        waiting[0](UserIdentity({"subject": "ada", "issuer": None}, runtime.now_us() + 10**9))
        assert identity.claims is None
        assert identity._timer is None

    play(scenario)


def test_too_many_messages_behind_a_token_end_the_connection(play: Callable[..., None]) -> None:
    """The queue behind a token is bounded; above the bound the connection ends with `Overloaded`."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        checked_by_hand(server)
        client.send("authenticate", baseVersion=0, kind="user", token="x")
        for _ in range(limits.AUTH_QUEUED_MESSAGES_MAX + 1):
            client.send("ping")
        assert await client.end() == 1013

    play(scenario)


def test_a_closed_connection_has_no_timer(play: Callable[..., None]) -> None:
    """The expiry timer is cancelled with the socket."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        await sign_in(client, signed(claims(runtime.now_us(), lasts=60)))
        speaker = server.sessions.connections[1].session.identity
        client.cut()
        await asyncio.sleep(1)
        assert speaker._timer is None

    play(scenario)


def test_an_administrator_acts_as_a_user(play: Callable[..., None]) -> None:
    """S-53: functions see the claims as values, and internal functions can be called."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        claims_to_act_with = {"subject": "ada", "age": {"$integer": "BwAAAAAAAAA="}}
        acting = {"kind": "admin", "token": server.admin_token, "actingAs": claims_to_act_with}
        assert (await client.ask("authenticate", baseVersion=0, **acting))["result"] == {}
        assert await transition_to(client, 1) == {0: "ada"}
        assert (await client.ask("query", udfPath="app:age", args={}))["result"]["value"] == claims_to_act_with["age"]
        assert "result" in await client.ask("query", udfPath="_system:tables", args={})

    play(scenario)


@pytest.mark.parametrize("wrong", [{"subject": "ada", "$no": 1}, {"$bytes": ""}, {"$integer": "BwAAAAAAAAA="}])
def test_claims_that_are_not_values_are_refused(play: Callable[..., None], wrong: dict[str, Any]) -> None:
    """S-54: the answer is `InvalidValue`, also for an object that encodes another value; the connection stays open."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        acting = {"kind": "admin", "token": server.admin_token, "actingAs": wrong}
        refused = await client.ask("authenticate", baseVersion=0, **acting)
        assert refused["error"]["data"]["name"] == "InvalidValue"
        await client.notification("authError")
        assert (await client.ask("query", udfPath="app:me", args={}))["result"]["value"] is None
        assert "result" in await client.ask("authenticate", baseVersion=0, kind="none")

    play(scenario)


def test_no_other_client_acts_as_a_user(play: Callable[..., None]) -> None:
    """S-54: without the admin token, a connection cannot choose its identity."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        eve = {"subject": "eve"}
        for token in ("", "a guess", signed(claims(runtime.now_us()))):
            refused = await client.ask("authenticate", baseVersion=0, kind="admin", token=token, actingAs=eve)
            assert refused["error"]["data"]["name"] == "Unauthenticated"
        user = {"kind": "user", "token": signed(claims(runtime.now_us())), "actingAs": eve}
        assert "result" in await client.ask("authenticate", baseVersion=0, **user)
        assert await transition_to(client, 1) == {0: "ada"}

    play(scenario)


def test_a_function_cannot_change_the_claims_of_others(play: Callable[..., None]) -> None:
    """The next call and the live queries still run under the identity that the token names."""

    async def scenario(server: Server, runtime: WorldRuntime) -> None:
        client = await watching(server, runtime)
        token = signed(claims(runtime.now_us(), groups=["readers"]))
        assert "result" in await client.ask("authenticate", baseVersion=0, kind="user", token=token)
        assert await transition_to(client, 1) == {0: "ada"}
        changed = await client.ask("query", udfPath="app:becoming_admin", args={})
        assert changed["result"]["value"] == "root"
        for path, expected in (("app:me", "ada"), ("app:groups", ["readers"])):
            assert (await client.ask("query", udfPath=path, args={}))["result"]["value"] == expected

    play(scenario)
