"""
The database as functions see it: `ctx.db`.

Reads go through the transaction, which records them; writes wait in its overlay until the mutation has returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from msgspec import UNSET

from tinyvex.errors import DocumentNotFound, IdExists, InvalidValue, SchemaViolation, UnknownTable, WrongTable
from tinyvex.functions.schema.document import Document, DocumentMapping, Id, declaration_of, stored_id
from tinyvex.functions.schema.table_spec import user_fields
from tinyvex.functions.transaction.query_builder import Query, Source
from tinyvex.values import codec
from tinyvex.values.ids import DocumentId, parse_id

if TYPE_CHECKING:
    from tinyvex.functions.schema.table_spec import DeclaredTables, TableSpec
    from tinyvex.functions.transaction.execution import Execution
    from tinyvex.functions.transaction.transaction import Transaction
    from tinyvex.storage.log.catalog import Catalog, TableInfo

__all__ = ["DatabaseReader", "DatabaseWriter", "locate"]

D = TypeVar("D", bound=Document)


def locate(catalog: Catalog, document_id: str) -> tuple[TableInfo, bytes]:
    """
    Return the table and the document key of an id.

    Raises:
        InvalidId: the id is malformed.
        UnknownTable: no table has this id's number.
    """
    number, document_key = parse_id(document_id)
    table = catalog.table_numbered(number)
    if table is None:
        raise UnknownTable(f"`{document_id}` is not an id of any table of this database")
    return table, document_key


class DatabaseReader:
    """What queries can do: `query` and `get`."""

    def __init__(self, transaction: Transaction, tables: DeclaredTables, execution: Execution) -> None:
        self._transaction = transaction
        self._tables = tables
        self._execution = execution

    @overload
    def query(self, table: type[D], /) -> Query[D]: ...
    @overload
    def query(self, table: str, /) -> Query[Mapping[str, Any]]: ...
    def query(self, table: type[Document] | str, /) -> Query[Any]:
        """
        Begin a query over a table.

        Args:
            table: its class, which gives typed documents, or its name, which gives read-only mappings.

        Raises:
            UnknownTable: the database has no such table.
        """
        info, spec = self._table(table)
        if isinstance(table, str) or spec is None:
            return Query(Source(self._transaction, self._execution, info, spec, DocumentMapping, None))
        return Query(Source(self._transaction, self._execution, info, spec, spec.read, spec.cls))

    @overload
    def get(self, document_id: Id[D], /) -> D | None: ...
    @overload
    def get(self, document_id: str, /) -> Any: ...
    def get(self, document_id: str, /) -> Any:
        """
        The document with this id; None when there is none.

        It is an instance of its table's class, or a read-only mapping where the table has none.

        Raises:
            InvalidId: the text is no id.
            UnknownTable: no table has such ids.
        """
        info, internal = self._locate(document_id)
        stored = self._transaction.get(info, internal)
        if stored is None:
            return None
        spec = self._tables.tables.get(info.name)
        return DocumentMapping(stored.json) if spec is None else spec.read(stored.json)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Say what a query lacks that writes."""
            if name in ("insert", "patch", "replace", "delete"):
                raise AttributeError(f"a query cannot write: ctx.db.{name} needs a mutation, `@tv.mutation`")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _table(self, table: type[Document] | str) -> tuple[TableInfo, TableSpec | None]:
        if isinstance(table, str):
            return self._transaction.catalog.table(table), self._tables.tables.get(table)
        declaration = declaration_of(table)
        if declaration is None:
            raise UnknownTable(f"{table!r} is no table: decorate the class with @tv.table(...)")
        return self._transaction.catalog.table(declaration.name), self._tables.class_spec(table)

    def _locate(self, document_id: str) -> tuple[TableInfo, bytes]:
        return locate(self._transaction.catalog, document_id)


