"""
Documents, names and orders of access from a seed.

Everything takes the random generator it uses, so that whoever calls decides what repeats.
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
    """A chat message: words until it is long enough, a few of them not ASCII."""
    words: list[str] = []
    size = 0
    while size < bytes_at_least:
        words.append(random.choice(WORDS))
        size += len(words[-1].encode()) + 1
    return " ".join(words)


def document(random: random.Random) -> dict[str, object]:
    """A document of about 200 bytes of JSON, with a bit of everything."""
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
    """A document of about 10 KB of JSON: an array of small ones."""
    return {"title": body(random, 30), "items": [document(random) for _ in range(elements)]}


def uniform(random: random.Random, count: int) -> Iterator[int]:
    """Choices among `count` things, each as likely as the others, without end."""
    while True:
        yield random.randrange(count)


def zipf(random: random.Random, count: int, exponent: float = 1.0) -> Iterator[int]:
    """Choices among `count` things, without end; thing n is chosen in proportion to 1 / (n + 1) ** exponent."""
    bounds = list(itertools.accumulate(1 / (n + 1) ** exponent for n in range(count)))
    while True:
        yield bisect_left(bounds, random.random() * bounds[-1])
