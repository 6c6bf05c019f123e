"""
The contexts of the system's own functions: a user's context, and the storage behind it.

A user's function reaches documents through `ctx.db` and nothing else. A function of the system also needs the snapshot
itself, the app that is served, and a way to commit changes that are not documents of the app: rows of system tables,
tablets, indexes. These are public members here, so that no function reaches into another object's private parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinyvex.functions.app.function_spec import FunctionSpec
from tinyvex.functions.schema.document import DocumentMapping
from tinyvex.functions.transaction.context import MutationCtx, QueryCtx
from tinyvex.functions.transaction.database import locate
from tinyvex.functions.transaction.execution import Execution
from tinyvex.functions.transaction.query_builder import Source
from tinyvex.values.ids import new_internal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyvex.functions.app.registry import App
    from tinyvex.functions.transaction.execution import Identity
    from tinyvex.functions.transaction.transaction import Transaction
    from tinyvex.storage.log.catalog import TableInfo
    from tinyvex.storage.log.commit_record import CommitRecord
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["SystemFunctionSpec", "SystemMutationCtx", "SystemQueryCtx"]


class SystemQueryCtx(QueryCtx):
    """
    The context of a system query.

    Attributes:
        app: the app that is served at the snapshot.
    """

    def __init__(
        self, transaction: Transaction, app: App, identity: Identity, execution: Execution, *, seed: object = None
    ) -> None:
        super().__init__(transaction, app, identity, execution, seed=seed)
        self.app = app

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that the query reads; reads through it are not recorded."""
        return self._transaction.snapshot

    def untyped_source(self, table: TableInfo, *, with_journal: bool = True) -> Source[Mapping[str, Any]]:
        """
        Return a source of a table's documents as mappings, whatever class the app declares for it now.

        Args:
            table: the documents' table.
            with_journal: whether the first page of a live query ends where it ended the last time.
        """
        execution = self._execution if with_journal else Execution(self._transaction.reads)
        return Source(self._transaction, execution, table, None, DocumentMapping, None)

    def observe_document(self, document_id: str) -> tuple[TableInfo, bytes]:
        """
        Record a document as read, and return its table and document key.

        Raises:
            InvalidId: the id is malformed.
            UnknownTable: no table has this id's number.
        """
        table, document_key = locate(self.snapshot.catalog, document_id)
        self._transaction.reads.add_point(table.by_id, document_key)
        return table, document_key


class SystemMutationCtx(MutationCtx):
    """
    The context of a system mutation.

    Attributes:
        app: the app that is served at the mutation's timestamp.
    """

    def __init__(self, transaction: Transaction, app: App, identity: Identity, execution: Execution) -> None:
        super().__init__(transaction, app, identity, execution)
        self.app = app

    @property
    def snapshot(self) -> Snapshot:
        """The state that the mutation reads."""
        return self._transaction.snapshot

    @property
    def ts(self) -> int:
        """The timestamp of the mutation's commit, in microseconds since the epoch."""
        return self._transaction.ts

    def new_document_key(self) -> bytes:
        """Return a fresh document key, from which an id is made."""
        return new_internal(self.ts, self._transaction.random)

    def commit(self, record: CommitRecord | None) -> None:
        """Commit the operations of a record along with the mutation, at the mutation's timestamp; at most one record."""
        if record is not None:
            self._transaction.add_system_record(record)


class SystemFunctionSpec(FunctionSpec):
    """A function of the system: it receives a system context."""

    contexts = {"query": SystemQueryCtx, "mutation": SystemMutationCtx}  # noqa: RUF012 - declared a ClassVar in the base
