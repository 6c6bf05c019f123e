"""
A seeded world: one server process that can be killed, several clients, and checkers after every transition.

Everything runs the product's own code: server, sync, functions, storage on a real file, client.
Only time, threads and the network are simulated.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from msgspec.structs import asdict

from tests.support.administrator import try_import
from tests.support.board import Board
from tests.support.checkers import Checkers
from tests.support.loop import VirtualLoop
from tests.support.network import Network
from tests.support.raw import RawClient
from tests.support.simulated_server import PORT, SimulatedServer
from tests.support.tokens import secret_options
from tests.support.users import SUBJECTS, Issuer
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.client.client import Client
from tinyvex.client.websocket_transport import WebSocketTransport
from tinyvex.errors import (
    CallTimeout,
    ClientClosed,
    ConnectionLost,
    RemoteError,
    SessionIdentity,
    TinyvexError,
    Unauthenticated,
)
from tinyvex.server.server import ServerOptions
from tinyvex.storage.maintenance.retention_policy import Policy

CLIENTS = 3
REPEATED_MAX = 10
"""Acknowledged mutations of a client that are sent again at the end of a world."""
QUERIES_MAX = 5
CONVERGE_SECONDS = 600.0
CRASH_POINTS = ("writer:before-commit", "writer:after-commit")
CHUNK_BYTES = {4: 1, 32: 3, 300: 4, 4000: 4, limits.CHUNK_BYTES: 4}
"""With how often each is chosen: parts of a few bytes take long."""
RESULT_CACHE_BYTES_MAX = (0, 20_000, limits.RESULT_CACHE_BYTES_MAX)
LEEWAY_SECONDS = (0.0, limits.AUTH_LEEWAY_SECONDS)
BUFFER_BYTES = (1 << 10, 8 << 10, 64 << 10)
STALL_SECONDS = 3.0
CLOCK_STEPS_SECONDS = (-86_400, -30, -1, 1, 30, 86_400)
TURNS_UNTIL_KILL_MAX = 20_000
SIGN_IN_SECONDS = 60
RETENTION_SECONDS = (limits.RETENTION_SECONDS_MIN, limits.RETENTION_SECONDS)

_REFUSED = (SessionIdentity, Unauthenticated)
"""The client's own errors of a call whose user cannot sign in."""

log = logging.getLogger("tests.world")


