"""
Importing documents, as mutations that only an administrator can call.

`import_begin`, any number of `import_rows`, then `import_finish` or `import_abandon`; see `storage/schema/table_replacement.py`.
Each is a mutation with an exactly-once record, so a client that lost its connection goes on where it was.

Rows come as JSON lines in one string: so the limits of values hold for each document, and not for the message around them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tinyvex.errors import ImportRefused, InvalidId, TinyvexError
from tinyvex.functions.schema.document import is_identifier
from tinyvex.functions.schema.table_spec import user_fields
from tinyvex.functions.transaction.context import MutationCtx
from tinyvex.limits import DOCUMENT_BYTES_MAX, IMPORT_LINE_PROBLEMS_MAX
from tinyvex.storage.log.catalog import Catalog
from tinyvex.storage.log.commit_record import CommitRecord, Outcome, Write
from tinyvex.storage.schema import table_replacement
from tinyvex.storage.schema.tablets import Tablet
from tinyvex.values import codec
from tinyvex.values.ids import DocumentId, new_internal, parse_id
from tinyvex.values.timestamps import creation_time, next_creation_time

if TYPE_CHECKING:
    from tinyvex.functions.app.registry import App
    from tinyvex.functions.schema.table_spec import TableSpec
    from tinyvex.functions.transaction.transaction import Transaction

__all__ = ["IMPORT_FUNCTIONS"]

Style: TypeAlias = Literal["stored", "written", "text"]
"""
How rows are to be taken: as an export wrote them, which is what is stored;
as people write them, so that defaults are filled in and numbers become what the table's class says;
or as text, as in CSV, where that also says what is a number.
"""


def import_begin(
    ctx: MutationCtx, mode: Literal["empty", "append", "replace", "replaceAll"], tables: list[tuple[str, int | None]]
) -> dict[str, Any]:
    """
    Begin an import into these tables, each with the number that its documents' ids have, where it is known.

    Returns:
        `import`, for the other calls, and `tablets`, one for each table that will change.

    Raises:
        ImportRefused: a table's name is impossible, it has documents, or its number is another table's.
    """
    transaction = _transaction(ctx)
    names = [name for name, _ in tables]
    for name in names:
        if not is_identifier(name):
            raise ImportRefused(f"{name!r} cannot be a table's name", table=name)
    if len(set(names)) < len(names):
        raise ImportRefused("a table is named twice")
    begun = table_replacement.begin(transaction.snapshot, transaction.ts, mode, dict(tables))
    transaction.system = Outcome(None, begun.record, begun.then)
    return {"import": begun.value.import_id, "tablets": list(begun.value.tablets.items())}


def import_rows(
    ctx: MutationCtx, import_id: str, table: str, lines: str, style: Style = "stored"
) -> list[tuple[int, str]]:
    """
    Add documents to one table of an import, one JSON object on each line.

    Returns:
        What is wrong: line numbers, from 0, and one sentence for each problem. Such lines are left out.

    Raises:
        ImportRefused: the import was given up, has no such table, or that has another class by now.
    """
    transaction = _transaction(ctx)
    tablets = table_replacement.filling(transaction.snapshot, import_id)
    target = next((tablet for tablet in tablets if tablet.table.name == table), None)
    if target is None:
        raise ImportRefused(f"this import has no table {table!r}", table=table)
    table_replacement.require_class(transaction.snapshot, target)
    app = ctx.db._app  # noqa: SLF001 - nor with the app
    rows = _Rows(transaction, app, target, _future(transaction, tablets), style)
    writes: list[Write] = []
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(lines.split("\n")):
        if line.strip():
            try:
                writes.append(rows.write(line))
            except _RowProblems as found:
                problems += [(number, problem) for problem in found.shown()]
    transaction.system = Outcome(None, CommitRecord(transaction.ts, tuple(writes), unseen=True) if writes else None)
    return problems


def import_finish(ctx: MutationCtx, import_id: str) -> None:
    """
    Let the tables have what was imported, all at once.

    Raises:
        ImportRefused: the import was given up, or a table changed meanwhile so that it does not fit any more.
        IdExists: a table got a document with an id of the import meanwhile.
    """
    transaction = _transaction(ctx)
    transaction.system = table_replacement.finish(transaction.snapshot, transaction.ts, import_id)


def import_abandon(ctx: MutationCtx, import_id: str) -> None:
    """
    Give an import up; nothing was changed.

    Raises:
        ImportRefused: it was given up before, or has finished.
    """
    transaction = _transaction(ctx)
    transaction.system = table_replacement.abandon(transaction.snapshot, transaction.ts, import_id)


IMPORT_FUNCTIONS = (import_begin, import_rows, import_finish, import_abandon)


def _transaction(ctx: MutationCtx) -> Transaction:
    return ctx.db._transaction  # noqa: SLF001 - users have no business with the transaction; the system does


def _future(transaction: Transaction, tablets: list[Tablet]) -> Catalog:
    """The catalog as it will be: ids in the documents are of the tables' new numbers."""
    tables = {table.name: table for table in transaction.catalog.tables() if not table.name.startswith("_")}
    tables |= {tablet.table.name: tablet.table for tablet in tablets}
    return Catalog(transaction.catalog.ts, tables.values())


