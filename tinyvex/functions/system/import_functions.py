"""
Importing documents, by mutations that only an administrator can call.

An import is `import_begin`, any number of `import_rows`, then `import_finish` or `import_abandon`;
`storage/schema/table_replacement.py` explains the tablets behind it. Each step has an exactly-once record,
so a client that lost its connection continues with the step that it did not see answered.

Rows travel as JSON lines in one string, so that the limits of values apply to each document and not to the message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import inspect

from tinyvex.errors import ImportRefused, InvalidId, TinyvexError
from tinyvex.functions.schema.document import SYSTEM_FIELDS, is_identifier
from tinyvex.functions.schema.int64_fields import as_annotated, types_at, types_of
from tinyvex.functions.schema.table_spec import user_fields
from tinyvex.functions.system.system_context import SystemMutationCtx
from tinyvex.limits import DOCUMENT_BYTES_MAX, IMPORT_LINE_PROBLEMS_MAX
from tinyvex.storage.log.catalog import Catalog
from tinyvex.storage.log.commit_record import CommitRecord
from tinyvex.storage.log.operations import FillTablet, Write
from tinyvex.storage.schema import table_replacement
from tinyvex.storage.schema.tablets import Tablet
from tinyvex.values import codec
from tinyvex.values.ids import DocumentId, parse_id
from tinyvex.values.timestamps import creation_time, next_creation_time

if TYPE_CHECKING:
    from tinyvex.functions.schema.table_spec import TableSpec

__all__ = ["IMPORT_MUTATIONS"]

Style: TypeAlias = Literal["stored", "written", "text"]
"""
The form of the rows. `stored`: as an export wrote them; they are stored as they are.
`written`: as people write them; defaults are filled in, and numbers are coerced to the types of the table's class.
`text`: as `written`, with each field a string, as in CSV; the class decides which strings are numbers.
"""

_INTEGER = re.compile(r"-?[1-9][0-9]*")
_MANY_DIGITS = re.compile(r"[0-9]{16}")
"""Numbers beyond the range of plain numbers have at least as many digits."""


def import_begin(
    ctx: SystemMutationCtx,
    mode: Literal["empty", "append", "replace", "replaceAll"],
    tables: list[tuple[str, int | None]],
) -> dict[str, Any]:
    """
    Begin an import into these tables, each with the table number in its documents' ids if that is known.

    Returns:
        `import`, the import's id for the other calls, and `tablets`, one for each table that will change.

    Raises:
        ImportRefused: a table has an impossible name, has documents, or its number belongs to another table.
    """
    names = [name for name, _ in tables]
    for name in names:
        if not is_identifier(name):
            raise ImportRefused(
                f"`{name}` cannot be a table name: use letters, digits and `_`, beginning with a letter", table=name
            )
    if len(set(names)) < len(names):
        raise ImportRefused("a table is named twice; name each table once")
    begun = table_replacement.begin(ctx.snapshot, ctx.ts, mode, dict(tables))
    ctx.commit(begun.record)
    return {"import": begun.value.import_id, "tablets": list(begun.value.tablets.items())}


def import_rows(
    ctx: SystemMutationCtx, import_id: str, table: str, lines: str, style: Style = "stored"
) -> list[tuple[int, str]]:
    """
    Add documents to one table of an import, one JSON object on each line.

    Returns:
        The problems: line numbers, from 0, and one sentence for each problem. Lines with problems are left out.

    Raises:
        ImportRefused: the import was abandoned or does not have this table, or the table's class has changed or is missing.
    """
    tablets = table_replacement.filling(ctx.snapshot, import_id)
    target = next((tablet for tablet in tablets if tablet.table.name == table), None)
    if target is None:
        raise ImportRefused(f"`{table}` is not a table of this import", table=table)
    table_replacement.require_class(ctx.snapshot, target)
    if target.table.fingerprint is not None and table not in ctx.app.tables:
        raise ImportRefused(
            f"an app declares table `{table}` and must validate its documents; name the app with --app", table=table
        )
    reader = _RowReader(ctx, target, _future_catalog(ctx, tablets), style)
    writes: list[Write] = []
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(lines.split("\n")):
        if line.strip():
            try:
                writes.append(reader.write(line))
            except _RowProblems as error:
                problems += [(number, problem) for problem in error.reported()]
    if writes:
        ctx.commit(CommitRecord(ctx.ts, (FillTablet(tuple(writes)),)))
    return problems


def import_finish(ctx: SystemMutationCtx, import_id: str) -> None:
    """
    Publish the imported contents of all tables in one commit.

    Raises:
        ImportRefused: the import was abandoned, or a table has changed so that the import no longer fits it.
        IdExists: a table has received a document with an id of the import.
    """
    ctx.commit(table_replacement.finish(ctx.snapshot, ctx.ts, import_id).record)


def import_abandon(ctx: SystemMutationCtx, import_id: str) -> None:
    """
    Discard an import; the tables keep their contents.

    Raises:
        ImportRefused: it was abandoned before, or has finished.
    """
    ctx.commit(table_replacement.abandon(ctx.snapshot, ctx.ts, import_id).record)


IMPORT_MUTATIONS = (import_begin, import_rows, import_finish, import_abandon)


def _future_catalog(ctx: SystemMutationCtx, tablets: list[Tablet]) -> Catalog:
    """Return the catalog as of the end of the import: ids in the documents have the tables' new numbers."""
    catalog = ctx.snapshot.catalog
    tables = {table.name: table for table in catalog.tables() if not table.name.startswith("_")}
    tables |= {tablet.table.name: tablet.table for tablet in tablets}
    return Catalog(catalog.ts, tables.values())


