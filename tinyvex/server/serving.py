"""
The serving side of a server: executor, live queries and sessions.

Only clients need it, and its imports would lengthen each start by a quarter. So the first client, or the first open
dashboard, creates it after the ready line (ARCHITECTURE.md, Before the ready line).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tinyvex.errors import Unauthenticated
from tinyvex.functions.run.executor import Executor
from tinyvex.server.sessions import Sessions
from tinyvex.sync.live_queries import LiveQueries

if TYPE_CHECKING:
    from tinyvex.functions.run.code_switch import CodeSwitch
    from tinyvex.functions.run.stuck_calls import StuckCalls
    from tinyvex.server.access.jwt import UserTokens
    from tinyvex.server.background_tasks import BackgroundTasks
    from tinyvex.server.front_door import FrontDoor
    from tinyvex.server.options import ServerOptions
    from tinyvex.storage.engine.store import Store

__all__ = ["Serving"]


class Serving:
    """
    Runs functions for clients, and carries their sessions.

    Args:
        options: the time limits, and what clients learn of exceptions.
        store: the documents; its commits are published to the live queries from now on.
        code: the app that serves at each timestamp.
        stuck: the mutations that ended the process before; None without a watchdog.
        front_door: the rules for upgrades and tokens, and the counters.
        tasks: runs actions.
        users: verifies users' tokens; None if users cannot sign in.
    """

    def __init__(
        self,
        options: ServerOptions,
        store: Store,
        code: CodeSwitch,
        stuck: StuckCalls | None,
        front_door: FrontDoor,
        tasks: BackgroundTasks,
        users: UserTokens | None,
    ) -> None:
        self.executor = Executor(
            store, tasks.runtime, code,
            function_seconds=options.function_seconds, slow_ms=options.slow_ms, reveal=options.dev, stuck=stuck,
        )  # fmt: skip
        self.live = LiveQueries(self.executor, front_door.counters)
        store.on_commits = self.live.publish
        check_user = _refuse_users if users is None else users.check
        self.sessions = Sessions(front_door, tasks, self.live, check_user, options.chunk_bytes)

    def close(self) -> None:
        """End the threads of actions."""
        self.executor.close()


def _refuse_users(_token: str, done: Callable[[Unauthenticated], None]) -> None:
    done(
        Unauthenticated(
            "this server does not verify users' tokens; start it with --auth-secret-file FILE or --auth-jwks FILE_OR_URL"
        )
    )