class _RowProblems(Exception):
    """A line that is no document of its table."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def shown(self) -> list[str]:
        """As many as are told, and how many there are beside those: all of a step's must fit into its result."""
        more = len(self.problems) - IMPORT_LINE_PROBLEMS_MAX
        told = self.problems[:IMPORT_LINE_PROBLEMS_MAX]
        return [*told, f"and {more} more problems"] if more > 0 else told


class _Rows:
    """Lines to writes, for one table."""

    def __init__(self, transaction: Transaction, app: App, target: Tablet, catalog: Catalog, style: Style) -> None:
        self._transaction = transaction
        self._table = target.table
        self._spec = app.tables.get(target.table.name)
        self._catalog = catalog
        self._style = style
        self._seen: set[bytes] = set()
        self._creation_time = creation_time(transaction.ts)
        # Where documents are appended, their ids must be new there, too.
        self._also = transaction.catalog.table(target.table.name).tablet if target.append else None

    def write(self, line: str) -> Write:
        """
        The document of a line.

        Raises:
            _RowProblems: it is none.
        """
        try:
            document = codec.decode(line)
            if not isinstance(document, dict):
                raise _RowProblems(["a document is a JSON object"])
            text, internal, created = self._identity(document)
            fields = self._fields(user_fields(document))
            fields["_creationTime"] = created
            fields["_id"] = text
            if self._style == "stored" and self._spec is not None:
                problems, indexed = self._spec.examine(fields, self._catalog)
                if problems:
                    raise _RowProblems(problems)
                fields |= indexed
            write = table_replacement.write_of(self._table, internal, fields)
        except TinyvexError as error:
            raise _RowProblems([error.message]) from None
        assert write.json is not None
        if len(write.json) > DOCUMENT_BYTES_MAX:
            raise _RowProblems([f"the document has {len(write.json)} bytes; the limit is {DOCUMENT_BYTES_MAX}"])
        self._seen.add(internal)
        return write

    def _identity(self, document: Mapping[str, Any]) -> tuple[str, bytes, float]:
        """The id, its own part of it, and the creation time; given or new."""
        created = document.get("_creationTime")
        if created is None:
            created = self._creation_time = next_creation_time(self._creation_time)
        elif type(created) not in (int, float) or not 0 <= created < 2**53:
            raise _RowProblems(["$._creationTime: milliseconds since the epoch"])
        if "_id" not in document:
            internal = new_internal(self._transaction.ts, self._transaction.random)
            return DocumentId(self._table.number, internal).text, internal, created
        text = document["_id"]
        if not isinstance(text, str):
            raise _RowProblems(["$._id: an id is a string"])
        try:
            number, internal = parse_id(text)
        except InvalidId as error:
            raise _RowProblems([f"$._id: {error.message}"]) from None
        if number != self._table.number:
            other = self._catalog.table_numbered(number)
            whose = "no table here" if other is None else f"table {other.name!r}"
            raise _RowProblems([f"$._id: an id of {whose}, number {number}; this table's is {self._table.number}"])
        if internal in self._seen or self._exists(internal):
            raise _RowProblems([f"$._id: {text} is there twice"])
        if self._also is not None and self._transaction.snapshot.existed(self._also, internal):
            raise _RowProblems([f"$._id: {text} exists already, or existed before"])
        return text, internal, created

    def _exists(self, internal: bytes) -> bool:
        return self._transaction.snapshot.existed(self._table.tablet, internal)

    def _fields(self, given: dict[str, Any]) -> dict[str, Any]:
        """A document's own fields as they are stored."""
        spec = self._spec
        if self._style == "text":
            given = {name: value for name, text in given.items() for value in _read_text(spec, name, text)}
        if self._style == "stored" or spec is None or spec.cls is None:
            return given
        problems = spec.problems(given, self._catalog)
        if problems:
            raise _RowProblems(problems)
        return spec.fields(given, self._catalog)


def _read_text(spec: TableSpec | None, name: str, text: Any) -> Iterator[Any]:
    """
    What a cell of text stands for, or nothing where it is empty and the field is no text.

    With a class, whatever its field takes: the text itself, else what it says as JSON. Without one, a number or the text.
    """
    if not isinstance(text, str):
        raise _RowProblems([f"$.{name}: as text it must be a string"])
    if spec is not None and spec.cls is not None:
        if spec.takes(name, text):
            yield text
        elif text:
            yield _json_or_text(text)
        return
    value = _json_or_text(text)
    yield value if isinstance(value, int | float) and not isinstance(value, bool) else text


def _json_or_text(text: str) -> Any:
    try:
        return codec.decode(text)
    except TinyvexError:
        return text
