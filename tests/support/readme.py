"""The programs in the README and the recipes, as files."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
_BLOCK = re.compile(r"<!-- file: (?P<name>\S+) -->\n```\w+\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def programs(document: Path = README) -> dict[str, str]:
    """Return their texts by file name, verbatim."""
    return {match["name"]: match["text"] for match in _BLOCK.finditer(document.read_text(encoding="utf-8"))}


def write_programs(folder: Path) -> None:
    """Write all of them into a folder."""
    for name, text in programs().items():
        (folder / name).write_text(text, encoding="utf-8")
