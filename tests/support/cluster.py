"""
A seeded world: one server process that can be killed, several clients, and checkers after every transition.

Everything runs the product's own code: server, sync, functions, storage on a real file, client.
Only time, threads and the network are the world's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sqlite3
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import anyio

from tests.support.board import Board
from tests.support.loop import VirtualLoop
from tests.support.model import Model
from tests.support.network import Network
from tests.support.world import WorldRuntime
from tinyvex import limits
from tinyvex.client.client import Client
from tinyvex.client.link import Link
from tinyvex.client.query_set import Failure
from tinyvex.client.state import ClientState
from tinyvex.client.value import Value
from tinyvex.errors import ClientClosed, RemoteError, TinyvexError
from tinyvex.server.server import Server, ServerOptions
from tinyvex.storage.check import check_folder
from tinyvex.storage.retention import Policy

PORT = 4800
CLIENTS = 3
QUERIES_MAX = 5
CONVERGE_SECONDS = 600.0
CRASH_POINTS = ("writer:before-commit", "writer:after-commit")
CHUNK_BYTES = {4: 1, 32: 3, 300: 4, 4000: 4, limits.CHUNK_BYTES: 4}
"""With how often each is chosen: parts of a few bytes take long."""
KEPT_BYTES_MAX = (0, 20_000, limits.KEPT_BYTES_MAX)
STALL_SECONDS = 3.0
TURNS_UNTIL_KILL_MAX = 20_000
RETENTION_SECONDS = (limits.RETENTION_SECONDS_MIN, limits.RETENTION_SECONDS)

log = logging.getLogger("tests.world")


class SimulatedServer:
    """A server process of the world."""

    def __init__(self, network: Network, source: random.Random, options: ServerOptions, counted: Counter[str]) -> None:
        self.network = network
        self.runtime = WorldRuntime(network, source)
        self.server = Server(options, self.runtime)
        self._counted = counted
        self.died = anyio.Event()
        self.runtime.on_kill = self._die

    async def run(self) -> None:
        """Serve until killed; what is left of a killed process stays as it is, for it runs no `finally`."""
        try:
            await self.server.__aenter__()
        except asyncio.CancelledError:
            raise  # the world ends
        except BaseException:
            if not self.runtime.killed:
                raise
        await asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        """As SIGKILL does: in the middle of anything."""
        if not self.runtime.killed:
            self.runtime.kill()

    def count(self) -> None:
        """Add what this process has done to what all have done."""
        counters = getattr(self.server, "counters", None)
        self._counted.update(asdict(counters) if counters is not None else {})

    def _die(self) -> None:
        self.count()
        self.network.listeners.pop(PORT, None)
        for transport in list(self.network.transports):
            self.network.cut(transport)
        store = getattr(self.server, "store", None)
        if store is not None:
            kill_store(store)
        self.died.set()


def kill_store(store: Any) -> None:
    """What the operating system does to a killed process's files: open transactions are gone, the lock is free."""
    writer = store._writer._thread
    if writer._connection is not None:
        writer._connection.close()
    for thread in store._readers._threads:
        if thread.source is not None:
            thread.source.connection.close()
    store._lock.release()
    store._closing = True  # so that nothing of the killed process waits for its writer when the world ends