class _RowProblems(Exception):
    """A line is not a document of its table."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def reported(self) -> list[str]:
        """Return the first problems and the count of the others: those of all lines must fit into one result."""
        more = len(self.problems) - IMPORT_LINE_PROBLEMS_MAX
        first = self.problems[:IMPORT_LINE_PROBLEMS_MAX]
        return [*first, f"and {more} more problems"] if more > 0 else first


class _RowReader:
    """Turns lines into writes, for one table."""

    def __init__(self, ctx: SystemMutationCtx, target: Tablet, catalog: Catalog, style: Style) -> None:
        self._ctx = ctx
        self._table = target.table
        self._spec = ctx.app.tables.get(target.table.name)
        self._catalog = catalog
        self._style = style
        cls = None if self._spec is None else self._spec.cls
        self._types = [] if cls is None else types_of(cls)
        self._seen: set[bytes] = set()
        self._creation_time = creation_time(ctx.ts)
        # Appended documents go to the table's tablet in the end, so their ids must be new there as well.
        self._appended_to = ctx.snapshot.catalog.table(target.table.name).tablet if target.append else None

    def write(self, line: str) -> Write:
        """
        Return the write that adds a line's document.

        Raises:
            _RowProblems: the line is not a document of the table.
        """
        try:
            _refuse_many_values(line)
            document = _decode(line, self._types)
            if not isinstance(document, dict):
                raise _RowProblems(["a document must be a JSON object"])
            if self._style == "text":
                document = _parse_system_cells(document)
            text, document_key, created = self._identity(document)
            fields = self._fields(user_fields(document))
            fields["_creationTime"] = created
            fields["_id"] = text
            if self._style == "stored" and self._spec is not None:
                problems, indexed = self._spec.examine(fields, self._catalog)
                if problems:
                    raise _RowProblems(problems)
                fields |= indexed
            write = table_replacement.write_of(self._table, document_key, fields)
        except TinyvexError as error:
            raise _RowProblems([error.message]) from None
        assert write.json is not None
        if len(write.json) > DOCUMENT_BYTES_MAX:
            raise _RowProblems([f"the document has {len(write.json)} bytes; the limit is {DOCUMENT_BYTES_MAX}"])
        self._seen.add(document_key)
        return write

    def _identity(self, document: Mapping[str, Any]) -> tuple[str, bytes, float]:
        """Return the id, its document key and the creation time, each as given or fresh."""
        created = document.get("_creationTime")
        if created is None:
            created = self._creation_time = next_creation_time(self._creation_time)
        elif type(created) not in (int, float) or not 0 <= created < 2**53:
            raise _RowProblems(["$._creationTime: must be milliseconds since the epoch"])
        if "_id" not in document:
            document_key = self._ctx.new_document_key()
            return DocumentId(self._table.number, document_key).text, document_key, created
        text = document["_id"]
        if not isinstance(text, str):
            raise _RowProblems(["$._id: an id must be a string"])
        return text, self._given_key(text), created

    def _given_key(self, text: str) -> bytes:
        """Return the document key of a given id, which must be new and of this table."""
        try:
            number, document_key = parse_id(text)
        except InvalidId as error:
            raise _RowProblems([f"$._id: {error.message}"]) from None
        if number != self._table.number:
            other = self._catalog.table_numbered(number)
            owner = "an unknown table" if other is None else f"table `{other.name}`"
            raise _RowProblems(
                [
                    f"$._id: an id of {owner} (number {number}); table `{self._table.name}` has number {self._table.number}"
                ]
            )
        snapshot = self._ctx.snapshot
        if document_key in self._seen or snapshot.existed(self._table.tablet, document_key):
            raise _RowProblems([f"$._id: `{text}` occurs twice"])
        if self._appended_to is not None and snapshot.existed(self._appended_to, document_key):
            raise _RowProblems([f"$._id: `{text}` exists already, or existed before"])
        return document_key

    def _fields(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return a document's own fields as they are stored."""
        spec = self._spec
        if self._style == "text":
            given = {name: value for name, text in given.items() for value in _parse_cell(spec, name, text)}
        if self._style == "stored" or spec is None or spec.cls is None:
            return given
        problems = spec.problems(given, self._catalog)
        if problems:
            raise _RowProblems(problems)
        return spec.fields(given, self._catalog)