@dataclass
class Cluster:
    """A seeded world."""

    seed: int
    folder: Path
    steps: int = 60
    trace: list[str] = field(default_factory=list)
    """The events, in order; the same for the same seed."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.network = Network(random.Random(self.random.getrandbits(64)))
        self.network.buffer_bytes = self.random.choice(BUFFER_BYTES)
        self.board = Board(random.Random(self.random.getrandbits(64)))
        self.app = self.folder / "board.py"
        self.app.write_text(self.board.source(), "utf-8")
        self.data = self.folder / "data"
        (chunk_bytes,) = self.random.choices(list(CHUNK_BYTES), list(CHUNK_BYTES.values()))
        retention = Policy(self.random.choice(RETENTION_SECONDS))
        self.has_users = self.random.random() < 0.6
        auth = secret_options(self.folder) if self.has_users else None
        self.options = ServerOptions(
            app=self.app, data=self.data, port=PORT, chunk_bytes=chunk_bytes, retention=retention, auth=auth
        )
        # Not in worlds with tokens, whose validity would become ambiguous.
        self.steps_clock = not self.has_users and self.random.random() < 0.6
        self.stepped_us = 0
        self.limits = {
            "RESULT_CACHE_BYTES_MAX": self.random.choice(RESULT_CACHE_BYTES_MAX),
            "AUTH_LEEWAY_SECONDS": self.random.choice(LEEWAY_SECONDS),
            "AUTH_RENEW_SECONDS_MIN": 0.05,
        }
        """Limits that replace the product's, because a world lasts only a few seconds."""
        self.is_trusting = self.random.random() < 0.3
        """Clients try tokens of any subject."""
        self.issuer = Issuer(WorldRuntime(self.network, self.random))
        self.has_imports = self.random.random() < 0.4
        self.checkers = Checkers(self.seed, self.data, self.board, self.issuer, self.note)
        self.counted: Counter[str] = Counter()
        """Counters of all server processes and clients."""
        self.server: SimulatedServer
        self.ids: list[str] = []
        self.kills = 0
        self.cuts = 0
        self.stalls = 0
        self.vanished = 0
        self.clock_steps = 0
        self.crashed_clients = 0
        self._crashing = [anyio.Event() for _ in range(CLIENTS)]
        self._faults_over = False
        self.acts = 0
        # Slow worlds have long histories of faults; in fast ones every computation is overtaken by commits.
        self.pace_seconds = self.random.choice((0.3, 0.3, 0.01))
        self.fault_pause_seconds = self.pace_seconds * 5 / 3
        self._processes: list[asyncio.Task[None]] = []
        self._converged = 0
        self._failures: list[BaseException] = []
        self._scope: anyio.CancelScope | None = None

    def _fail(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End the world because a callback, such as a checker, raised."""
        error = context.get("exception") or AssertionError(context["message"])
        self._failures.append(error)
        if self._scope is not None:
            self._scope.cancel()

    async def run(self) -> None:
        """Run with faults, then converge without them."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._fail)
        self.issuer.runtime.bind(loop)
        async with anyio.create_task_group() as tasks:
            self._scope = tasks.cancel_scope
            tasks.start_soon(self._supervise)
            faults_over = anyio.Event()
            if self.has_imports:
                tasks.start_soon(self._administrate, random.Random(self.random.getrandbits(64)), faults_over)
            async with anyio.create_task_group() as clients:
                for number in range(CLIENTS):
                    source = random.Random(self.random.getrandbits(64))
                    clients.start_soon(self._client, number, source, faults_over)
                await self._faults()
                self.note("faults are over")
                faults_over.set()
                clients.start_soon(self._deadline)
                while self._converged < CLIENTS:
                    await asyncio.sleep(0.1)
                clients.cancel_scope.cancel()
            tasks.cancel_scope.cancel()
        if self._failures:
            raise self._failures[0]
        self.server.count()
        await self.server.server.stop()
        self.checkers.check_file()

    async def _deadline(self) -> None:
        """Fail if the clients have not converged in time."""
        await asyncio.sleep(CONVERGE_SECONDS)
        raise AssertionError(f"seed {self.seed}: no convergence after {CONVERGE_SECONDS} quiet seconds")

    def note(self, text: str) -> None:
        """Add to the trace."""
        self.trace.append(f"{asyncio.get_running_loop().time():.6f} {text}")

    # The server and its faults.

    async def _supervise(self) -> None:
        """Start the server, and restart it a while after it died."""
        while True:
            self.server = SimulatedServer(self.network, self.random, self.options, self.counted)
            self.server.runtime.stepped_us = self.stepped_us
            if self.random.random() < 0.5:
                point = self.random.choice(CRASH_POINTS)
                self.server.runtime.crash_points[point] = self.random.randint(2, 20)
            if self.random.random() < 0.5 and not self._faults_over:
                loop = asyncio.get_running_loop()
                assert isinstance(loop, VirtualLoop)
                loop.in_turns(self.random.randint(1, TURNS_UNTIL_KILL_MAX), self._kill_unless_over)
            # Not awaited: a process that dies leaves nothing to wait for.
            process = asyncio.get_running_loop().create_task(self.server.run())
            self._processes.append(process)
            await self.server.died.wait()
            self.kills += 1
            self.note("the server died")
            await asyncio.sleep(self.random.random() * 2)

    def _kill_unless_over(self) -> None:
        """Kill the server at a turn of the loop that the seed chose, even before it serves."""
        if not self._faults_over:
            self.server.kill()

    async def _faults(self) -> None:
        for _ in range(self.steps):
            await asyncio.sleep(self.random.random() * self.fault_pause_seconds)
            dice = self.random.random()
            if dice < 0.1:
                self.cuts += 1
                self.network.cut_any()
            elif dice < 0.14:
                self.server.kill()
            elif dice < 0.3:
                self.stalls += self.network.stall(WebSocketTransport, self.random.random() * STALL_SECONDS)
            elif dice < 0.36:
                self.vanished += self.network.vanish(
                    WebSocketTransport
                )  # it connects again, while its old socket seems open
            elif dice < 0.4:
                self._crashing[self.random.randrange(CLIENTS)].set()
            elif dice < 0.55 and self.steps_clock:
                self._step_clock()
        self._faults_over = True
        self.server.runtime.crash_points.clear()

    def _step_clock(self) -> None:
        """Set the machine's wall clock forwards or backwards; the model has seen everything that expires by it."""
        self.checkers.catch_up()
        self.clock_steps += 1
        self.stepped_us += self.random.choice(CLOCK_STEPS_SECONDS) * 1_000_000
        self.server.runtime.stepped_us = self.stepped_us
        self.note(f"the clock is {self.stepped_us} us ahead")

    # Clients.

    async def _client(self, number: int, source: random.Random, faults_over: anyio.Event) -> None:
        """Run one user, who starts another client whenever the client's process crashes."""
        life = 0
        while not await self._live(f"{number}-{life}", number, source, faults_over):
            self.crashed_clients += 1
            self.note(f"client {number} crashed")
            life += 1
        self._converged += 1

    async def _live(self, name: str, number: int, source: random.Random, faults_over: anyio.Event) -> bool:
        """Run one client from start to convergence; return False if it crashed."""
        runtime = WorldRuntime(self.network, source)
        runtime.bind(asyncio.get_running_loop())
        crashing = self._crashing[number] = anyio.Event()
        auth = self.issuer.source(source, source.choice(SUBJECTS)) if self.has_users else None
        async with Client(f"ws://127.0.0.1:{PORT}", None, runtime, auth=auth) as client:
            witness = self.checkers.watch(client, number)
            held: list[Any] = []
            async with anyio.create_task_group() as calls:
                count = 0
                while not faults_over.is_set() or count < 3:
                    await asyncio.sleep(source.random() * self.pace_seconds)
                    if crashing.is_set() and not faults_over.is_set():
                        self._vanish(client)
                        return False
                    count += 1
                    if self.has_users and source.random() < 0.15:
                        self._change_user(client, source, auth)
                    self._act(client, name, count, source, held, calls)
                if self.has_users:
                    await self._sign_in(client, source)
            # Everything was answered; one more transition leads all clients to the newest state.
            while not await self._mutate_nothing(client):
                if self.has_users:
                    await self._sign_in(client, source)
            self.checkers.check_client(client._session, number, witness)
            self.counted.update(asdict(client.counters))
        await self._ask_again(client._session.session_id, witness.calls, source)
        return True

    async def _ask_again(self, session_id: str, calls: dict[int, dict[str, Any]], source: random.Random) -> None:
        """Send mutations that a client has acknowledged once more: each is refused, and none runs."""
        runtime = WorldRuntime(self.network, source)
        runtime.bind(asyncio.get_running_loop())
        acknowledged = sorted(calls)[:-1]
        client: RawClient | None = None
        for number in source.sample(acknowledged, min(len(acknowledged), REPEATED_MAX)):
            answer: dict[str, Any] | None = None
            while answer is None:
                if client is None or client.ended:  # the server may still die
                    client = await self._raw_client(session_id, runtime)
                request = client.send("mutation", **{**calls[number], "acknowledgedBelow": 0})
                answer = await client.answer_unless_ended(request)
            assert answer["error"]["data"]["name"] == "RequestAcknowledged", answer
            self.counted["acknowledged_refused"] += 1
        if client is not None:
            client.cut()
        self.checkers.finished.append(session_id)

    async def _raw_client(self, session_id: str, runtime: WorldRuntime) -> RawClient:
        """Connect to a session, as soon as a server answers."""
        while True:
            with contextlib.suppress(OSError):
                client = await RawClient.open(f"ws://127.0.0.1:{PORT}", runtime)
                # It may have been cut, or refused, during the handshake.
                if (
                    client.is_open
                    and await client.answer_unless_ended(client.connect(sessionId=session_id)) is not None
                ):
                    return client
            await asyncio.sleep(0.1)

    async def _sign_in(self, client: Client, source: random.Random) -> None:
        """Sign in as the user of the session, because calls wait for the user who made them."""
        for subject in itertools.cycle(SUBJECTS):
            client.set_auth(self.issuer.reliable_source(source, subject))
            if await self._mutate_nothing(client):
                return

    def _change_user(self, client: Client, source: random.Random, auth: Any) -> None:
        """Sign in again, sign out, or renew the token."""
        dice = source.random()
        if dice < 0.5:
            client.set_auth(auth if dice < 0.4 else None)
        else:
            client._session.identity.renew()
            client._tokens.wake()

    async def _administrate(self, source: random.Random, faults_over: anyio.Event) -> None:
        """Import documents now and then."""
        runtime = WorldRuntime(self.network, source)
        runtime.bind(asyncio.get_running_loop())
        while not faults_over.is_set():
            await asyncio.sleep(source.random() * self.pace_seconds * 10)
            token = self.server.server.admin_token
            async with Client(f"ws://127.0.0.1:{PORT}", token, runtime) as client:
                attempt = await try_import(client, self.board, source, f"import-{len(self.checkers.imports)}")
            self.checkers.imports.append(attempt)
            self.counted["imports"] += attempt.acknowledged
            self.counted["imports_failed"] += not attempt.acknowledged
            self.note(str(attempt))

    def _vanish(self, client: Client) -> None:
        """End a client's process without any notice to its peers."""
        for transport in list(self.network.transports):
            if client._connection is not None and transport.protocol is client._connection._transport:
                transport.lose(None)
        client.close()

    def _act(self, client: Client, name: str, count: int, source: random.Random, held: list[Any], calls: Any) -> None:
        self.acts += 1
        dice = source.random()
        if dice < 0.3 and len(held) < QUERIES_MAX:
            path, args = self.board.query(source)
            if path == "board:fetch":
                if not self.ids:
                    return
                args = {"id": source.choice(self.ids)}
            held.append(client.subscribe(path, args))
        elif dice < 0.4 and held:
            held.pop(source.randrange(len(held))).close()
        elif dice < 0.5:
            calls.start_soon(self._query, client, source)
        else:
            key = f"{name}-{count}"
            calls.start_soon(self._mutate, client, self.board.mutation(source, key), key)

    async def _query(self, client: Client, source: random.Random) -> None:
        """Run one query; the witness checks the answer."""
        path, args = self.board.query(source)
        if path != "board:fetch":
            with contextlib.suppress(*_REFUSED, ClientClosed, ConnectionLost, RemoteError):
                await client.query(path, args)

    async def _mutate(self, client: Client, args: dict[str, Any], key: str) -> None:
        try:
            ids = await client.mutation("board:change", args)
        except ClientClosed:
            return  # its process crashed; the commit may or may not have happened
        except (*_REFUSED, RemoteError) as error:
            if self._is_refused(error):
                self.checkers.refused.add(key)
                return
            if self._is_withheld(error):
                self.checkers.acknowledged[key] = 1
                return
            assert error.name == "AppError", error
            assert args["steps"][-1]["fail"]
            self.note(f"{key} failed as asked")
            return
        assert not args["steps"][-1]["fail"]
        self.ids.extend(ids)
        self.checkers.acknowledged[key] = self.checkers.acknowledged.get(key, 0) + 1
        self.note(f"{key} acknowledged")

    async def _mutate_nothing(self, client: Client) -> bool:
        """Reach a commit; return False if the user cannot sign in, or the result is withheld: the client need not show it."""
        try:
            await client.mutation("board:change", {"steps": []}, timeout=SIGN_IN_SECONDS)
        except CallTimeout:
            return False  # its user's token was refused while it waited; the user signs in again
        except (*_REFUSED, RemoteError) as error:
            assert self._is_refused(error) or self._is_withheld(error), error
            await asyncio.sleep(0.1)
            return False
        return True

    def _is_refused(self, error: TinyvexError) -> bool:
        """Return whether a call was never sent, because its user could not sign in."""
        return self.has_users and error.name in {"Unauthenticated", "SessionIdentity"}

    def _is_withheld(self, error: TinyvexError) -> bool:
        """
        Return whether a mutation committed under the identity that first sent it, so that any later identity is refused
        its result.
        """
        is_withheld = self.has_users and error.name == "RequestIdReused"
        self.issuer.seen["results_withheld"] += is_withheld
        return is_withheld
