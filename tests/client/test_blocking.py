"""The blocking client against a fake server on a real loopback socket."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.support.fake_server import Endpoint, FakeServer, error_object
from tests.support.process import ENVIRONMENT
from tinyvex.client.blocking import connect_blocking
from tinyvex.errors import CallTimeout, ClientClosed, ConnectionLost, RemoteError

A = {"name": "a"}


class LoopbackServer:
    """A `FakeServer` on a loopback port, with its event loop on a thread."""

    def __init__(self, portal: BlockingPortal) -> None:
        self.server = FakeServer()
        self.endpoints: list[Endpoint] = []
        self._portal = portal
        self._listener = portal.call(self._listen)
        self.port: int = self._listener.sockets[0].getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/sync"

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Endpoint(self.server, self.endpoints.append), "127.0.0.1", 0)

    def commit(self, name: str) -> None:
        def commit() -> None:
            self.server.commit(name, 1)
            for endpoint in self.endpoints:
                if not endpoint.lost:
                    endpoint.turn()

        self._portal.call(commit)

    def close(self) -> None:
        def close() -> None:
            self._listener.close()
            for endpoint in self.endpoints:
                endpoint.transport.abort()

        self._portal.call(close)


@pytest.fixture
def loopback() -> Iterator[LoopbackServer]:
    with start_blocking_portal() as portal:
        server = LoopbackServer(portal)
        yield server
        server.close()


def test_calls_return_their_values(loopback: LoopbackServer) -> None:
    """The calls are those of `Client`, without `await`."""
    with connect_blocking(loopback.url) as client:
        assert client.mutation("counters:add", {"name": "a", "by": 2}, type=int) == 2
        assert client.query("counters:get", A) == 2
        assert client.action("counters:echo", {"value": "x"}, type=str) == "x"
        assert client.connection_state.phase == "connected"
        assert client.epoch == "first"


def test_failures_are_raised(loopback: LoopbackServer) -> None:
    """With the server's name for the error."""
    with connect_blocking(loopback.url) as client, pytest.raises(RemoteError, match="refused"):
        client.mutation("counters:fail")


def test_a_call_has_a_timeout(loopback: LoopbackServer) -> None:
    """A call may have its own, or that of the client; the error is a TimeoutError."""
    with connect_blocking(loopback.url, timeout=0.01) as client:
        with pytest.raises(CallTimeout) as caught:
            client.action("counters:slow")
        assert caught.value.was_sent
        with pytest.raises(TimeoutError):
            client.action("counters:slow", timeout=0)
        assert client.mutation("counters:add", {"name": "a", "by": 1}, timeout=10, type=int) == 1
        assert client.query("counters:get", A, timeout=10) == 1


def test_a_subscription_is_iterated(loopback: LoopbackServer) -> None:
    """The iteration returns the current value, then each new one."""
    with connect_blocking(loopback.url) as client, client.subscribe("counters:get", A, type=int) as values:
        assert next(values) == 0
        loopback.commit("a")
        assert next(values) == 1


def test_closing_a_subscription_ends_the_iteration_of_another_thread(loopback: LoopbackServer) -> None:
    """The `for` loop ends without an error."""
    seen: list[int] = []
    started = threading.Event()
    with connect_blocking(loopback.url) as client:
        values = client.subscribe("counters:get", A, type=int)

        def read() -> None:
            for value in values:
                seen.append(value)
                started.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert started.wait(10)
        values.close()
        reader.join(10)
    assert seen == [0]


def test_leaving_a_loop_ends_its_subscription(loopback: LoopbackServer) -> None:
    """The server learns of it before the next answer."""
    with connect_blocking(loopback.url) as client:
        for name in "abc":
            for _ in client.subscribe("counters:get", {"name": name}):
                break
        client.query("counters:get", A)
        client.query("counters:get", A)
        assert loopback.endpoints[0].session.queries == {}


def test_many_threads_may_use_one_client(loopback: LoopbackServer) -> None:
    """Every mutation runs once."""
    with connect_blocking(loopback.url) as client:

        def add() -> None:
            for _ in range(10):
                client.mutation("counters:add", {"name": "a", "by": 1})

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.query("counters:get", A) == 40


def test_a_missing_server_is_an_error_within_the_timeout(loopback: LoopbackServer) -> None:
    """The error has the reason."""
    loopback.close()
    with (
        pytest.raises(ConnectionLost, match=r"within 0\.3 seconds: no server answers"),
        connect_blocking(loopback.url, connect_timeout=0.3),
    ):
        pass


def test_a_refusal_is_raised_on_entering(loopback: LoopbackServer) -> None:
    """A wrong token is reported before the first call."""
    loopback.server.refusal = error_object("Unauthenticated", "wrong token", retry="after-fix")
    with pytest.raises(RemoteError, match="wrong token"), connect_blocking(loopback.url, "bad"):
        pass


def test_an_error_in_the_body_propagates_unchanged(loopback: LoopbackServer) -> None:
    """The client's thread has ended."""
    before = threading.active_count()
    with pytest.raises(KeyError), connect_blocking(loopback.url):
        raise KeyError("mine")
    assert threading.active_count() <= before


