"""What a worker keeps of a message; what it does with messages is shown on real servers."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tinyvex.sync.counters import Counters
from tinyvex.sync.worker import SyncWorker
from tinyvex.wire import codec


@pytest.mark.parametrize("method", ["mutation", "query", "action"])
def test_a_call_that_waits_does_not_hold_its_message(method: str) -> None:
    """Its arguments were copied out of it, and a message may be as long as they are once more."""
    waiting: list[Any] = []
    executor: Any = SimpleNamespace(
        mutation_nowait=lambda *args: waiting.append(args), query_nowait=lambda *args, at: waiting.append(args)
    )
    outbox: Any = SimpleNamespace(run_action=waiting.append)
    nothing: Any = SimpleNamespace()
    worker = SyncWorker(
        outbox=outbox, live=nothing, executor=executor, counters=Counters(), runtime=nothing, session_id="session-1",
        is_admin=False, takes_patches=True, credentials=nothing,
    )  # fmt: skip
    numbered = "" if method == "query" else '"requestId": 0, '
    text = f'{{"jsonrpc": "2.0", "id": 1, "method": "tinyvex/{method}", "params": {{{numbered}"udfPath": "a:b", "args": {{}}}}}}'
    request = codec.decode_request(text.encode())
    before = sys.getrefcount(request), sys.getrefcount(request.params)
    worker.receive(request)
    assert len(waiting) == 1
    assert (sys.getrefcount(request), sys.getrefcount(request.params)) == before
