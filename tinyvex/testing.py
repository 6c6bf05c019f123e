"""
Unit tests of an app's functions: in memory, without a server, a socket or a thread.

::

    def test_sent_messages_are_read():
        with tv.testing.Database() as db:
            db.mutation(send, channel="general", author="Ann", body="Hello")
            assert [message.body for message in db.query(recent, channel="general")] == ["Hello"]

Functions run as on a server: arguments and results are encoded as JSON and validated against the annotations,
a mutation that raises writes nothing, ids and timestamps are real.
An exception reaches the test unchanged, so `pytest.raises(tv.AppError)` works.
The clock stands still until a test sets `db.now`, and random numbers are the same in every run.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from tinyvex.errors import FunctionNotFound
from tinyvex.functions.app.function_spec import FunctionDeclaration, FunctionSpec, function_declaration
from tinyvex.functions.app.loader import load_app
from tinyvex.functions.app.registry import App, functions_of, tables_of
from tinyvex.functions.run.forgotten_await import call_action
from tinyvex.functions.schema.document import Document
from tinyvex.functions.schema.table_spec import TableSpec, class_spec
from tinyvex.functions.system.system_functions import find_function
from tinyvex.functions.transaction.context import ActionCtx, MutationCtx, QueryCtx
from tinyvex.functions.transaction.execution import Execution, FunctionKind, Identity
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.functions.transaction.transaction import Transaction
from tinyvex.storage.file.database_file import FIRST_TABLE_NUMBER, schema_script
from tinyvex.storage.log.apply import apply
from tinyvex.storage.log.catalog import BY_CREATION_TIME, Catalog, IndexInfo, TableInfo
from tinyvex.storage.log.document_log import Snapshot
from tinyvex.values.timestamps import next_ts

__all__ = ["Database"]

P = ParamSpec("P")
R = TypeVar("R")

FIRST_NOW = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z, in microseconds."""


