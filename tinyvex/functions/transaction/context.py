"""The contexts that functions receive as `ctx`: one class for each kind of function."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Coroutine
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, Protocol, TypeVar, overload

from tinyvex.functions.transaction.database import DatabaseReader, DatabaseWriter
from tinyvex.values.suggestions import unknown_attribute

if TYPE_CHECKING:
    from tinyvex.functions.schema.table_spec import DeclaredTables
    from tinyvex.functions.transaction.execution import Execution, FunctionKind, Identity
    from tinyvex.functions.transaction.transaction import Transaction

__all__ = ["ActionCtx", "FunctionCaller", "MutationCtx", "QueryCtx"]

P = ParamSpec("P")
R = TypeVar("R")


class _Ctx:
    """
    The members that all contexts share.

    Args:
        identity: the caller.
        execution: records what the function does.
        now: the timestamp.
        seed: the seed of `ctx.random`; its text is made when it is used, because arguments may be long.
    """

    _seed_prefix = "ctx"

    def __init__(self, identity: Identity, execution: Execution, now: int, seed: object) -> None:
        self._identity = identity
        self._auth: Identity = None
        self._execution = execution
        self._now = now
        self._seed = seed
        self._random: random_module.Random | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Suggest the attribute that was meant."""
            raise unknown_attribute(self, name)

    @property
    def auth(self) -> Identity:
        """
        The claims of the caller's identity; None for an anonymous caller.

        A query that accesses it, even to compare it with None, is computed separately for each identity.
        """
        self._execution.require_running()
        self._execution.read_auth = True
        if self._auth is None and self._identity is not None:
            # A copy: a function that changes it must not affect other calls of the same identity.
            self._auth = deepcopy(dict(self._identity))
        return self._auth

    @property
    def random(self) -> random_module.Random:
        """A random number generator that repeats its numbers when the same execution is repeated."""
        self._execution.require_running()
        if self._random is None:
            self._random = random_module.Random(f"{self._seed_prefix}:{self._seed!r}")
        return self._random

    def log(self, *values: object) -> None:
        """Send a log line to the caller, who receives it also if the function fails; values are joined as by `print`."""
        self._execution.require_running()
        self._execution.log("INFO", " ".join(map(str, values)))


class QueryCtx(_Ctx):
    """
    The context of a query.

    Args:
        transaction: the reads.
        tables: the tables that the app declares.
        identity: the caller.
        execution: records what the function does.
        seed: the seed of `ctx.random`; for a query, its path and arguments.
    """

    _database_class: ClassVar[type[DatabaseReader]] = DatabaseReader
    _db: Any  # an instance of this class; the properties have its type

    def __init__(
        self,
        transaction: Transaction,
        tables: DeclaredTables,
        identity: Identity,
        execution: Execution,
        *,
        seed: object = None,
    ) -> None:
        super().__init__(identity, execution, transaction.ts, seed)
        self._transaction = transaction
        self._db = self._database_class(transaction, tables, execution)

    @property
    def db(self) -> DatabaseReader:
        """The database, to read."""
        self._execution.require_running()
        return self._db  # type: ignore[no-any-return]

    @property
    def now(self) -> int:
        """
        The time of the snapshot, in microseconds since the epoch.

        The passage of time does not run a query again. A query that accesses `now` is flagged,
        and its result is as old as the data it read.
        """
        self._execution.require_running()
        self._execution.read_now = True
        return self._now


class MutationCtx(QueryCtx):
    """The context of a mutation; functions that take a `QueryCtx` accept it too."""

    _database_class = DatabaseWriter

    def __init__(
        self, transaction: Transaction, tables: DeclaredTables, identity: Identity, execution: Execution
    ) -> None:
        super().__init__(transaction, tables, identity, execution, seed=transaction.ts)

    @property
    def db(self) -> DatabaseWriter:
        """The database, to read and write; all writes commit together when the mutation returns, or none does."""
        self._execution.require_running()
        return self._db  # type: ignore[no-any-return]

    @property
    def now(self) -> int:
        """The timestamp of this mutation's commit, in microseconds since the epoch; no other mutation has the same."""
        self._execution.require_running()
        return self._now


class FunctionCaller(Protocol):
    """Calls other functions on behalf of an action."""

    async def call(
        self, kind: FunctionKind, function: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """
        Run a function, given as itself or by its path, and return its decoded result.

        Raises:
            FunctionNotFound: the app has no such function.
            TinyvexError: the function failed.
        """
        ...


class ActionCtx(_Ctx):
    """
    The context of an action.

    An action has no transaction: each query and mutation that it runs has its own.
    """

    _seed_prefix = "action"

    def __init__(self, caller: FunctionCaller, identity: Identity, execution: Execution, *, now: int) -> None:
        super().__init__(identity, execution, now, now)
        self._caller = caller

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Explain how an action reaches the database."""
            if name == "db":
                raise AttributeError(
                    "an action has no `ctx.db`; call `await ctx.run_query(function, …)` or `await ctx.run_mutation(…)`"
                )
            raise unknown_attribute(self, name)

    @property
    def now(self) -> int:
        """The start of the action, in microseconds since the epoch."""
        self._execution.require_running()
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
            TinyvexError: the query failed.
        """
        self._execution.require_running()
        return await self._caller.call("query", function, args, kwargs)

    @overload
    async def run_mutation(
        self, function: Callable[Concatenate[MutationCtx, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def run_mutation(self, function: str, /, **kwargs: Any) -> Any: ...
    async def run_mutation(self, function: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Run a mutation, given as the function or its path, and wait for its commit. Raises as `run_query`."""
        self._execution.require_running()
        return await self._caller.call("mutation", function, args, kwargs)

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
        self._execution.require_running()
        return await self._caller.call("action", function, args, kwargs)
