"""Encoding of arguments, and decoding of results to the caller's types (pure)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, get_args, get_origin

import msgspec

from tinyvex.errors import DecodeError, InvalidParams, TinyvexError
from tinyvex.limits import IDEMPOTENCY_KEY_LENGTH_MAX, SAFE_INTEGER_MAX
from tinyvex.values import codec
from tinyvex.values.types import Int64

__all__ = [
    "check_idempotency_key",
    "check_path",
    "check_ts",
    "convert_value",
    "decode_value",
    "encode_arguments",
    "is_encodable",
]

PATH_LENGTH_MAX = 512


def check_path(path: str) -> str:
    """
    Check a function's path: a wrong one would make the server reject a whole message.

    Returns:
        The path.

    Raises:
        InvalidParams: the path is empty, too long, or contains half of a surrogate pair.
        TypeError: it is not a string.
    """
    if not isinstance(path, str):
        raise TypeError(f"a function is called by its path, such as 'module:function', not by a {type(path).__name__}")
    if not 1 <= len(path) <= PATH_LENGTH_MAX:
        raise InvalidParams(
            f"a function path has 1 to {PATH_LENGTH_MAX} characters; this one has {len(path)}", path="$.udfPath"
        )
    if not is_encodable(path):
        raise InvalidParams("the function path has a lone surrogate, which is not a character", path="$.udfPath")
    return path


def check_idempotency_key(key: str | None) -> str | None:
    """
    Check a caller's own name of a mutation.

    Returns:
        The key.

    Raises:
        InvalidParams: the key is empty, too long, or contains half of a surrogate pair.
        TypeError: it is not a string.
    """
    if key is None:
        return None
    if not isinstance(key, str):
        raise TypeError(f"an idempotency key is a string, not a {type(key).__name__}")
    if not (1 <= len(key) <= IDEMPOTENCY_KEY_LENGTH_MAX and is_encodable(key)):
        raise InvalidParams(
            f"an idempotency key has 1 to {IDEMPOTENCY_KEY_LENGTH_MAX} characters and no lone surrogate",
            path="$.idempotencyKey",
        )
    return key


def check_ts(at: int | None) -> int | None:
    """
    Check the timestamp of a query.

    Returns:
        The timestamp.

    Raises:
        InvalidParams: it is outside of the range of timestamps.
        TypeError: it is not an integer.
    """
    if at is None:
        return None
    if not isinstance(at, int) or isinstance(at, bool):
        raise TypeError(f"`at` is a timestamp in microseconds, an int, not a {type(at).__name__}")
    if not 0 <= at <= SAFE_INTEGER_MAX:
        raise InvalidParams(
            f"`at` is a timestamp in microseconds since 1970, between 0 and {SAFE_INTEGER_MAX}; this one is outside",
            path="$.ts",
        )
    return int(at)


def is_encodable(text: str) -> bool:
    """Return whether a text can be sent: half of a surrogate pair cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encode_arguments(args: Mapping[str, Any] | None) -> bytes:
    """
    Encode named arguments as canonical JSON, so that equal arguments are equal bytes.

    Raises:
        InvalidValue, ValueTooLarge: they contain something that is not a value; the message names its path.
        TypeError: they are not a mapping.
    """
    if args is None:
        return b"{}"
    if not isinstance(args, Mapping):
        raise TypeError(f"arguments are a mapping of names to values, not a {type(args).__name__}")
    return codec.encode(args)


def decode_value(json: bytes, target: Any, function: str) -> Any:
    """
    Decode a value to `target`: any type that msgspec decodes, `Int64`, `bytes`, or a subclass of `str` such as `Id`.

    Args:
        json: the encoded value.
        target: the requested type; `Any` returns plain values.
        function: the path of the function that returned the value, for the error message.

    Raises:
        DecodeError: the value does not fit.
    """
    try:
        if target is Any:
            return codec.decode_canonical(json)
        if codec.may_have_wrappers(json) or _has_bytes(target):
            return _converted(codec.decode_canonical(json), target)
        return _decoder(target).decode(json)
    except _NOT_FITTING as error:
        raise _does_not_fit(target, function, error) from error


def convert_value(value: Any, target: Any, function: str) -> Any:
    """
    Convert a value to `target`, as `decode_value` decodes its JSON.

    Raises:
        DecodeError: the value does not fit.
    """
    try:
        return _converted(value, target)
    except _NOT_FITTING as error:
        raise _does_not_fit(target, function, error) from error


_NOT_FITTING = (msgspec.MsgspecError, TinyvexError, ValueError, TypeError)


def _does_not_fit(target: Any, function: str, error: Exception) -> DecodeError:
    name = getattr(target, "__name__", None) if not get_args(target) else None
    return DecodeError(f"the result of `{function}` does not fit `{name or target}`: {error}", function=function)


def _converted(value: Any, target: Any) -> Any:
    # Keys are strings, as in JSON: without `str_keys` a `dict[int, str]` would fit only values without wrappers.
    return msgspec.convert(value, target, dec_hook=_decode_special, builtin_types=(bytes,), str_keys=True)


@functools.lru_cache(maxsize=256)
def _has_bytes(target: Any) -> bool:
    """Return whether a type contains bytes: msgspec's JSON decoder would accept any base64 string for them."""
    seen: list[Any] = []

    def search(node: Any) -> bool:
        if isinstance(node, (list, tuple)):
            return any(map(search, node))
        if isinstance(node, msgspec.inspect.BytesType):
            return True
        if not isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field) or any(node is one for one in seen):
            return False
        seen.append(node)
        return any(search(getattr(node, name)) for name in node.__struct_fields__)

    return search(msgspec.inspect.type_info(target))


@functools.lru_cache(maxsize=256)
def _decoder(target: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(target, dec_hook=_decode_special)


def _decode_special(target: Any, value: Any) -> Any:
    """Decode the types that msgspec does not know: `Int64`, `Rows`, and subclasses of `str`, generic or not."""
    origin = get_origin(target) or target
    if isinstance(origin, type):
        of_values = getattr(origin, "__tinyvex_of__", None)
        if of_values is not None and isinstance(value, list):
            element_types = get_args(target)
            elements = _converted(value, list[element_types]) if element_types else value  # type: ignore[valid-type]
            return of_values(elements)
        if issubclass(origin, Int64) and isinstance(value, int) and not isinstance(value, bool):
            return origin(value)
        if issubclass(origin, str) and isinstance(value, str):
            return origin(value)
        if isinstance(value, origin):
            return value
    # msgspec converts this to a validation error with the path of the value.
    raise ValueError(f"Expected `{getattr(origin, '__name__', origin)}`, got `{type(value).__name__}`")