def test_a_closed_client_refuses_calls(loopback: LoopbackServer) -> None:
    """With ClientClosed."""
    with connect_blocking(loopback.url) as client:
        client.query("counters:get", A)
    with pytest.raises(ClientClosed):
        client.query("counters:get", A)


def test_a_client_is_opened_and_closed_without_a_block(loopback: LoopbackServer) -> None:
    """Closing again has no effect, and the client's thread has ended."""
    before = threading.active_count()
    client = connect_blocking(loopback.url).open()
    assert client.query("counters:get", A) == 0
    with pytest.raises(RuntimeError, match="only once"):
        client.open()
    assert client.query("counters:get", A) == 0
    client.close()
    client.close()
    assert threading.active_count() <= before
    with pytest.raises(ClientClosed, match="between `open` and `close`"):
        client.query("counters:get", A)


def test_a_client_that_was_never_opened_can_be_closed(loopback: LoopbackServer) -> None:
    """There is nothing to close."""
    connect_blocking(loopback.url).close()


def test_the_states_of_the_connection_are_iterated(loopback: LoopbackServer) -> None:
    """They end with `closed` when another thread closes the client."""
    phases: list[str] = []
    connected = threading.Event()
    client = connect_blocking(loopback.url).open()

    def watch() -> None:
        for state in client.connection_states():
            phases.append(state.phase)
            connected.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert connected.wait(10)
    client.close()
    watcher.join(10)
    assert (phases[0], phases[-1]) == ("connected", "closed")


def test_a_lost_connection_is_waited_for(loopback: LoopbackServer) -> None:
    """`reconnect_now` ends the pause, `wait_connected` returns on the new socket, `drain` when every call has finished."""
    with connect_blocking(loopback.url) as client:
        states = client.connection_states()
        assert next(states).phase == "connected"
        loopback._portal.call(loopback.endpoints[0].transport.abort)
        assert next(states).phase == "disconnected"
        client.reconnect_now()
        client.wait_connected(timeout=10)
        client.mutation("counters:add", {"name": "a", "by": 1})
        client.drain(timeout=10)
        assert client.counters.values_received == 0


def test_a_subscription_of_a_closed_client_has_ended(loopback: LoopbackServer) -> None:
    """Iterating raises ClientClosed; closing it again has no effect."""
    with connect_blocking(loopback.url) as client:
        values = client.subscribe("counters:get", A)
        next(values)
    with pytest.raises(ClientClosed):
        next(values)
    values.close()


def test_entering_raises_the_error_of_the_thread(loopback: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a missing file descriptor for its event loop."""

    def run(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("anyio.run", run)
    with pytest.raises(OSError, match="Too many"), connect_blocking(loopback.url):
        pass


def run_script(url: str, script: str) -> list[str]:
    """Run a user's program, with the server's URL in `url`; return its output."""
    program = f"import os, signal, threading\nimport tinyvex as tv\nurl = {url!r}\n{textwrap.dedent(script)}"
    ended = subprocess.run(
        [sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


@pytest.mark.parametrize(
    "ask", ["ask()", "thread = threading.Thread(target=ask, daemon=True); thread.start(); thread.join()"]
)
def test_a_program_that_does_not_close_its_client_exits(loopback: LoopbackServer, ask: str) -> None:
    """The interpreter does not wait for the client's thread."""
    script = f"""
        client = tv.connect_blocking(url)

        def ask():
            print(client.__enter__().query("counters:get", {{"name": "a"}}))

        {ask}
    """
    assert run_script(loopback.url, script) == ["0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_client_cannot_be_used_after_a_fork(loopback: LoopbackServer) -> None:
    """Its thread exists only in the parent, so calls raise ClientClosed; leaving the block has no effect."""
    script = """
        import warnings

        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn about a fork with threads
        with tv.connect_blocking(url) as client:
            child = os.fork()
            if child == 0:
                try:
                    client.query("counters:get", {"name": "a"})
                except tv.TinyvexError as error:
                    print(error.name, flush=True)
            else:
                os.waitpid(child, 0)
                print(client.query("counters:get", {"name": "a"}))
    """
    assert run_script(loopback.url, script) == ["ClientClosed", "0"]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such timers here")
def test_an_interrupted_wait_loses_no_value(loopback: LoopbackServer) -> None:
    """After KeyboardInterrupt the next iteration returns it."""
    script = """
        with tv.connect_blocking(url) as client, client.subscribe("counters:get", {"name": "a"}) as values:
            print(next(values))
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            try:
                next(values)
            except KeyboardInterrupt:
                print("interrupted")
            client.mutation("counters:add", {"name": "a", "by": 1})
            print(next(values))
    """
    assert run_script(loopback.url, script) == ["0", "interrupted", "1"]


def test_a_mutation_survives_a_reset_of_a_real_socket(loopback: LoopbackServer) -> None:
    """The client reconnects and resends it."""
    with connect_blocking(loopback.url) as client:
        client.mutation("counters:add", {"name": "a", "by": 1})
        loopback._portal.call(loopback.endpoints[0].transport.abort)
        result: Any = client.mutation("counters:add", {"name": "a", "by": 1})
        assert result == 2
