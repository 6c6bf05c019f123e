"""The translation of SQLite's errors to storage errors."""

import sqlite3

import pytest

from tinyvex import errors
from tinyvex.storage.file.sqlite_errors import is_fault_of_one, translate


def reported(code, cls=sqlite3.OperationalError):
    error = cls("the text of SQLite")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_NAME"
    return error


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (sqlite3.SQLITE_FULL, errors.DiskFull),
        (sqlite3.SQLITE_CORRUPT, errors.FileDamaged),
        (sqlite3.SQLITE_CORRUPT_INDEX, errors.FileDamaged),
        (sqlite3.SQLITE_NOTADB, errors.FileDamaged),
        (sqlite3.SQLITE_READONLY, errors.DataFolderUnusable),
        (sqlite3.SQLITE_READONLY_DBMOVED, errors.DataFolderUnusable),
        (sqlite3.SQLITE_CANTOPEN, errors.DataFolderUnusable),
        (sqlite3.SQLITE_IOERR_WRITE, errors.StorageFailed),
        (sqlite3.SQLITE_BUSY, errors.StorageFailed),
    ],
)
def test_each_code_has_its_error(code, cls):
    """Extended codes count as the code that they extend; the message has SQLite's text, the data its name."""
    error = translate(reported(code), "the file")
    assert type(error) is cls
    assert "the text of SQLite" in error.message
    assert "the file" in error.message
    assert error.data == {"sqlite": "SQLITE_NAME"}


def test_an_error_without_a_code_is_a_failure():
    """Errors of Python's binding have no code."""
    assert type(translate(sqlite3.ProgrammingError("closed"))) is errors.StorageFailed


def test_only_constraints_are_the_fault_of_one_record():
    """All other errors concern the shared file."""
    assert is_fault_of_one(reported(sqlite3.SQLITE_CONSTRAINT, sqlite3.IntegrityError))
    assert not is_fault_of_one(reported(sqlite3.SQLITE_FULL))