@dataclass
class Cluster:
    """One world."""

    seed: int
    folder: Path
    steps: int = 60
    trace: list[str] = field(default_factory=list)
    """What happened, in order; the same for the same seed."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.network = Network(random.Random(self.random.getrandbits(64)))
        self.board = Board(random.Random(self.random.getrandbits(64)))
        self.model = Model()
        self.app = self.folder / "board.py"
        self.app.write_text(self.board.source(), "utf-8")
        self.data = self.folder / "data"
        (chunk_bytes,) = self.random.choices(list(CHUNK_BYTES), list(CHUNK_BYTES.values()))
        retention = Policy(self.random.choice(RETENTION_SECONDS))
        self.options = ServerOptions(
            app=self.app, data=self.data, port=PORT, chunk_bytes=chunk_bytes, retention=retention
        )
        self.kept_bytes_max = self.random.choice(KEPT_BYTES_MAX)
        self.counted: Counter[str] = Counter()
        """What all server processes and clients have done."""
        self.server: SimulatedServer
        self.acknowledged: dict[str, int] = {}
        self.ids: list[str] = []
        self.checks = 0
        self.kills = 0
        self.cuts = 0
        self.stalls = 0
        self.vanished = 0
        self.crashed_clients = 0
        self._crashing = [anyio.Event() for _ in range(CLIENTS)]
        self._faults_over = False
        self.acts = 0
        # Slow worlds have long histories of faults; in fast ones every computation is overtaken by commits.
        self.pace_seconds = self.random.choice((0.3, 0.3, 0.01))
        self.fault_pause_seconds = self.pace_seconds * 5 / 3
        self._processes: list[asyncio.Task[None]] = []
        self._converged = 0

    async def run(self) -> None:
        """Live through faults, then converge without them."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._supervise)
            faults_over = anyio.Event()
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
        self.server.count()
        await self.server.server.stop()
        self._check_file()

    async def _deadline(self) -> None:
        """Fail if clients have not converged in time."""
        await asyncio.sleep(CONVERGE_SECONDS)
        raise AssertionError(f"seed {self.seed}: no convergence after {CONVERGE_SECONDS} quiet seconds")

    def note(self, text: str) -> None:
        """Add to the trace."""
        self.trace.append(f"{asyncio.get_running_loop().time():.6f} {text}")

    # The server and its faults.

    async def _supervise(self) -> None:
        """Start the server, and start it again a while after it died."""
        while True:
            self.server = SimulatedServer(self.network, self.random, self.options, self.counted)
            if self.random.random() < 0.5:
                point = self.random.choice(CRASH_POINTS)
                self.server.runtime.crash_points[point] = self.random.randint(2, 20)
            if self.random.random() < 0.5 and not self._faults_over:
                loop = asyncio.get_running_loop()
                assert isinstance(loop, VirtualLoop)
                loop.in_turns(self.random.randint(1, TURNS_UNTIL_KILL_MAX), self._kill_unless_over)
            # A task that nobody waits for: a process that dies leaves nothing to wait for.
            process = asyncio.get_running_loop().create_task(self.server.run())
            self._processes.append(process)
            await self.server.died.wait()
            self.kills += 1
            self.note("the server died")
            await asyncio.sleep(self.random.random() * 2)

    def _kill_unless_over(self) -> None:
        """At a turn of the loop that the seed has chosen: also before it serves, and in the middle of anything."""
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
                self.stalls += self.network.stall(Link, self.random.random() * STALL_SECONDS)
            elif dice < 0.36:
                self.vanished += self.network.vanish(Link)  # it connects again, while its old socket seems open
            elif dice < 0.4:
                self._crashing[self.random.randrange(CLIENTS)].set()
        self._faults_over = True
        self.server.runtime.crash_points.clear()

    # Clients.

    async def _client(self, number: int, source: random.Random, faults_over: anyio.Event) -> None:
        """One user: when the client's process crashes, the user starts another."""
        life = 0
        while not await self._live(f"{number}-{life}", number, source, faults_over):
            self.crashed_clients += 1
            self.note(f"client {number} crashed")
            life += 1
        self._converged += 1

    async def _live(self, name: str, number: int, source: random.Random, faults_over: anyio.Event) -> bool:
        """One client from start to convergence; False when it crashed."""
        runtime = WorldRuntime(self.network, source)
        runtime.bind(asyncio.get_running_loop())
        crashing = self._crashing[number] = anyio.Event()
        async with Client(f"ws://127.0.0.1:{PORT}", None, runtime) as client:
            self._watch(client, number)
            held: list[Any] = []
            async with anyio.create_task_group() as calls:
                count = 0
                while not faults_over.is_set() or count < 3:
                    await asyncio.sleep(source.random() * self.pace_seconds)
                    if crashing.is_set() and not faults_over.is_set():
                        self._vanish(client)
                        return False
                    count += 1
                    self._act(client, name, count, source, held, calls)
            # Everything was answered; one more transition, to everybody's newest state.
            await client.mutation("board:change", {"steps": []})
            self._check_client(client._session, number)
            self.counted.update(asdict(client.counters))
        return True

    def _vanish(self, client: Client) -> None:
        """Its process is gone: nobody is told, and what it waited for it does not hear."""
        for transport in list(self.network.transports):
            if client._connection is not None and transport.protocol is client._connection._link:
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
        else:
            key = f"{name}-{count}"
            calls.start_soon(self._mutate, client, self.board.mutation(source, key), key)

    async def _mutate(self, client: Client, args: dict[str, Any], key: str) -> None:
        try:
            ids = await client.mutation("board:change", args)
        except ClientClosed:
            return  # its process crashed; whether it was committed nobody knows
        except RemoteError as error:
            assert error.name == "AppError", error
            assert args["steps"][-1]["fail"]
            self.note(f"{key} failed as asked")
            return
        assert not args["steps"][-1]["fail"]
        self.ids.extend(ids)
        self.acknowledged[key] = self.acknowledged.get(key, 0) + 1
        self.note(f"{key} acknowledged")

    # Checkers.

    def _watch(self, client: Client, number: int) -> None:
        state = client._session
        receive = state._receive_transition

        def checked(transition: Any) -> None:
            receive(transition)
            if state._settled():
                self._check_client(state, number)

        state._receive_transition = checked  # type: ignore[method-assign]

    def _check_client(self, state: ClientState, number: int) -> None:
        """The client's results equal its queries run from scratch at the version it was told."""
        ts = state.version.ts
        self._catch_up()
        assert ts <= self.model.last_ts or ts == 0, "no transition before its commit is durable"
        shown = []
        for query in state.queries:
            if query.query_id not in state.queries._on_server or query.result is None:
                continue
            args = json.loads(query.args)
            expected = self.board.expected(self.model, ts, query.path, args)
            found = outcome(query.result)
            assert found == expected, (
                f"seed {self.seed}, client {number} at {ts}: {query.path} {args}\nhas {found}\nnot {expected}"
            )
            shown.append(f"{query.query_id}={query.result.hash if isinstance(query.result, Value) else '!'}")
            self.checks += 1
        self.note(f"client {number} at {state.version} {' '.join(shown)}")

    def _catch_up(self) -> None:
        """Read what was committed since, straight from the file."""
        connection = sqlite3.connect(f"file:{self.data / 'data.sqlite3'}?mode=ro", uri=True)
        try:
            tables = {}
            for (text,) in connection.execute("SELECT json_value FROM documents WHERE table_id = 1 AND NOT deleted"):
                table = json.loads(text)
                tables[table["tablet"]] = table["name"]
            rows = connection.execute(
                "SELECT ts, table_id, hex(id), json_value FROM documents WHERE ts > ? ORDER BY ts, rowid",
                (self.model.last_ts,),
            ).fetchall()
            (last_ts,) = connection.execute("SELECT json_value FROM globals WHERE key = 'last_ts'").fetchone()
        finally:
            connection.close()
        commits: dict[int, list[tuple[str, str, bytes | None]]] = {}
        for ts, tablet, internal, text in rows:
            commits.setdefault(ts, []).append((tables.get(tablet, f"#{tablet}"), internal, text))
        for ts, writes in commits.items():
            self.model.commit(ts, writes)
        self.model.last_ts = max(self.model.last_ts, int(last_ts))

    def _check_file(self) -> None:
        """The file is sound; every acknowledged mutation is there once, and none twice."""
        assert check_folder(self.data) == []
        self._catch_up()
        marks = [row["key"] for row in self.model.documents("marks", self.model.last_ts) if row["key"]]
        assert len(marks) == len(set(marks)), f"seed {self.seed}: a mutation happened twice"
        assert set(self.acknowledged) <= set(marks), f"seed {self.seed}: an acknowledged mutation is lost"
        assert all(count == 1 for count in self.acknowledged.values())


def outcome(result: Value | Failure) -> Any:
    """A result as the board says it."""
    if isinstance(result, Value):
        return json.loads(result.json)
    error: TinyvexError = result.error
    assert isinstance(error, RemoteError), error
    assert error.name == "AppError", error
    return ("odd", error.app_data["odd"])
