"""
Tinyvex: a realtime document database that starts with your app.

::

    import tinyvex as tv

    @tv.table("messages", indexes={"by_channel": ["channel"]})
    class Message(tv.Document):
        channel: str
        body: str

    @tv.query
    def recent(ctx: tv.QueryCtx, channel: str) -> tv.Rows[Message]:
        return ctx.db.query(Message).with_index("by_channel", channel=channel).order("desc").take(50)

    @tv.mutation
    def send(ctx: tv.MutationCtx, channel: str, body: str) -> tv.Id[Message]:
        return ctx.db.insert(Message(channel=channel, body=body))
"""

# isort: off
import tinyvex.import_path  # before the imports that a file of the working directory could replace
import tinyvex.first_parent  # noqa: F401 - before the imports that take time

# isort: on
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from tinyvex import errors
from tinyvex.errors import (
    AppError,
    CallTimeout,
    ClientClosed,
    ConnectionLost,
    DatabaseReplaced,
    DecodeError,
    RemoteError,
    TinyvexError,
)
from tinyvex.functions.app.function_spec import (
    action,
    internal_action,
    internal_mutation,
    internal_query,
    mutation,
    query,
)
from tinyvex.functions.result.rows import Page, Rows
from tinyvex.functions.schema.document import Document, Id, table
from tinyvex.functions.transaction.context import ActionCtx, MutationCtx, QueryCtx
from tinyvex.values.types import Int64
from tinyvex.version import __version__

if TYPE_CHECKING:
    from tinyvex import testing
    from tinyvex.client.blocking import BlockingClient, connect_blocking
    from tinyvex.client.client import Client, connect

__all__ = [
    "UNSET",
    "ActionCtx",
    "AppError",
    "BlockingClient",
    "CallTimeout",
    "Client",
    "ClientClosed",
    "ConnectionLost",
    "DatabaseReplaced",
    "DecodeError",
    "Document",
    "Id",
    "Int64",
    "MutationCtx",
    "Page",
    "QueryCtx",
    "RemoteError",
    "Rows",
    "TinyvexError",
    "__version__",
    "action",
    "connect",
    "connect_blocking",
    "errors",
    "internal_action",
    "internal_mutation",
    "internal_query",
    "mutation",
    "query",
    "table",
    "testing",
]


def __getattr__(name: str) -> Any:
    """Import the client and the testing module on first use: the modules of an app need neither."""
    if name in ("Client", "connect"):
        from tinyvex.client import client

        return getattr(client, name)
    if name in ("BlockingClient", "connect_blocking"):
        from tinyvex.client import blocking

        return getattr(blocking, name)
    if name == "testing":
        import importlib

        return importlib.import_module("tinyvex.testing")
    raise AttributeError(f"module 'tinyvex' has no attribute {name!r}")
