"""
The database as functions see it: `ctx.db`.

Reads go through the transaction, which records them. Writes are buffered there until the mutation has returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Never, TypeVar, overload

from msgspec import UNSET

from tinyvex.errors import (
    DocumentNotFound,
    IdExists,
    InvalidId,
    InvalidValue,
    SchemaViolation,
    UnknownTable,
    WrongTable,
)
from tinyvex.functions.schema.document import Document, DocumentMapping, Id, TableDecorator, declaration_of, stored_id
from tinyvex.functions.schema.table_spec import user_fields
from tinyvex.functions.transaction.query_builder import Query, Source
from tinyvex.values import codec
from tinyvex.values.ids import format_id, parse_id
from tinyvex.values.suggestions import unknown_attribute

if TYPE_CHECKING:
    from tinyvex.functions.schema.table_spec import DeclaredTables, TableSpec
    from tinyvex.functions.transaction.execution import Execution
    from tinyvex.functions.transaction.transaction import Transaction
    from tinyvex.storage.log.catalog import Catalog, TableInfo

__all__ = ["DatabaseReader", "DatabaseWriter", "locate"]

D = TypeVar("D", bound=Document)


def locate(catalog: Catalog, document_id: object) -> tuple[TableInfo, bytes]:
    """
    Return the table and the document key of an id.

    Raises:
        InvalidId: the id is malformed.
        UnknownTable: no table has this id's number.
    """
    if not isinstance(document_id, str):
        is_document = isinstance(document_id, (Document, DocumentMapping))
        hint = "a document was given; write its id, `document.id`" if is_document else "an id is a string"
        raise InvalidId(f"`{type(document_id).__name__}` is not an id: {hint}")
    number, document_key = parse_id(document_id)
    table = catalog.table_numbered(number)
    if table is None:
        raise UnknownTable(f"`{document_id}` is not an id of any table of this database")
    return table, document_key


def _not_a_table(given: object) -> str:
    if isinstance(given, type):
        return f"`{given.__name__}` is not a table; decorate its class with `@tv.table(...)`"
    if isinstance(given, TableDecorator):
        return f'a table without a class is given by its name: `"{given.declaration.name}"`'
    return f"a table is given by its class or its name, not by an object of type `{type(given).__name__}`"


class DatabaseReader:
    """The database of a query: `query` and `get`."""

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
            table: its class, for typed documents, or its name, for documents as read-only mappings.

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
        Return the document with this id; None if it does not exist.

        It is an instance of its table's class, or a read-only mapping if the table has no class.

        Raises:
            InvalidId: the id is malformed.
            UnknownTable: no table has this id's number.
        """
        info, document_key = self._locate(document_id)
        stored = self._transaction.get(info, document_key)
        if stored is None:
            return None
        spec = self._tables.spec_of(info.name)
        return DocumentMapping(stored.json) if spec is None else spec.read(stored.json)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Explain that only mutations write."""
            if name in ("insert", "patch", "replace", "delete"):
                raise AttributeError(
                    f"a query cannot write; make it a mutation (`@tv.mutation`) to use `ctx.db.{name}`"
                )
            raise unknown_attribute(self, name)

    def _table(self, table: type[Document] | str) -> tuple[TableInfo, TableSpec | None]:
        catalog = self._transaction.catalog
        if isinstance(table, str):
            spec = self._tables.tables.get(table)
            return catalog.table(table) if spec is None else spec.info(catalog), spec
        declaration = declaration_of(table)
        if declaration is None:
            raise UnknownTable(_not_a_table(table))
        spec = self._tables.class_spec(table)
        return spec.info(catalog), spec

    def _locate(self, document_id: str) -> tuple[TableInfo, bytes]:
        return locate(self._transaction.catalog, document_id)


class DatabaseWriter(DatabaseReader):
    """The database of a mutation: that of a query, and `insert`, `patch`, `replace`, `delete`."""

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
            second: the fields, if a name was given.
            id: an id of this table that the client made; without it, the database makes one.

        Returns:
            The document's id.

        Raises:
            SchemaViolation: the document does not fit the table's class.
            IdExists: the id exists, or existed before.
            WrongTable: `id`, or the id in a field, belongs to another table.
            InvalidValue: a part of the document is not a value.
            ValueTooLarge: the document exceeds a limit.
        """
        table, document = (first, second) if isinstance(first, str) else (type(first), first)
        if isinstance(first, type):
            name = first.__name__
            raise InvalidValue(
                f"`insert` takes a document, not its class; write `ctx.db.insert({name}(field=value, …))`"
            )
        if isinstance(first, Mapping):
            raise InvalidValue('a mapping needs the name of its table; write `ctx.db.insert("table", {…})`')
        if document is None:
            raise InvalidValue(f'`insert("{table}")` needs the fields too: `insert("{table}", {{…}})`')
        if isinstance(document, Document) and stored_id(document) is not None:
            raise IdExists(f"the document `{document.id}` was inserted already; use `replace`, or insert a new one")
        info, spec = self._table(table)
        self._check_writable(info)
        document_key = None
        if id is not None:
            number, document_key = parse_id(id)
            if number != info.number:
                raise WrongTable(f"`{id}` is not an id of table `{info.name}`", expected=info.name)
        fields = self._fields(spec, document)
        stored = self._transaction.insert(info, fields, document_key)
        return Id(format_id(info.number, stored.internal))

    def patch(self, document_id: Id[Any] | str, /, *unnamed: Never, **fields: Any) -> None:
        """
        Change some fields of a document.

        Args:
            document_id: the document's id.
            unnamed: nothing; the fields are given by name.
            fields: the new values; `tv.UNSET` removes a field (in a typed table, its default applies again).

        Raises:
            DocumentNotFound: the document does not exist.
            SchemaViolation: the result does not fit the table's class.
            TinyvexError: as `insert`.
        """
        if unnamed:
            raise InvalidValue(
                "`patch` takes the changed fields by name; write `ctx.db.patch(id, field=value, …)`,"
                " or `ctx.db.patch(id, **fields)` for a mapping"
            )
        info, document_key = self._locate_to_write(document_id)
        stored = self._transaction.get(info, document_key)
        if stored is None:
            raise self._not_found(info, document_id)
        for name in fields:
            if name.startswith("_"):
                raise InvalidValue(f"`patch` cannot change the system field `{name}`", path=f"$.{name}")
        current = codec.decode_canonical(stored.json)
        assert isinstance(current, dict), current
        merged = {name: value for name, value in (current | fields).items() if value is not UNSET}
        self._put(info, document_key, merged)

    @overload
    def replace(self, document_id: Id[D], document: D, /) -> None: ...
    @overload
    def replace(self, document_id: Id[Any] | str, document: Mapping[str, Any], /) -> None: ...
    def replace(self, document_id: str, document: Document | Mapping[str, Any] | None = None, /) -> None:
        """
        Replace a document's fields; its id and creation time stay.

        Raises:
            DocumentNotFound: the document does not exist.
            WrongTable: the new document belongs to another table's class.
            TinyvexError: as `insert`.
        """
        if document is None:
            raise InvalidValue("`replace` takes an id and the new document; write `ctx.db.replace(id, document)`")
        info, document_key = self._locate_to_write(document_id)
        if isinstance(document, Document):
            declaration = declaration_of(type(document))
            if declaration is None or declaration.name_in(self._transaction.catalog) != info.name:
                raise WrongTable(f"`{type(document).__name__}` is not the class of table `{info.name}`")
            if stored_id(document) not in (None, document_id):
                raise WrongTable(
                    f"the document `{document.id}` cannot replace `{document_id}`; insert a copy without an id"
                )
        if self._transaction.get(info, document_key) is None:
            raise self._not_found(info, document_id)
        self._put(info, document_key, document)

    def delete(self, document_id: Id[Any] | str, /) -> None:
        """
        Delete a document.

        Raises:
            DocumentNotFound: the document does not exist.
        """
        info, document_key = self._locate_to_write(document_id)
        self._transaction.put(info, document_key, None)

    def _locate_to_write(self, document_id: str) -> tuple[TableInfo, bytes]:
        info, document_key = self._locate(document_id)
        self._check_writable(info)
        return info, document_key

    def _not_found(self, info: TableInfo, document_id: str) -> DocumentNotFound:
        return DocumentNotFound(f"table `{info.name}` has no document `{document_id}`", id=str(document_id))

    def _check_writable(self, info: TableInfo) -> None:
        if info.name.startswith("_"):
            raise UnknownTable(f"`{info.name}` is a system table; functions can read it, but not write it")

    def _put(self, info: TableInfo, document_key: bytes, document: Document | Mapping[str, Any]) -> None:
        self._transaction.put(info, document_key, self._fields(self._tables.spec_of(info.name), document))

    def _fields(self, spec: TableSpec | None, document: Document | Mapping[str, Any]) -> dict[str, Any]:
        if spec is None:
            return user_fields(document)
        if isinstance(document, Document) and spec.cls is not None and type(document) is not spec.cls:
            declaration = declaration_of(type(document))
            if declaration is None or declaration.name != spec.name:
                raise SchemaViolation(f"`{type(document).__name__}` is not the class of table `{spec.name}`")
        return spec.fields(document, self._transaction.catalog)
