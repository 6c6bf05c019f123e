"""Source locations: the line of a declaration, or the line of the app that an exception came from."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from tinyvex.errors import AppInvalid

__all__ = ["Location"]

_PACKAGE = f"{Path(__file__).parents[2]}{os.sep}"
"""The folder of Tinyvex; frames in it are not the app's."""


class Location(Struct, frozen=True):
    """A line of a source file."""

    file: str
    line: int

    def __str__(self) -> str:
        """Return `file:line`; the file is relative to the working directory if it lies below it."""
        file = Path(self.file)
        with suppress(ValueError):
            file = file.relative_to(Path.cwd())
        return f"{file}:{self.line}"

    @classmethod
    def of_error(cls, error: BaseException) -> Location | None:
        """
        Return the line of the app that an exception came from: the last one before Tinyvex's own code.

        None if no frame of the traceback is the app's.
        """
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            trace = trace.tb_next
        if trace is None:
            return None
        while trace.tb_next is not None and not trace.tb_next.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            trace = trace.tb_next
        return cls(trace.tb_frame.f_code.co_filename, trace.tb_lineno)

    def invalid(self, problem: str) -> AppInvalid:
        """Return the error that reports a problem of the declaration here."""
        return AppInvalid(f"{self}: {problem}", file=self.file, line=self.line)
