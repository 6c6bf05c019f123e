"""Session vectors and their symbols. `protocol/README.md` defines them."""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).resolve().parents[2] / "protocol" / "vectors"
_COMPARISONS = {"<": operator.lt, "<=": operator.le, "==": operator.eq}


def sessions(side: str) -> list[str]:
    """Return the names of the vectors that this side can play."""
    return [path.stem for path in sorted((VECTORS / "sessions").glob("*.json")) if side in read(path.stem)["sides"]]


def read(name: str) -> dict[str, Any]:
    """Read one vector."""
    vector: dict[str, Any] = json.loads((VECTORS / "sessions" / f"{name}.json").read_text(encoding="utf-8"))
    return vector


class Mismatch(AssertionError):
    """A message differs from the vector."""


class Symbols:
    """Names for values that the other side chooses: bound at the first occurrence, compared from then on."""

    def __init__(self, bound: dict[str, Any]) -> None:
        self.bound = dict(bound)
        self._invented = 0

    def fill(self, pattern: Any) -> Any:
        """Build a message from a pattern: replace bound symbols, omit fields that are `$any`."""
        if isinstance(pattern, dict):
            return {key: self.fill(part) for key, part in pattern.items() if part != "$any"}
        if isinstance(pattern, list):
            return [self.fill(part) for part in pattern]
        return self.bound[pattern] if _is_symbol(pattern) else pattern

    def invent(self, pattern: Any) -> Any:
        """Build a message, choosing unbound symbols: `$ts…` ascend, `$any…` are never bound."""
        if isinstance(pattern, dict):
            return {key: self.invent(part) for key, part in pattern.items()}
        if isinstance(pattern, list):
            return [self.invent(part) for part in pattern]
        if not _is_symbol(pattern):
            return pattern
        if pattern == "$anyInteger":
            return 1_000_000
        if pattern not in self.bound:
            self._invented += 1
            chosen = 1_000 + self._invented if pattern.startswith("$ts") else f"{pattern[1:]}-{self._invented}"
            if pattern.startswith("$any"):
                return chosen
            self.bound[pattern] = chosen
        return self.bound[pattern]

    def match(self, pattern: Any, actual: Any, path: str = "$") -> None:
        """
        Compare, and bind symbols at their first occurrence; fields that the pattern lacks are allowed.

        Raises:
            Mismatch: with the path.
        """
        if isinstance(pattern, dict):
            self._match_object(pattern, actual, path)
        elif isinstance(pattern, list):
            if not isinstance(actual, list) or len(actual) != len(pattern):
                raise Mismatch(f"{path}: expected {pattern}, got {actual}")
            if path.endswith(".modifications"):
                pattern, actual = (sorted(side, key=operator.itemgetter("queryId")) for side in (pattern, actual))
            for place, (part, actual_part) in enumerate(zip(pattern, actual, strict=True)):
                self.match(part, actual_part, f"{path}[{place}]")
        elif _is_symbol(pattern):
            self._match_symbol(pattern, actual, path)
        elif pattern != actual or isinstance(pattern, bool) != isinstance(actual, bool):
            raise Mismatch(f"{path}: expected {pattern!r}, got {actual!r}")

    def _match_object(self, pattern: dict[str, Any], actual: Any, path: str) -> None:
        if not isinstance(actual, dict):
            raise Mismatch(f"{path}: expected {pattern}, got {actual}")
        for key, part in pattern.items():
            if part == "$any":
                continue
            if key not in actual:
                raise Mismatch(f"{path}.{key} is missing in {actual}")
            self.match(part, actual[key], f"{path}.{key}")

    def _match_symbol(self, symbol: str, actual: Any, path: str) -> None:
        if symbol.startswith("$any"):
            expected = int if symbol == "$anyInteger" else str
            if type(actual) is not expected:
                raise Mismatch(f"{path}: expected {symbol}, got {actual!r}")
        elif self.bound.setdefault(symbol, actual) != actual:
            raise Mismatch(f"{path}: {symbol} was {self.bound[symbol]!r} before, now {actual!r}")

    def check_order(self, parts: list[str]) -> None:
        """Check a chain such as `["$a", "<", "$b", "<=", "$c"]`."""
        for left, comparison, right in zip(parts[::2], parts[1::2], parts[2::2], strict=False):
            one, other = self.bound[left], self.bound[right]
            assert _COMPARISONS[comparison](one, other), f"{left}={one} {comparison} {right}={other}"


def _is_symbol(part: object) -> bool:
    return isinstance(part, str) and part.startswith("$")
