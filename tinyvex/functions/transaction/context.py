"""What a function receives as `ctx`, and what its execution leaves behind."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Coroutine, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, overload

from tinyvex.functions.transaction.database import DatabaseReader, DatabaseWriter
from tinyvex.limits import LOG_LINE_LENGTH_MAX, LOG_LINES_MAX
from tinyvex.values.types import Value

if TYPE_CHECKING:
    from tinyvex.functions.app.registry import App
    from tinyvex.functions.transaction.range_cache import RangeCache
    from tinyvex.functions.transaction.read_set import ReadSet
    from tinyvex.functions.transaction.transaction import Transaction

__all__ = ["ActionCtx", "Calls", "Execution", "Identity", "MutationCtx", "QueryCtx"]

P = ParamSpec("P")
R = TypeVar("R")

Identity: TypeAlias = Mapping[str, Value] | None
"""Who calls: the claims of the identity, or None for nobody in particular."""


class Execution:
    """
    What one execution leaves behind, beside its result.

    Attributes:
        reads: what it read.
        log_lines: what it logged, at most `LOG_LINES_MAX` lines.
        read_auth: it looked at `ctx.auth`, so its result is for this identity only.
        read_now: it looked at `ctx.now`, so running it again may give something else.
        journal: the cursor at which its first page ends;
            given back to the next execution of the same query, it keeps the page's end where it was.
        keeper: serves its scans from what a live query kept of the execution before; None where nothing is kept.
    """

    __slots__ = ("dropped_lines", "journal", "keeper", "log_lines", "paginated", "read_auth", "read_now", "reads")

    def __init__(self, reads: ReadSet, *, journal: str | None = None, keeper: RangeCache | None = None) -> None:
        self.reads = reads
        self.keeper = keeper
        self.log_lines: list[str] = []
        self.dropped_lines = 0
        self.read_auth = False
        self.read_now = False
        self.journal = journal
        self.paginated = False

    def log(self, level: str, text: str) -> None:
        """Add a log line; beyond the limit lines are only counted, in the last one."""
        text = text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate cannot be sent
        if len(text) > LOG_LINE_LENGTH_MAX:
            text = f"{text[:LOG_LINE_LENGTH_MAX]}… ({len(text)} characters)"
        if len(self.log_lines) < LOG_LINES_MAX - 1:
            self.log_lines.append(f"[{level}] {text}")
            return
        if self.dropped_lines == 0:
            self.log_lines.append("")
        self.dropped_lines += 1
        self.log_lines[-1] = f"[WARN] {self.dropped_lines} more lines were dropped"


class _Ctx:
    """What all contexts share."""

    def __init__(self, identity: Identity, execution: Execution, now: int, seed: str) -> None:
        self._identity = identity
        self._auth: Identity = None
        self._execution = execution
        self._now = now
        self._seed = seed
        self._random: random_module.Random | None = None

    @property
    def auth(self) -> Identity:
        """
        Who calls; None for nobody in particular.

        A query that looks at it, even to test for None, is computed for each identity on its own.
        """
        self._execution.read_auth = True
        if self._auth is None and self._identity is not None:
            # What is changed in it changes nobody else's, nor the next call's.
            self._auth = deepcopy(dict(self._identity))
        return self._auth

    @property
    def random(self) -> random_module.Random:
        """Random numbers that come out the same when the same execution is repeated."""
        if self._random is None:
            self._random = random_module.Random(self._seed)
        return self._random

    def log(self, *values: object) -> None:
        """Write a line for whoever called the function, as `print` would."""
        self._execution.log("INFO", " ".join(map(str, values)))


class QueryCtx(_Ctx):
    """
    What a query receives.

    Args:
        transaction: where it reads.
        app: its tables and functions.
        identity: who calls.
        execution: where what it does is noted.
        seed: of `ctx.random`; for a query, its path and arguments.
    """

    def __init__(
        self, transaction: Transaction, app: App, identity: Identity, execution: Execution, *, seed: object = None
    ) -> None:
        super().__init__(identity, execution, transaction.ts, f"ctx:{seed!r}")
        self._db = DatabaseReader(transaction, app, execution)

    @property
    def db(self) -> DatabaseReader:
        """The database, to read."""
        return self._db

    @property
    def now(self) -> int:
        """
        The time of the snapshot, in microseconds since the epoch.

        A query does not run again because time goes by:
        one that looks at it is marked as such, and its result is as old as the data it read.
        """
        self._execution.read_now = True
        return self._now


class MutationCtx(QueryCtx):
    """What a mutation receives; helpers that need a `QueryCtx` take it too."""

    def __init__(self, transaction: Transaction, app: App, identity: Identity, execution: Execution) -> None:
        super().__init__(transaction, app, identity, execution, seed=transaction.ts)
        self._writer = DatabaseWriter(transaction, app, execution)

    @property
    def db(self) -> DatabaseWriter:
        """The database, to read and write; all of it happens at once when the mutation has returned, or nothing."""
        return self._writer

    @property
    def now(self) -> int:
        """The time of this mutation's commit, in microseconds since the epoch; no two mutations have the same."""
        return self._now


