"""
Pings at a steady pace, in a process that does nothing else.

In the process of the load generator, a ping would wait for the generator's other work and seem to be a pause of the server.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple, Self

from bench.load import generator
from bench.load.generator import Client

__all__ = ["Pings", "PingsRecord"]

ROOT = Path(__file__).resolve().parents[2]
PING_SECONDS = 0.005
STOP_SECONDS_MAX = 30.0


class PingsRecord(NamedTuple):
    """
    The pings of one phase.

    Attributes:
        seconds: the duration of each.
        late_seconds: how much later than planned the process woke to send each: the noise of the machine.
    """

    seconds: list[float]
    late_seconds: list[float]


class Pings:
    """Ping a server from entering on, until `stop`."""

    def __init__(self, port: int) -> None:
        self._port = port

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "bench.load.pings", str(self._port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "its stderr is above"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    async def stop(self) -> PingsRecord:
        """Stop pinging; return the record."""
        output, _ = await asyncio.to_thread(self._process.communicate, b"", STOP_SECONDS_MAX)
        return PingsRecord(*json.loads(output))


async def _ping(port: int) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), stopped.set)
    record, client = PingsRecord([], []), await Client.dial(port, "bench-pings")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not stopped.is_set():
        started = time.perf_counter()
        await client.call("ping")
        ended = time.perf_counter()
        await asyncio.sleep(PING_SECONDS)
        record.seconds.append(ended - started)
        record.late_seconds.append(time.perf_counter() - ended - PING_SECONDS)
    client.close()
    sys.stdout.write(json.dumps(record))


if __name__ == "__main__":
    gc.disable()
    generator.run(_ping(int(sys.argv[1])))
