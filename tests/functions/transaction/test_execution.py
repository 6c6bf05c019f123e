"""The record of one execution: its log lines."""

from tinyvex.functions.transaction.execution import Execution
from tinyvex.functions.transaction.read_set import ReadSet
from tinyvex.limits import LOG_LINE_LENGTH_MAX, LOG_LINES_MAX


def test_log_lines_are_bounded() -> None:
    """Beyond the limit, the last line counts the dropped ones."""
    execution = Execution(ReadSet())
    for number in range(LOG_LINES_MAX + 9):
        execution.log("INFO", str(number))
    assert len(execution.log_lines) == LOG_LINES_MAX
    assert execution.log_lines[-1] == "[WARN] 10 more lines were dropped"


def test_long_log_lines_are_cut() -> None:
    """The cut line names its length."""
    execution = Execution(ReadSet())
    execution.log("INFO", "x" * 10 * LOG_LINE_LENGTH_MAX)
    assert len(execution.log_lines[0]) < LOG_LINE_LENGTH_MAX + 50
    assert execution.log_lines[0].endswith(f"({10 * LOG_LINE_LENGTH_MAX} characters)")


def test_a_lone_surrogate_is_escaped() -> None:
    """It cannot be sent as UTF-8."""
    execution = Execution(ReadSet())
    execution.log("INFO", "half: \ud83d")
    assert execution.log_lines == ["[INFO] half: \\ud83d"]
