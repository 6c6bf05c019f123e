"""
Documents, names and access patterns from a seed.

Every function takes the random generator to use, so the caller decides what repeats.
"""

from __future__ import annotations

import itertools
import random
from bisect import bisect_left
from collections.abc import Iterator

__all__ = ["body", "document", "large_document", "uniform", "zipf"]

WORDS = (
    "after", "again", "below", "carry", "close", "could", "early", "first", "found", "great", "group", "house", "learn",
    "light", "might", "music", "night", "order", "paper", "place", "point", "right", "river", "sound", "still", "story",
    "table", "three", "today", "under", "until", "voice", "water", "where", "while", "world", "young", "Äpfel", "東京",
)  # fmt: skip


def body(random: random.Random, bytes_at_least: int = 100) -> str:
    """Return a chat message: words up to the given length, a few of them not ASCII."""
    words: list[str] = []
    size = 0
    while size < bytes_at_least:
        words.append(random.choice(WORDS))
        size += len(words[-1].encode()) + 1
    return " ".join(words)


def document(random: random.Random) -> dict[str, object]:
    """Return a document of about 200 bytes of JSON, with fields of several types."""
    return {
        "channel": f"channel-{random.randrange(100)}",
        "author": random.choice(WORDS),
        "body": body(random, 80),
        "likes": random.randrange(1000),
        "score": random.random(),
        "pinned": random.random() < 0.1,
        "tags": [random.choice(WORDS) for _ in range(3)],
        "reply": None,
    }


def large_document(random: random.Random, elements: int = 50) -> dict[str, object]:
    """Return a document of about 10 KB of JSON: an array of small ones."""
    return {"title": body(random, 30), "items": [document(random) for _ in range(elements)]}


def uniform(random: random.Random, count: int) -> Iterator[int]:
    """Choose among `count` items with equal probability, endlessly."""
    while True:
        yield random.randrange(count)


def zipf(random: random.Random, count: int, exponent: float = 1.0) -> Iterator[int]:
    """Choose among `count` items endlessly; item n has a probability proportional to 1 / (n + 1) ** exponent."""
    bounds = list(itertools.accumulate(1 / (n + 1) ** exponent for n in range(count)))
    while True:
        yield bisect_left(bounds, random.random() * bounds[-1])
