"""
Ranges of an index, narrowed field by field. (pure)

The leading fields of the index are equal to given values; the next field may have a lower and an upper bound.
An index key is the concatenation of its fields' encodings, and the encoding preserves order
(`values/key_encoding.py`), so all of this is one range of keys::

    by_channel: channel, _creationTime      eq("channel", "general").gte("_creationTime", 5)

    prefix = enc("general")                 lower = prefix + enc(5), upper = the end of the prefix
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from msgspec import UNSET, Struct
from msgspec.structs import replace

from tinyvex.errors import InvalidValue, UnknownIndex
from tinyvex.values import codec, key_encoding
from tinyvex.values.suggestions import did_you_mean
from tinyvex.values.types import MISSING

if TYPE_CHECKING:
    from tinyvex.storage.log.catalog import IndexInfo

__all__ = ["IndexRange"]

_CREATION_TIME = "_creationTime"


class Adapt(Protocol):
    """Checks a value that a field is compared with."""

    def __call__(self, path: str, value: Any, *, bound: bool) -> Any:
        """
        Return the value in the form that the field stores; a bound may be outside of the field's own range.

        Raises:
            InvalidValue: the field cannot have it.
        """
        ...


class IndexRange(Struct, frozen=True):
    """
    A range of an index.

    Attributes:
        table: the table's name, for messages.
        index: the index.
        adapt: checks a value, and converts it to the form that a field stores.
        prefix: the encoding of the fields with equalities.
        equal: the number of those fields.
        ranged: the field with bounds, if there is one.
        lower: the first key of the range; None without a lower bound.
        upper: the first key after the range; None without an upper bound.
    """

    table: str
    index: IndexInfo
    adapt: Adapt
    prefix: bytes = b""
    equal: int = 0
    ranged: str | None = None
    lower: bytes | None = None
    upper: bytes | None = None

    @property
    def is_whole(self) -> bool:
        """Return whether this is the whole index."""
        return self.equal == 0 and self.ranged is None

    def bounds(self) -> tuple[bytes, bytes]:
        """Return `lo` and `hi` of its keys lo <= key < hi; the range is empty if lo >= hi."""
        lo = self.prefix if self.lower is None else self.lower
        hi = key_encoding.prefix_end(self.prefix) if self.upper is None else self.upper
        return lo, hi

    def next_field(self) -> str | None:
        """Return the field that can be narrowed next; creation time is the last field of every index."""
        fields = self.index.fields
        if fields[-1:] != (_CREATION_TIME,):
            fields = (*fields, _CREATION_TIME)
        return fields[self.equal] if self.equal < len(fields) else None

    def equals(self, path: str, value: Any) -> IndexRange:
        """
        Narrow to documents whose next field equals a value.

        Raises:
            UnknownIndex: it is not the next field, or the range has bounds already.
            InvalidValue: the field cannot have this value.
        """
        part = self._part(path, value, bound=False)
        if self.ranged is not None:
            raise UnknownIndex(f"{self}: `{path}` cannot have an equality after bounds on `{self.ranged}`")
        return replace(self, prefix=self.prefix + part, equal=self.equal + 1)

    def all_equal(self, equalities: dict[str, Any]) -> IndexRange:
        """Narrow to documents whose next fields equal these values, given in any order. Raises as `equals`."""
        narrowed, waiting = self, dict(equalities)
        while waiting:
            field = narrowed.next_field()
            if field not in waiting:
                narrowed._refuse(min(waiting, key=self.index.fields.__contains__))  # a foreign field first
            narrowed = narrowed.equals(field, waiting.pop(field))
        return narrowed

    def above(self, path: str, value: Any, *, inclusive: bool) -> IndexRange:
        """Narrow by a lower bound on the next field. Raises as `equals`."""
        key = self.prefix + self._part(path, value, bound=True)
        if self.lower is not None:
            raise UnknownIndex(f"{self}: `{path}` has a lower bound already")
        return replace(self, ranged=path, lower=key if inclusive else key_encoding.prefix_end(key))

    def below(self, path: str, value: Any, *, inclusive: bool) -> IndexRange:
        """Narrow by an upper bound on the next field. Raises as `equals`."""
        key = self.prefix + self._part(path, value, bound=True)
        if self.upper is not None:
            raise UnknownIndex(f"{self}: `{path}` has an upper bound already")
        return replace(self, ranged=path, upper=key_encoding.prefix_end(key) if inclusive else key)

    def intersected(self, other: IndexRange) -> IndexRange:
        """Return the keys that are also in a range with the same equalities."""
        lowers = [key for key in (self.lower, other.lower) if key is not None]
        uppers = [key for key in (self.upper, other.upper) if key is not None]
        return replace(
            self,
            ranged=self.ranged or other.ranged,
            lower=max(lowers) if lowers else None,
            upper=min(uppers) if uppers else None,
        )

    def _part(self, path: str, value: Any, *, bound: bool) -> bytes:
        """Return the encoding of the next field's value."""
        if path != self.next_field():
            self._refuse(path)
        if value is UNSET:
            return key_encoding.encode_part(MISSING)
        try:
            return key_encoding.encode_part(codec.unwrap(codec.to_builtins(self.adapt(path, value, bound=bound))))
        except InvalidValue as error:
            raise InvalidValue(
                f"{self}, field `{path}`: {error.message.removesuffix(' - at `$`')}", path=path
            ) from error

    def _refuse(self, path: str) -> NoReturn:
        following = self.next_field()
        expected = "no field is left" if following is None else f"the next field is `{following}`"
        hint = did_you_mean(path, () if following is None else (following,))
        if path in {"gt", "gte", "lt", "lte"}:
            hint = f'; write a bound as .{path}("{following}", …)'
        raise UnknownIndex(f"{self}: {expected}, not `{path}`{hint}", table=self.table, index=self.index.name)

    def __str__(self) -> str:
        return f"index `{self.index.name}` of table `{self.table}`"
