"""The record of one execution: what it read, logged and observed besides its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from tinyvex.functions.transaction.context_ended import ContextEnded
from tinyvex.limits import LOG_LINE_LENGTH_MAX, LOG_LINES_MAX
from tinyvex.values.types import Value

if TYPE_CHECKING:
    from tinyvex.functions.transaction.range_cache import RangeCache
    from tinyvex.functions.transaction.read_set import ReadSet

__all__ = ["KIND_WITH_ARTICLE", "Execution", "FunctionKind", "Identity"]

FunctionKind: TypeAlias = Literal["query", "mutation", "action"]

KIND_WITH_ARTICLE: dict[FunctionKind, str] = {"query": "a query", "mutation": "a mutation", "action": "an action"}
"""For messages."""

Identity: TypeAlias = Mapping[str, Value] | None
"""The claims of the caller's identity; None for an anonymous caller."""


class Execution:
    """
    The side results of one execution.

    Args:
        echo: called with each line as it is logged, except for lines beyond the limit.

    Attributes:
        reads: the keys it observed.
        range_cache: serves its scans from the previous execution of the same live query; None outside live queries.
        log_lines: its log and that of the functions it called, at most `LOG_LINES_MAX` lines.
        read_auth: whether it accessed `ctx.auth`; its result then belongs to one identity.
        read_now: whether it accessed `ctx.now`; running it again may then return another result.
        journal: the cursor at which its first page ends. An execution that is given one ends the page at the same
            row, so that consecutive pages stay adjacent.
        paginated: whether `paginate` was called; only the first call uses the journal.
        ended: whether the function has returned or raised; its context is unusable from then on.
    """

    __slots__ = (
        "_echo", "dropped_lines", "ended", "journal", "log_lines", "paginated", "range_cache", "read_auth", "read_now",
        "reads",
    )  # fmt: skip

    def __init__(
        self,
        reads: ReadSet,
        *,
        journal: str | None = None,
        range_cache: RangeCache | None = None,
        echo: Callable[[str], None] | None = None,
    ) -> None:
        self.reads = reads
        self._echo = echo
        self.range_cache = range_cache
        self.log_lines: list[str] = []
        self.dropped_lines = 0
        self.read_auth = False
        self.read_now = False
        self.journal = journal
        self.paginated = False
        self.ended = False

    def require_running(self) -> None:
        """
        Check that the function is still running.

        Raises:
            ContextEnded: it has ended.
        """
        if self.ended:
            raise ContextEnded

    def log(self, level: str, text: str) -> None:
        """Append a log line; beyond the limit, the last line counts the dropped ones."""
        text = text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate cannot be sent
        if len(text) > LOG_LINE_LENGTH_MAX:
            text = f"{text[:LOG_LINE_LENGTH_MAX]}… ({len(text)} characters)"
        line = f"[{level}] {text}"
        if self._append(line) and self._echo is not None:
            self._echo(line)

    def include(self, lines: Iterable[str]) -> None:
        """Append the log lines of a called function."""
        for line in lines:
            self._append(line)

    def _append(self, line: str) -> bool:
        """Append a line; return whether there was room for it."""
        if len(self.log_lines) < LOG_LINES_MAX - 1:
            self.log_lines.append(line)
            return True
        if self.dropped_lines == 0:
            self.log_lines.append("")
        self.dropped_lines += 1
        self.log_lines[-1] = f"[WARN] {self.dropped_lines} more lines were dropped"
        return False
