"""
Check that documents fit the schemas that are stored with their tables.

A schema is a field of the table's document in `_tables`, so the log has the former schemas with the timestamps at which
they were adopted. A schema change validates the documents of that time, and a write is validated against the newest
schema. A revision therefore fits every schema that was the newest during its life. It is compared with the last of them.

A former schema is purged with the other revisions that no readable timestamp can see. A table without a class has none,
and neither has one whose class no process has adopted since the file was written by a version that stored none.

The tables of ids are compared in the newest revisions only. The table of an older id may have been dropped, so an id of a
table that does not exist any more has no problem.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, cast

from tinyvex.errors import InvalidValue
from tinyvex.storage.file import statements
from tinyvex.storage.file.database_file import FIRST_TABLE_NUMBER
from tinyvex.storage.log.catalog import Catalog
from tinyvex.storage.log.system_tablets import TABLES_TABLET
from tinyvex.storage.maintenance.check_indexes import NO_END
from tinyvex.values.codec import decode_canonical
from tinyvex.values.stored_schema import StoredSchema
from tinyvex.values.types import Value

__all__ = ["SchemaHistory"]


class SchemaHistory:
    """
    The stored schemas of each tablet.

    Args:
        connection: a connection with an open transaction.
        catalog: the newest catalog.
        next_table_number: the number of the next table; lower ones may be of dropped tables.

    Raises:
        FileDamaged: the catalog cannot be read.
    """

    def __init__(self, connection: sqlite3.Connection, catalog: Catalog, next_table_number: int) -> None:
        self._catalog = catalog
        self._next_table_number = next_table_number
        self._adopted: dict[int, list[int]] = {}
        self._schemas: dict[int, list[str | None]] = {}
        self._validators: dict[str, StoredSchema | str] = {}
        for _, ts, data in connection.execute(statements.CHECK_REVISIONS_OF, (TABLES_TABLET,)):
            if data is not None:
                fields = cast("dict[str, Any]", decode_canonical(data))
                self._adopted.setdefault(fields["tablet"], []).append(ts)
                self._schemas.setdefault(fields["tablet"], []).append(fields.get("schema"))

    def problem(self, tablet: int, document: Mapping[str, Value], until: int = NO_END) -> str | None:
        """
        Return the problem of a revision; None if it has none, or if its schema is not known.

        Args:
            tablet: of the document.
            document: the contents of the revision.
            until: the `ts` of the next revision; NO_END for the newest.
        """
        position = bisect_left(self._adopted.get(tablet, ()), until)
        schema = self._schemas[tablet][position - 1] if position else None
        if schema is None:
            return None
        validator = self._validators.get(schema)
        if validator is None:
            validator = self._validators[schema] = _validator(schema)
        if isinstance(validator, str):
            return validator
        is_newest = until == NO_END and self._catalog.tablet(tablet) is not None
        return validator.problem(document, self._wrong_table if is_newest else _no_problem)

    def _wrong_table(self, number: int, tables: tuple[str, ...]) -> str | None:
        was_dropped = FIRST_TABLE_NUMBER <= number < self._next_table_number
        if was_dropped and self._catalog.table_numbered(number) is None:
            return None
        return self._catalog.wrong_table(number, tables)


def _validator(schema: str) -> StoredSchema | str:
    try:
        return StoredSchema(schema)
    except InvalidValue as error:
        return error.message


def _no_problem(_number: int, _tables: tuple[str, ...]) -> str | None:
    return None
