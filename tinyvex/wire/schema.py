"""
Generates `protocol/schema.json` and `protocol/errors.json` from the message types and the error classes.

`python -m tinyvex.wire.schema` writes the files; `--check` fails if they are stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec

from tinyvex import errors
from tinyvex.wire import messages

__all__ = ["METHODS", "NOTIFICATIONS", "errors_text", "main", "schema_text"]

FOLDER = Path(__file__).resolve().parents[2] / "protocol"
_GENERATED = "generated from tinyvex/wire/messages.py by `python -m tinyvex.wire.schema`; do not edit"


class Method(NamedTuple):
    """The message type of a request and the type of its result."""

    request: type[msgspec.Struct]
    result: type[msgspec.Struct]


_RESULTS: dict[type[msgspec.Struct], type[msgspec.Struct]] = {
    messages.Connect: messages.ConnectResult,
    messages.ModifyQuerySet: messages.EmptyResult,
    messages.Mutation: messages.MutationResult,
    messages.Action: messages.ActionResult,
    messages.Query: messages.MutationResult,
    messages.Authenticate: messages.EmptyResult,
    messages.Ping: messages.PingResult,
}
METHODS: dict[str, Method] = {
    message_type.__struct_config__.tag: Method(message_type, _RESULTS[message_type])
    for message_type in get_args(messages.ClientRequest)
}
"""Requests, client to server."""

NOTIFICATIONS: dict[str, type[msgspec.Struct]] = {
    message_type.__struct_config__.tag: message_type for message_type in get_args(messages.ServerNotification)
}
"""Notifications, server to client."""


def schema_text() -> str:
    """Return the contents of `schema.json`."""
    roots = [
        *(type_ for method in METHODS.values() for type_ in method),
        *NOTIFICATIONS.values(),
        messages.SuccessResponse,
        messages.ErrorResponse,
    ]
    _, definitions = msgspec.json.schema_components(list(dict.fromkeys(roots)), ref_template="#/$defs/{name}")
    # The types cannot express that an update has exactly one of `value` and `patch`.
    definitions["QueryUpdated"]["oneOf"] = [{"required": ["value"]}, {"required": ["patch"]}]
    requests = [{"$ref": f"#/$defs/{method.request.__name__}"} for method in METHODS.values()]
    from_server: list[type[msgspec.Struct]] = [
        *NOTIFICATIONS.values(),
        messages.SuccessResponse,
        messages.ErrorResponse,
    ]
    return _pretty(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$comment": _GENERATED,
            "title": "The Tinyvex protocol",
            "protocolVersion": messages.PROTOCOL_VERSION,
            "methods": {
                name: {
                    "direction": "clientToServer",
                    "request": method.request.__name__,
                    "result": method.result.__name__,
                }
                for name, method in METHODS.items()
            },
            "notifications": {
                name: {"direction": "serverToClient", "notification": message_type.__name__}
                for name, message_type in NOTIFICATIONS.items()
            },
            "$defs": {
                **dict(sorted(definitions.items())),
                "ClientMessage": {"description": "A message from a client.", "oneOf": requests},
                "ServerMessage": {
                    "description": "A message from a server.",
                    "oneOf": [{"$ref": f"#/$defs/{message_type.__name__}"} for message_type in from_server],
                },
            },
        }
    )


def errors_text() -> str:
    """Return the contents of `errors.json`."""
    return _pretty(
        {
            "$comment": "generated from tinyvex/errors.py by `python -m tinyvex.wire.schema`; do not edit",
            "errors": [
                {
                    "code": error_class.number,
                    "name": error_class.__name__,
                    "group": error_class.__bases__[0].__name__,
                    "fault": error_class.fault,
                    "retry": error_class.retry,
                    "fatal": error_class.fatal,
                    "meaning": " ".join((error_class.__doc__ or "").split("Args:")[0].split()),
                }
                for error_class in errors.error_classes()
            ],
        }
    )


def main(arguments: list[str], folder: Path = FOLDER) -> int:
    """
    Write the files, or compare them if `--check` is given.

    Returns:
        The exit code: 1 if `--check` found a stale file.
    """
    stale = False
    for name, text in (("schema.json", schema_text()), ("errors.json", errors_text())):
        path = folder / name
        if arguments == ["--check"]:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                sys.stderr.write(f"{path} is stale: run `python -m tinyvex.wire.schema`\n")
                stale = True
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
    return int(stale)


def _pretty(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