class Database:
    """
    An empty database in memory, and the functions that run on it.

    Functions are passed as they are, decorated or not.
    Their tables are those that their modules declare or import;
    pass to the constructor what cannot be found that way.

    Args:
        declarations: modules, document classes, or the path of an app.
        identity: the value of `ctx.auth`; may be changed at any time.
        now: microseconds since the epoch; may be changed at any time.

    Attributes:
        log_lines: the log lines of the last function, whether it returned or raised.

    Raises:
        AppInvalid: a declaration is impossible.
    """

    def __init__(
        self, *declarations: ModuleType | type[Document] | str | Path, identity: Identity = None, now: int = FIRST_NOW
    ) -> None:
        self.identity = identity
        self.now = now
        self.log_lines: list[str] = []
        self._random = random.Random(0)
        self._ts = 0
        self._app = App((), ())
        self._modules: set[str] = set()
        self._loaded: list[App] = []
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._connection.executescript(schema_script())
        self._tables: list[TableInfo] = []
        for declaration in declarations:
            if isinstance(declaration, ModuleType):
                self._add_module(declaration)
            elif isinstance(declaration, (str, Path)):
                app = load_app(Path(declaration))
                self._loaded.append(app)  # its modules stay importable as long as the app exists
                self._extend(app.functions.values(), app.tables.values())
            else:
                self._extend((), [class_spec(declaration)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Discard the database."""
        self._connection.close()

    # Running.

    def query(self, function: Callable[Concatenate[QueryCtx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Run a query.

        Raises:
            InvalidArguments: the arguments do not fit its annotations.
            InvalidResult: the result does not.
            Exception: the function raised it.
        """
        spec = self._spec(function, "query")
        result: R = spec.decode_result(self._run_query(spec, spec.encode_arguments(*args, **kwargs)))
        return result

    def mutation(self, function: Callable[Concatenate[MutationCtx, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a mutation and commit it. Raises as `query`; then nothing was written."""
        spec = self._spec(function, "mutation")
        result: R = spec.decode_result(self._run_mutation(spec, spec.encode_arguments(*args, **kwargs)))
        return result

    def action(
        self,
        function: Callable[Concatenate[ActionCtx, P], Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run an action to its end, on an event loop of its own. Raises as `query`."""
        spec = self._spec(function, "action")
        raw = spec.encode_arguments(*args, **kwargs)
        result: R = spec.decode_result(_run_coroutine(lambda: self._run_action(spec, raw)))
        return result

    def _run_query(self, spec: FunctionSpec, raw: bytes) -> bytes:
        transaction = Transaction(self._snapshot(), ts=self._ts, writable=False, random=self._random)
        execution = Execution(transaction.reads)
        context = spec.contexts["query"](transaction, self._app, self.identity, execution, seed=(spec.path, raw))
        return self._call(spec, context, raw, transaction, execution)

    def _call(
        self, spec: FunctionSpec, context: QueryCtx, raw: bytes, transaction: Transaction, execution: Execution
    ) -> bytes:
        self.log_lines = execution.log_lines
        arguments = spec.decode_arguments(raw, transaction.catalog)
        try:
            result = spec.function(context, **arguments)
        finally:
            execution.ended = True
            transaction.end()
        return spec.encode_result(result, transaction.catalog)

    def _run_mutation(self, spec: FunctionSpec, raw: bytes) -> bytes:
        ts = next_ts(self._ts, self.now)
        transaction = Transaction(self._snapshot(), ts=ts, writable=True, random=self._random)
        execution = Execution(transaction.reads)
        context = spec.contexts["mutation"](transaction, self._app, self.identity, execution)
        value = self._call(spec, context, raw, transaction, execution)
        record = transaction.record()
        if record is not None:
            apply(self._connection, record)
            self._ts = ts
        return value

    async def _run_action(self, spec: FunctionSpec, raw: bytes) -> bytes:
        execution = Execution(ReadSet())

        async def run(called: FunctionSpec, raw: bytes) -> bytes:
            try:
                return await self._run(called, raw)
            finally:
                execution.include(self.log_lines)

        caller = _InlineCaller(self._app, run)
        context = ActionCtx(caller, self.identity, execution, now=self.now)
        catalog = self._snapshot().catalog
        arguments = spec.decode_arguments(raw, catalog)
        try:
            result = await call_action(spec.function, context, arguments)
        finally:
            execution.ended = True
            self.log_lines = execution.log_lines
        return spec.encode_result(result, catalog)

    async def _run(self, spec: FunctionSpec, raw: bytes) -> bytes:
        """Run a function that an action calls."""
        if spec.kind == "query":
            return self._run_query(spec, raw)
        if spec.kind == "mutation":
            return self._run_mutation(spec, raw)
        return await self._run_action(spec, raw)

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._connection, self._ts, Catalog(self._ts, self._tables))

    # Declarations.

    def _spec(self, function: Callable[..., Any], kind: FunctionKind) -> FunctionSpec:
        module = sys.modules.get(function.__module__)
        if module is not None and module.__name__ not in self._modules:
            self._add_module(module)
        try:
            path = self._app.path_of(function)
        except FunctionNotFound:  # defined inside another function, or not decorated
            declaration = function_declaration(function) or FunctionDeclaration(kind, internal=True)
            spec = FunctionSpec(f"{function.__module__}:{function.__qualname__}", function, declaration)
            return find_function(App([spec], ()), spec.path, kind=kind, internal_allowed=True)
        return find_function(self._app, path, kind=kind, internal_allowed=True)

    def _add_module(self, module: ModuleType) -> None:
        """Add a module's declarations, and those of its neighbours that it uses."""
        new = [module for module in _related(module) if module.__name__ not in self._modules]
        self._modules.update(module.__name__ for module in new)
        specs = [spec for module in new for spec in functions_of(module.__name__.replace(".", "/"), module)]
        self._extend(specs, tables_of(new))

    def _extend(self, functions: Iterable[FunctionSpec], tables: Iterable[TableSpec]) -> None:
        known = {id(table.cls or table.location) for table in self._app.tables.values()}
        added = [table for table in tables if id(table.cls or table.location) not in known]
        self._app = App([*self._app.functions.values(), *functions], [*self._app.tables.values(), *added])
        for table in added:
            self._tables.append(_table_info(table, len(self._tables)))


class _InlineCaller:
    """Calls functions on behalf of an action, directly on its own event loop; see `FunctionCaller`."""

    def __init__(self, app: App, run: Callable[[FunctionSpec, bytes], Coroutine[Any, Any, bytes]]) -> None:
        self._app = app
        self._run = run

    async def call(
        self, kind: FunctionKind, function: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = function if isinstance(function, str) else self._app.path_of(function)
        spec = find_function(self._app, path, kind=kind, internal_allowed=True)
        return spec.decode_result(await self._run(spec, spec.encode_arguments(*args, **kwargs)))


def _table_info(table: TableSpec, position: int) -> TableInfo:
    """Return a table with unused numbers for itself and each index."""
    first = FIRST_TABLE_NUMBER * (position + 1)
    fields = {BY_CREATION_TIME: ("_creationTime",), **table.indexes}
    indexes = {name: IndexInfo(first + number, name, paths) for number, (name, paths) in enumerate(fields.items())}
    return TableInfo(table.name, FIRST_TABLE_NUMBER + position, first, indexes, tuple(indexes.values()))


def _related(module: ModuleType) -> Iterator[ModuleType]:
    """Yield the module, and the modules of the same package or folder that it imports from."""
    seen = {module.__name__: module}
    waiting = [module]
    while waiting:
        current = waiting.pop()
        yield current
        for value in list(vars(current).values()):
            name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            other = sys.modules.get(name) if isinstance(name, str) else None
            if other is not None and other.__name__ not in seen and _are_neighbours(module, other):
                seen[other.__name__] = other
                waiting.append(other)


def _are_neighbours(first: ModuleType, second: ModuleType) -> bool:
    if second.__name__.partition(".")[0] == first.__name__.partition(".")[0]:
        return True
    paths = [getattr(module, "__file__", None) for module in (first, second)]
    return None not in paths and Path(str(paths[0])).parent == Path(str(paths[1])).parent


def _run_coroutine(make: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
    """Run a coroutine to its end; on a thread of its own if an event loop is already running here."""
    results: list[bytes] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(make()))
        except BaseException as error:  # noqa: BLE001  # raised again by the caller
            failures.append(error)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(make())
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
