"""
A range of an index, narrowed field by field (pure).

Leading fields equal something; then the next one may have a lower and an upper bound.
Keys are concatenated encodings of the fields, so all of it is one range of keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from msgspec import UNSET

from tinyvex.errors import InvalidValue, UnknownIndex
from tinyvex.values import codec, key_encoding
from tinyvex.values.types import MISSING

if TYPE_CHECKING:
    from tinyvex.storage.log.catalog import IndexInfo

__all__ = ["IndexRange"]

_CREATION_TIME = "_creationTime"


@dataclass(frozen=True, slots=True)
class IndexRange:
    """
    Part of an index.

    Attributes:
        table: its table's name, for messages.
        adapt: makes a value what the field would store.
        prefix: encoding of the equal fields, of which there are `equal`.
        ranged: the field with bounds, `lower` and `upper`.
    """

    table: str
    index: IndexInfo
    adapt: Callable[[str, Any], Any]
    prefix: bytes = b""
    equal: int = 0
    ranged: str | None = None
    lower: bytes | None = None
    upper: bytes | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing was narrowed yet."""
        return self.equal == 0 and self.ranged is None

    def bounds(self) -> tuple[bytes, bytes]:
        """The keys it has: first <= key < second; none when they are not in order."""
        lo = self.prefix if self.lower is None else self.lower
        hi = key_encoding.prefix_end(self.prefix) if self.upper is None else self.upper
        return lo, hi

    def next_field(self) -> str | None:
        """The field that can be narrowed next; creation time is the last of every index."""
        fields = self.index.fields
        if fields[-1:] != (_CREATION_TIME,):
            fields = (*fields, _CREATION_TIME)
        return fields[self.equal] if self.equal < len(fields) else None

    def equals(self, path: str, value: Any) -> IndexRange:
        """
        With the next field equal to a value.

        Raises:
            UnknownIndex: it is not the next field, or bounds were given.
            InvalidValue: no value.
        """
        part = self._part(path, value)
        if self.ranged is not None:
            raise UnknownIndex(f"{self}: {path!r} cannot be equal to something after bounds for {self.ranged!r}")
        return replace(self, prefix=self.prefix + part, equal=self.equal + 1)

    def all_equal(self, equalities: dict[str, Any]) -> IndexRange:
        """With the next fields equal to these values, in whatever order they are given. Raises as `equals`."""
        narrowed, waiting = self, dict(equalities)
        while waiting:
            field = narrowed.next_field()
            if field not in waiting:
                narrowed._refuse(next(iter(waiting)))
            narrowed = narrowed.equals(field, waiting.pop(field))
        return narrowed

    def above(self, path: str, value: Any, *, inclusive: bool) -> IndexRange:
        """With a lower bound of the next field. Raises as `equals`."""
        key = self.prefix + self._part(path, value)
        if self.lower is not None:
            raise UnknownIndex(f"{self}: {path!r} has a lower bound already")
        return replace(self, ranged=path, lower=key if inclusive else key_encoding.prefix_end(key))

    def below(self, path: str, value: Any, *, inclusive: bool) -> IndexRange:
        """With an upper bound of the next field. Raises as `equals`."""
        key = self.prefix + self._part(path, value)
        if self.upper is not None:
            raise UnknownIndex(f"{self}: {path!r} has an upper bound already")
        return replace(self, ranged=path, upper=key_encoding.prefix_end(key) if inclusive else key)

    def _part(self, path: str, value: Any) -> bytes:
        """The encoding of the next field's value."""
        if path != self.next_field():
            self._refuse(path)
        if value is UNSET:
            return key_encoding.encode_part(MISSING)
        try:
            return key_encoding.encode_part(codec.unwrap(codec.to_builtins(self.adapt(path, value))))
        except InvalidValue as error:
            raise InvalidValue(f"{self}, field {path!r}: {error}", path=path) from error

    def _refuse(self, path: str) -> NoReturn:
        following = self.next_field()
        expected = "has no further field" if following is None else f"has {following!r} as its next field"
        hint = f"; bounds follow it: .{path}({following!r}, …)" if path in {"gt", "gte", "lt", "lte"} else ""
        raise UnknownIndex(f"{self} {expected}, not {path!r}{hint}", table=self.table, index=self.index.name)

    def __str__(self) -> str:
        return f"index {self.index.name!r} of table {self.table!r}"
