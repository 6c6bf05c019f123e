"""The programs that the README and the recipes show, as files."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
_BLOCK = re.compile(r"<!-- file: (?P<name>\S+) -->\n```\w+\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def programs(document: Path = README) -> dict[str, str]:
    """Their texts by file name, exactly as they stand there."""
    return {match["name"]: match["text"] for match in _BLOCK.finditer(document.read_text(encoding="utf-8"))}


def write_programs(folder: Path) -> None:
    """Put them all into a folder."""
    for name, text in programs().items():
        (folder / name).write_text(text, encoding="utf-8")
