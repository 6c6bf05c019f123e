"""Arguments to canonical JSON, and JSON to the types that callers ask for (pure)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, get_args, get_origin

import msgspec

from tinyvex.errors import DecodeError, InvalidParams, TinyvexError
from tinyvex.values import codec
from tinyvex.values.types import Int64

__all__ = ["check_path", "decode_value", "encode_arguments"]

PATH_LENGTH_MAX = 512


def check_path(path: str) -> str:
    """
    Refuse what cannot be a function's path before it can upset a whole message.

    Raises:
        InvalidParams: the path is empty or too long.
        TypeError: it is no text; functions are called by path.
    """
    if not isinstance(path, str):
        raise TypeError(f"a function is named by its path, as 'module:function', not by {path!r}")
    if not 1 <= len(path) <= PATH_LENGTH_MAX:
        raise InvalidParams(f"a path has 1 to {PATH_LENGTH_MAX} characters, this one has {len(path)}", path="$.udfPath")
    return path


def encode_arguments(args: Mapping[str, Any] | None) -> bytes:
    """
    Named arguments as canonical JSON: equal arguments are equal bytes.

    Raises:
        InvalidValue, ValueTooLarge: something in them is no value; the message names the path.
        TypeError: they are not a mapping.
    """
    if args is None:
        return b"{}"
    if not isinstance(args, Mapping):
        raise TypeError(f"arguments are a mapping of names to values, not {args!r}")
    return codec.encode(args)


def decode_value(json: bytes, target: Any, what: str) -> Any:
    """
    A value as `target`: anything msgspec can decode, values' own types, and subclasses of `str` such as ids.

    Args:
        json: the encoded value.
        target: the type asked for; `Any` gives plain values.
        what: whose value it is, for the message.

    Raises:
        DecodeError: the value does not fit.
    """
    try:
        if target is Any:
            return codec.decode_canonical(json)
        # Wrapped values (Int64, bytes, special floats) are rare, and looking for them is cheap.
        if b'"$' in json:
            return msgspec.convert(
                codec.decode_canonical(json), target, dec_hook=_decode_special, builtin_types=(bytes,)
            )
        return _decoder(target).decode(json)
    except (msgspec.MsgspecError, TinyvexError, ValueError, TypeError) as error:
        raise DecodeError(f"the result of {what} does not fit {target!r}: {error}", function=what) from error


@functools.lru_cache(maxsize=256)
def _decoder(target: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(target, dec_hook=_decode_special)


def _decode_special(target: Any, value: Any) -> Any:
    """What msgspec does not know: `Int64`, and any subclass of `str`, generic or not."""
    origin = get_origin(target) or target
    if isinstance(origin, type):
        of_values = getattr(origin, "__tinyvex_of__", None)
        if of_values is not None and isinstance(value, list):
            kinds = get_args(target)
            return of_values(msgspec.convert(value, list[kinds], dec_hook=_decode_special) if kinds else value)  # type: ignore[valid-type]
        if issubclass(origin, Int64) and isinstance(value, int) and not isinstance(value, bool):
            return origin(value)
        if issubclass(origin, str) and isinstance(value, str):
            return origin(value)
        if isinstance(value, origin):
            return value
    # msgspec turns it into a validation error that has the path.
    raise ValueError(f"Expected `{getattr(origin, '__name__', origin)}`, got `{type(value).__name__}`")