class DatabaseWriter(DatabaseReader):
    """What mutations can do: everything that queries can, and `insert`, `patch`, `replace`, `delete`."""

    @overload
    def insert(self, document: D, /, *, id: str | None = None) -> Id[D]: ...
    @overload
    def insert(self, table: str, document: Mapping[str, Any], /, *, id: str | None = None) -> Id[Any]: ...
    def insert(
        self,
        first: Document | str,
        second: Mapping[str, Any] | None = None,
        /,
        *,
        id: str | None = None,  # noqa: A002  # what users write
    ) -> Id[Any]:
        """
        Add a document.

        Args:
            first: a new instance of a table's class, or the table's name.
            second: the fields, where a name was given.
            id: an id made by the client, of this table.

        Returns:
            The document's id.

        Raises:
            SchemaViolation: it does not fit the table's class.
            IdExists: the id exists, or existed before.
            WrongTable: `id`, or the id in a field, is one of another table.
            InvalidValue: something in it is no value.
            ValueTooLarge: it is over a limit.
        """
        table, document = (first, second) if isinstance(first, str) else (type(first), first)
        if document is None:
            raise InvalidValue(f"insert({table!r}) needs the document too")
        if isinstance(document, Document) and stored_id(document) is not None:
            raise IdExists(f"this document is in the database already: {document.id}; use replace, or make a new one")
        info, spec = self._table(table)
        self._check_writable(info)
        internal = None
        if id is not None:
            number, internal = parse_id(id)
            if number != info.number:
                raise WrongTable(f"{str(id)!r} is not an id of table {info.name!r}", expected=info.name)
        fields = self._fields(spec, document)
        stored = self._transaction.insert(info, fields, internal)
        return Id(DocumentId(info.number, stored.internal).text)

    def patch(self, document_id: Id[Any] | str, /, **fields: Any) -> None:
        """
        Change some fields of a document.

        Args:
            document_id: which one.
            fields: their new values; `tv.UNSET` removes a field (in a typed table, its default takes its place).

        Raises:
            DocumentNotFound: there is none with this id.
            SchemaViolation: the result does not fit the table's class.
            and as `insert`.
        """
        info, internal = self._locate_to_write(document_id)
        stored = self._transaction.get(info, internal)
        if stored is None:
            raise DocumentNotFound(
                f"patch: there is no document {str(document_id)!r} in table {info.name!r}", id=str(document_id)
            )
        for name in fields:
            if name.startswith("_"):
                raise InvalidValue(f"patch cannot change the system's field {name!r}", path=f"$.{name}")
        current = codec.decode_canonical(stored.json)
        assert isinstance(current, dict), current
        merged = {name: value for name, value in (current | fields).items() if value is not UNSET}
        self._put(info, internal, merged)

    @overload
    def replace(self, document_id: Id[D], document: D, /) -> None: ...
    @overload
    def replace(self, document_id: Id[Any] | str, document: Mapping[str, Any], /) -> None: ...
    def replace(self, document_id: str, document: Document | Mapping[str, Any], /) -> None:
        """
        Put another document in the place of one; id and creation time stay.

        Raises:
            DocumentNotFound: there is none with this id.
            WrongTable: the new document is of another table's class.
            and as `insert`.
        """
        info, internal = self._locate_to_write(document_id)
        if isinstance(document, Document):
            declaration = declaration_of(type(document))
            if declaration is None or declaration.name != info.name:
                raise WrongTable(f"a {type(document).__name__} is no document of table {info.name!r}")
            if stored_id(document) not in (None, document_id):
                raise WrongTable(f"replace({str(document_id)!r}) was given the document {document.id!r}")
        if self._transaction.get(info, internal) is None:
            raise DocumentNotFound(
                f"replace: there is no document {str(document_id)!r} in table {info.name!r}", id=str(document_id)
            )
        self._put(info, internal, document)

    def delete(self, document_id: Id[Any] | str, /) -> None:
        """
        Remove a document.

        Raises:
            DocumentNotFound: there is none with this id.
        """
        info, internal = self._locate_to_write(document_id)
        self._transaction.put(info, internal, None)

    def _locate_to_write(self, document_id: str) -> tuple[TableInfo, bytes]:
        info, internal = self._locate(document_id)
        self._check_writable(info)
        return info, internal

    def _check_writable(self, info: TableInfo) -> None:
        if info.name.startswith("_"):
            raise UnknownTable(f"table {info.name!r} is the system's: functions can read it, not write it")

    def _put(self, info: TableInfo, internal: bytes, document: Document | Mapping[str, Any]) -> None:
        self._transaction.put(info, internal, self._fields(self._tables.tables.get(info.name), document))

    def _fields(self, spec: TableSpec | None, document: Document | Mapping[str, Any]) -> dict[str, Any]:
        if spec is None:
            return user_fields(document)
        if isinstance(document, Document) and spec.cls is not None and type(document) is not spec.cls:
            declaration = declaration_of(type(document))
            if declaration is None or declaration.name != spec.name:
                raise SchemaViolation(f"a {type(document).__name__} is no document of table {spec.name!r}")
        return spec.fields(document, self._transaction.catalog)
