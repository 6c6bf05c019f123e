"""A server of the ledger in virtual time, and a client that posts and audits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.support import ledger
from tests.support.loop import run_virtual
from tests.support.network import Network
from tests.support.raw import RawClient
from tests.support.world import WorldRuntime
from tinyvex.server.server import Server, ServerOptions

SEED = 20_261_121

Scenario = Callable[[Server, RawClient], Awaitable[Any]]


def serve(folder: Path, scenario: Scenario) -> Any:
    """Run a scenario with a connected client against a server on a folder, in virtual time."""

    async def main() -> Any:
        runtime = WorldRuntime(Network(random.Random(SEED)), random.Random(SEED))
        async with Server(ServerOptions(app=Path(ledger.__file__), data=folder, port=4800), runtime) as server:
            client = await RawClient.open(server.url, runtime)
            assert "result" in await client.answer(client.connect())
            return await scenario(server, client)

    return run_virtual(main())


def make(folder: Path) -> None:
    """Create an empty database; the rename of a new database into place is tested elsewhere."""

    async def nothing(server: Server, client: RawClient) -> None:
        pass

    serve(folder, nothing)


def post(client: RawClient, number: int) -> int:
    """Send one posting; its number is its request id."""
    return client.send("mutation", requestId=number, udfPath="ledger:post", args={"number": number})


async def audit(client: RawClient) -> Counter[int]:
    """Return the number of halves of each posting, after checking the total."""
    answer = await client.ask("query", udfPath="ledger:audit", args={})
    assert "result" in answer, answer
    return audited(answer["result"]["value"])


def audited(audit_result: dict[str, Any]) -> Counter[int]:
    """Check and count the halves in the result of the function `audit`."""
    halves = [tuple(half) for half in audit_result["halves"]]
    assert len(set(halves)) == len(halves), "a posting happened twice"
    assert audit_result["count"] * 2 == len(halves)
    return Counter(number for number, _ in halves)