def _refuse_many_values(line: str) -> None:
    """
    Refuse a line whose punctuation alone exceeds a document, before it is decoded: a value takes many times its text.

    Each of these characters is in the stored document as well; white space and escapes, which lines may have, are not.
    """
    if len(line) > DOCUMENT_BYTES_MAX and sum(map(line.count, ',[]{}"')) > DOCUMENT_BYTES_MAX:
        raise _RowProblems([f"the document is too long; the limit is {DOCUMENT_BYTES_MAX} bytes"])


def _decode(text: str, types: Sequence[inspect.Type]) -> Any:
    """
    Decode JSON; digits in the place of an `Int64` may exceed the range of plain numbers.

    Raises:
        TinyvexError: it is not JSON, or not a value.
    """
    builtins = codec.parse(text)
    return codec.unwrap(as_annotated(builtins, types) if types and _MANY_DIGITS.search(text) else builtins)


def _parse_system_cells(cells: dict[str, Any]) -> dict[str, Any]:
    """Return the cells of a CSV row with the creation time as a number, and without empty system fields."""
    parsed = {name: text for name, text in cells.items() if text or name not in SYSTEM_FIELDS}
    if isinstance(created := parsed.get("_creationTime"), str):
        parsed["_creationTime"] = _json_or_text(created)
    return parsed


def _parse_cell(spec: TableSpec | None, name: str, text: Any) -> Iterator[Any]:
    """
    Yield the value of a CSV cell, or nothing if it is empty and the field does not accept a string.

    With a class: the text itself if the field accepts it, otherwise the text parsed as JSON.
    Without a class: a number if the text is one, otherwise the text.
    """
    if not isinstance(text, str):
        raise _RowProblems([f"$.{name}: must be a string in style `text`"])
    if spec is not None and spec.cls is not None:
        if spec.takes(name, text):
            yield text
        elif text:
            yield _json_or_text(text, types_at(spec.cls, name))
        return
    value = _json_or_text(text)
    if value is text and _INTEGER.fullmatch(text):
        problem = f"$.{name}: `{text[:40]}` is too large for a plain number"
        raise _RowProblems([f"{problem}; declare a class for the table whose field is a `str` or an `Int64`"])
    yield value if isinstance(value, int | float) and not isinstance(value, bool) else text


def _json_or_text(text: str, types: Sequence[inspect.Type] = ()) -> Any:
    try:
        return _decode(text, types)
    except TinyvexError:
        return text