class Calls(Protocol):
    """How an action reaches the other functions; arguments and results are JSON."""

    async def query(self, path: str, args: bytes) -> bytes:
        """Run a query on the newest state."""
        ...

    async def mutation(self, path: str, args: bytes) -> bytes:
        """Run a mutation; it has committed when this returns."""
        ...

    async def action(self, path: str, args: bytes) -> bytes:
        """Run another action."""
        ...


class ActionCtx(_Ctx):
    """
    What an action receives.

    An action has no transaction: every query and mutation it runs is one of its own.
    """

    def __init__(self, calls: Calls, app: App, identity: Identity, execution: Execution, *, now: int) -> None:
        super().__init__(identity, execution, now, f"action:{now}")
        self._calls = calls
        self._app = app

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Say how an action reaches the database."""
            if name == "db":
                raise AttributeError(
                    "an action has no ctx.db: write `await ctx.run_query(function, …)` or `await ctx.run_mutation(…)`"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def now(self) -> int:
        """When the action started, in microseconds since the epoch."""
        return self._now

    @overload
    async def run_query(
        self, function: Callable[Concatenate[QueryCtx, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def run_query(self, function: str, /, **kwargs: Any) -> Any: ...
    async def run_query(self, function: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """
        Run a query, given as the function or its path, on the newest state.

        Raises:
            FunctionNotFound: the app has no such query.
            TinyvexError: what it failed with.
        """
        return await self._run("query", self._calls.query, function, args, kwargs)

    @overload
    async def run_mutation(
        self, function: Callable[Concatenate[MutationCtx, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def run_mutation(self, function: str, /, **kwargs: Any) -> Any: ...
    async def run_mutation(self, function: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Run a mutation, given as the function or its path; it has committed on return. Raises as `run_query`."""
        return await self._run("mutation", self._calls.mutation, function, args, kwargs)

    @overload
    async def run_action(
        self,
        function: Callable[Concatenate[ActionCtx, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    async def run_action(self, function: str, /, **kwargs: Any) -> Any: ...
    async def run_action(self, function: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Run another action, given as the function or its path. Raises as `run_query`."""
        return await self._run("action", self._calls.action, function, args, kwargs)

    async def _run(
        self,
        kind: Literal["query", "mutation", "action"],
        call: Callable[[str, bytes], Coroutine[Any, Any, bytes]],
        function: Callable[..., Any] | str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        path = function if isinstance(function, str) else self._app.path_of(function)
        spec = self._app.lookup(path, kind=kind, internal_allowed=True)
        return spec.decode_result(await call(path, spec.encode_arguments(*args, **kwargs)))
