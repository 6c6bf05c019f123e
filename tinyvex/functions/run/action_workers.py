"""
The threads of actions: at most ACTION_THREADS, each with an event loop, started when they are needed.

While there are enough threads, each running action has one of its own, so that code that blocks delays no other action.
The actions of one client use at most ACTION_THREADS_PER_CLIENT_MAX of them. A further action goes to the first thread that answers a *probe*, a callback on its loop. A blocked thread does not answer,
and therefore gets no further actions. Waiting clients take turns. The answer is posted one iteration after the probe, so that it follows the first
step of an action that was sent before.

At its time limit an action is cancelled, which ends it at an `await`. One that still runs after FUNCTION_GRACE_SECONDS
is handled by the reason::

    cancelled ──grace──► its thread answers: the action ignores cancellation ──────────► logged; it continues
                    ├──► Python code blocks the thread ──Stopped──► ended; the thread is used again
                    └──► a foreign call blocks it ──grace──► logged with the stack; the thread is abandoned

An abandoned thread is replaced, and ends if its call returns after all. THREADS_ABANDONED_MAX of them end the process.

All of this runs on the server's loop, except `ActionRun.run`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from tinyvex import limits
from tinyvex.storage.engine.time_limit import Stopped

if TYPE_CHECKING:
    from tinyvex.runtime import LoopThread, Runtime

__all__ = ["ActionWorkers", "RunningAction"]

log = logging.getLogger("tinyvex.functions")


class RunningAction(Protocol):
    """An action that needs a thread."""

    path: str
    client: str
    """The client that called it; empty for the system's own calls."""
    started: bool
    """Set when the action began to run on its thread."""

    async def run(self, thread: LoopThread) -> bytes:
        """Run on the thread's loop."""
        ...

    def blocks_thread(self) -> bool:
        """Return whether its code is executing right now, rather than waiting."""
        ...

    def stack(self) -> str:
        """Return the lines at which it waits or runs."""
        ...


class ActionWorker:
    """
    A thread of actions.

    Attributes:
        actions: the actions that were sent to the thread and have not ended.
        clients: how many of them each client has.
        probed: whether a probe is unanswered.
        answers: the number of answered probes.
    """

    def __init__(self, thread: LoopThread) -> None:
        self.thread = thread
        self.actions: set[RunningAction] = set()
        self.clients: Counter[str] = Counter()
        self.probed = False
        self.answers = 0
        self.abandoned = False

    def add(self, action: RunningAction) -> None:
        """Count an action that is sent to the thread."""
        self.actions.add(action)
        self.clients[action.client] += 1

    def remove(self, action: RunningAction) -> None:
        """Count an action no longer; idempotent."""
        if action in self.actions:
            self.actions.discard(action)
            self.clients[action.client] -= 1
            self.clients = +self.clients


