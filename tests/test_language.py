"""The cheapest rules of the project's English: openings of docstrings, and words that hide the actor or are archaic."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

SOURCES = ("tinyvex/**/*.py", "bench/**/*.py", "examples/**/*.py")
TESTS = ("tests/**/*.py",)
DOCUMENTS = ("*.md", "docs/**/*.md", "protocol/**/*.md", "bench/**/*.md", "examples/**/*.md", "tests/*.md")

OPENINGS = re.compile(r"(?:What|Who|Whose|Whether|How|Where|Of|It|One)\b")
"""A docstring begins with a verb or a noun phrase; a predicate begins with "Return whether"."""

OPENINGS_OF_TESTS = re.compile(r"(?:What|Who|Whose|Whether|How|Where|Of)\b")
"""The docstring of a test states a fact, so it may have any subject."""

WORDS: dict[str, re.Pattern[str]] = {
    "name the actor: client, caller, reader, process": re.compile(
        r"\b(?:no|some|any|every)body\b|\bwhoever\b", re.IGNORECASE
    ),
    "write again, forever, recently, in any case, to no effect": re.compile(
        r"\b(?:anew|for ever|of late|all the same|in vain)\b", re.IGNORECASE
    ),
    'write "is not a" or "has no"': re.compile(
        r"(?<!there )\b(?:is|are|was|were|be) no (?!longer\b|more than\b|less than\b|later than\b|fewer than\b|reason\b)\w+",
        re.IGNORECASE,
    ),
    "write snapshot, timestamp, as of": re.compile(r"\bmoments?\b", re.IGNORECASE),
    "write evict, abandon, release": re.compile(r"\bg(?:ive|ives|ave|iven|iving) (?:\w+ )?up\b", re.IGNORECASE),
    "write next to, alongside, in addition to": re.compile(r"\bbeside\b", re.IGNORECASE),
}
"""Words that no text of the project has, by what to write instead."""


class Text(NamedTuple):
    """A docstring, a message, a comment or a line of a document."""

    path: Path
    line: int
    text: str
    is_docstring: bool


def is_test(path: Path) -> bool:
    return path.is_relative_to(ROOT / "tests")


def texts_of_source(path: Path) -> Iterator[Text]:
    """Yield the docstrings, messages and comments of a source file; of a test, whose strings are data, no messages."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source, str(path))
    # This includes strings below attributes and constants, which Python does not treat as docstrings.
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            is_docstring = id(node) in docstrings
            if is_docstring or not is_test(path):
                yield Text(path, node.lineno, node.value.strip(), is_docstring=is_docstring)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Text(path, token.start[0], token.string, is_docstring=False)


def prose(path: Path) -> Iterator[Text]:
    """Yield the lines of a document outside its code blocks, without inline code."""
    in_code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        in_code ^= line.lstrip().startswith("```")
        if not in_code:
            yield Text(path, number, re.sub(r"`[^`]*`", "``", line), is_docstring=False)


@cache
def texts() -> tuple[Text, ...]:
    sources = [path for pattern in (*SOURCES, *TESTS) for path in sorted(ROOT.glob(pattern))]
    documents = [path for pattern in DOCUMENTS for path in sorted(ROOT.glob(pattern))]
    in_sources = [text for path in sources for text in texts_of_source(path)]
    return (*in_sources, *(text for path in documents for text in prose(path)))


def folder(path: Path) -> str:
    """Return the folder of a file, relative to the root, or the file itself if it is there."""
    inside = path.relative_to(ROOT)
    return (inside.parent if inside.parent != Path() else inside).as_posix()


def offences(text: Text) -> Iterator[str]:
    location = f"{text.path.relative_to(ROOT)}:{text.line}"
    openings = OPENINGS_OF_TESTS if is_test(text.path) else OPENINGS
    if text.is_docstring and openings.match(text.text):
        yield f"{location}: begin with a verb or a noun phrase: {text.text.splitlines()[0]}"
    for remedy, pattern in WORDS.items():
        for match in pattern.finditer(text.text):
            yield f"{location}: {remedy}: {match[0]!r}"


@cache
def offences_by_folder() -> dict[str, list[str]]:
    offending: dict[str, list[str]] = {}
    for text in texts():
        offending.setdefault(folder(text.path), []).extend(offences(text))
    return offending


@pytest.mark.parametrize("name", sorted(offences_by_folder()))
def test_texts_are_plain_english(name: str) -> None:
    """No docstring opens with a question word, and no text has a banned word."""
    assert offences_by_folder()[name] == []


@pytest.mark.parametrize(
    "sentence",
    [
        "Nobody of the group has anything.",
        "Begin the log anew.",
        "The key is no text.",
        "A reader beside the writer.",
        "The state of that moment.",
        "The result was given up.",
    ],
)
def test_a_banned_word_is_found(sentence: str) -> None:
    """The patterns match the sentences that they are meant for."""
    assert list(offences(Text(ROOT / "README.md", 1, sentence, is_docstring=False))) != []


@pytest.mark.parametrize(
    "sentence", ["It is no longer sent.", "There is no file.", "Besides, it is read once.", "That is no reason."]
)
def test_plain_sentences_pass(sentence: str) -> None:
    """The patterns match no plain sentence."""
    assert list(offences(Text(ROOT / "README.md", 1, sentence, is_docstring=False))) == []


def test_an_opening_with_a_question_word_is_found() -> None:
    """Question words are refused in docstrings only: a heading of a document may ask."""
    for is_docstring in (True, False):
        text = Text(ROOT / "README.md", 1, "How to begin", is_docstring=is_docstring)
        assert bool(list(offences(text))) is is_docstring