class ActionWorkers:
    """
    Distributes actions over threads.

    Args:
        runtime: starts threads and timers.
        thread_abandoned: called with each thread that is abandoned.
    """

    def __init__(self, runtime: Runtime, thread_abandoned: Callable[[LoopThread], None]) -> None:
        self._runtime = runtime
        self._thread_abandoned = thread_abandoned
        self._workers: list[ActionWorker] = []
        # By client, the one whose turn is next first.
        self._waiting: dict[str, deque[tuple[RunningAction, asyncio.Future[ActionWorker]]]] = {}

    async def run(self, action: RunningAction) -> bytes:
        """
        Run an action on a thread and wait for its result.

        Cancelling the wait cancels the action at its next `await`.

        Raises:
            Exception: the action raised it.
        """
        worker = self._free(action.client)
        if worker is not None:
            worker.add(action)
        else:
            worker = await self._responsive(action)
        try:
            return await worker.thread.run(partial(self._run_and_leave, worker, action))
        finally:
            if not action.started:  # the wait was cancelled first
                self._leave(worker, action)

    async def _run_and_leave(self, worker: ActionWorker, action: RunningAction) -> bytes:
        """Run on the worker's thread."""
        action.started = True
        try:
            return await action.run(worker.thread)
        finally:
            self._runtime.post(self._leave, worker, action)

    def _leave(self, worker: ActionWorker, action: RunningAction) -> None:
        worker.remove(action)
        if worker.abandoned and not worker.actions:
            worker.thread.request_stop(0)

    # Choosing a thread.

    def _free(self, client: str) -> ActionWorker | None:
        """Return a thread without actions that the client may use; None if there is none and no further one may start."""
        if self._threads_of(client) >= limits.ACTION_THREADS_PER_CLIENT_MAX and client:
            return None
        for worker in self._workers:
            if not worker.actions and not worker.probed:
                return worker
        return self._start() if len(self._workers) < limits.ACTION_THREADS else None

    def _threads_of(self, client: str) -> int:
        return sum(client in worker.clients for worker in self._workers)

    def _may_use(self, worker: ActionWorker, client: str) -> bool:
        if not client or client in worker.clients:
            return True
        return self._threads_of(client) < limits.ACTION_THREADS_PER_CLIENT_MAX

    def _start(self) -> ActionWorker:
        worker = ActionWorker(self._runtime.start_loop("tinyvex-actions"))
        self._workers.append(worker)
        return worker

    async def _responsive(self, action: RunningAction) -> ActionWorker:
        """Wait for a thread that answers; the actions of one client wait in order of arrival."""
        future: asyncio.Future[ActionWorker] = self._runtime.loop.create_future()
        self._waiting.setdefault(action.client, deque()).append((action, future))
        for worker in self._workers:
            self._probe(worker)
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled():
                self._leave(future.result(), action)
            raise

    def _probe(self, worker: ActionWorker) -> None:
        if not worker.probed:
            worker.probed = True
            answer = partial(self._runtime.post, self._answered, worker)
            worker.thread.post(partial(worker.thread.post, answer))

    def _answered(self, worker: ActionWorker) -> None:
        worker.probed = False
        worker.answers += 1
        if worker.abandoned:
            return
        client = next((waiting for waiting in self._waiting if self._may_use(worker, waiting)), None)
        if client is None:
            return
        queue = self._waiting.pop(client)
        action, future = queue.popleft()
        if not future.done():
            worker.add(action)
            future.set_result(worker)
        if queue:
            self._waiting[client] = queue  # behind the other clients
        if self._waiting:
            self._probe(worker)

    # Time limits.

    def limit_passed(self, action: RunningAction) -> None:
        """Look after an action that was cancelled at its time limit, until it has ended."""
        for worker in self._workers:
            if action in worker.actions:
                self._probe(worker)
                self._check_later(worker, action, stopped=False)

    def _check_later(self, worker: ActionWorker, action: RunningAction, *, stopped: bool) -> None:
        check = partial(self._check, worker, action, worker.answers, stopped=stopped)
        self._runtime.call_after(limits.FUNCTION_GRACE_SECONDS, check)

    def _check(self, worker: ActionWorker, action: RunningAction, answers: int, *, stopped: bool) -> None:
        if action not in worker.actions or worker.abandoned:
            return
        if worker.answers != answers:
            log.error(
                "%s ignores its time limit of %g s, but blocks no other action; it continues at\n%s",
                action.path, limits.ACTION_SECONDS, action.stack(),
            )  # fmt: skip
            return
        blocking = next((other for other in worker.actions if other.blocks_thread()), None)
        if blocking is not None and blocking is not action:
            self._check_later(worker, action, stopped=False)  # that one has a time limit too
        elif blocking is action and not stopped:
            worker.thread.interrupt(Stopped)
            self._check_later(worker, action, stopped=True)
        else:
            self._abandon(worker, action)

    def _abandon(self, worker: ActionWorker, action: RunningAction) -> None:
        log.error(
            "%s ignores its time limit of %g s and blocks its thread, which was replaced; the thread is at\n%s",
            action.path, limits.ACTION_SECONDS, worker.thread.stack(),
        )  # fmt: skip
        worker.abandoned = True
        self._workers.remove(worker)
        if self._waiting:
            self._probe(self._start())
        self._thread_abandoned(worker.thread)

    def close(self, timeout_seconds: float) -> None:
        """Cancel the running actions and end the threads; those that do not end in time are left."""
        deadline = self._runtime.monotonic() + timeout_seconds
        for worker in self._workers:
            worker.thread.request_stop(timeout_seconds)
        for worker in self._workers:
            worker.thread.stop(max(deadline - self._runtime.monotonic(), 0.0))
