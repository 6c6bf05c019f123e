"""
Every error that Tinyvex raises or sends: whose fault it is, a stable number and name, whether to retry.

::

    TinyvexError
    ├── ProtocolError               the envelope or the order of messages is wrong
    │   ├── ParseError              -32700
    │   ├── InvalidRequest          -32600
    │   ├── MethodNotFound          -32601
    │   ├── InvalidParams           -32602
    │   ├── InternalError           -32603
    │   ├── NotConnected            1001    ├── AlreadyConnected     1002
    │   ├── UnsupportedVersion      1003    ├── BaseVersionMismatch  1004
    │   ├── DuplicateQueryId        1005    ├── UnknownQueryId       1006
    │   ├── RequestIdReused         1007    ├── ObservedTsAhead      1008
    │   ├── MessageTooLarge         1009    ├── BinaryFrame          1010
    │   ├── TooManyQueries          1011    ├── TooManyRequests      1012
    │   ├── SessionReplaced         1013    ├── SessionIdentity      1014
    │   └── IdleTimeout             1015
    ├── AccessError                 who is asking
    │   ├── Unauthenticated         1101    ├── Forbidden            1102
    │   └── SlowHandshake           1103
    ├── FunctionError               calling a user's function
    │   ├── FunctionNotFound        1201    ├── WrongFunctionKind    1202
    │   ├── InvalidArguments        1203    ├── InvalidResult        1204
    │   ├── FunctionFailed          1205    ├── AppError             1206
    │   └── TimeLimitExceeded       1207
    ├── DatabaseError               what a function asked of the database
    │   ├── InvalidValue            1301    ├── ValueTooLarge        1302
    │   ├── InvalidId               1303    ├── WrongTable           1304
    │   ├── DocumentNotFound        1305    ├── IdExists             1306
    │   ├── UnknownTable            1307    ├── UnknownIndex         1308
    │   ├── SchemaViolation         1309    ├── NotUnique            1310
    │   ├── TransactionTooLarge     1311    ├── SnapshotUnavailable  1312
    │   ├── InvalidCursor           1313    └── ImportRefused        1314
    ├── ServerError                 the server cannot do it now
    │   ├── ServerStopping          1401    ├── Overloaded           1402
    │   └── SlowConsumer            1403
    ├── StorageError                the file or the folder; `exit_code` is the process's
    │   ├── StorageFailed           1501    ├── DataFolderLocked     1502
    │   ├── DataFolderUnusable      1503    ├── DiskFull             1504
    │   ├── FileDamaged             1505    └── FileTooNew           1506
    ├── StartError                  starting the server or loading the app
    │   ├── PortTaken               1601    ├── AppNotFound          1602
    │   ├── AppInvalid              1603    └── SchemaRejected       1604
    └── ClientError                 raised by the client alone, never sent
        ├── DecodeError             1701    ├── ConnectionLost       1702
        ├── ClientClosed            1703    ├── UpdateRejected       1704
        └── ServerUntrusted         1705

A class's docstring is the *meaning* printed in `protocol/errors.json`; numbers and names never change once released.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

_BRIEF_LENGTH = 200

Fault = Literal["client", "developer", "server", "operator"]
Retry = Literal["never", "after-fix", "now", "later"]


class TinyvexError(Exception):
    """
    Base of all errors.

    Attributes:
        number: stable number on the wire (JSON-RPC `error.code`).
        fault: who can mend it: the calling client, the developer of the app's functions, the server, its operator.
        retry: `never` (the same call fails again), `after-fix` (when what the message names was mended), `now`, `later`.
        data: details for programs; every value is JSON.
    """

    number: ClassVar[int]
    fault: ClassVar[Fault]
    retry: ClassVar[Retry] = "never"
    exit_code: ClassVar[int] = 1
    fatal: ClassVar[bool] = False

    def __init__(self, message: str, /, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data: dict[str, Any] = data

    @property
    def name(self) -> str:
        """The stable name: the class's own."""
        return type(self).__name__

    def __str__(self) -> str:
        return self.message


class ProtocolError(TinyvexError):
    """
    The envelope or the order of messages is wrong.

    Attributes:
        request_id: the JSON-RPC id of the message refused; None where it could not be read.
    """

    fault: ClassVar[Fault] = "client"
    request_id: int | str | None = None


class ParseError(ProtocolError):
    """The frame is not valid JSON."""

    number = -32700


class InvalidRequest(ProtocolError):
    """The JSON is not one JSON-RPC 2.0 request object; batches are refused."""

    number = -32600


class MethodNotFound(ProtocolError):
    """The protocol has no such method."""

    number = -32601


class InvalidParams(ProtocolError):
    """The method's parameters do not fit its schema; the message names the path."""

    number = -32602


class InternalError(ProtocolError):
    """A defect of Tinyvex; the server's log has the request id and the traceback."""

    number = -32603
    fault = "server"
    retry = "later"


class NotConnected(ProtocolError):
    """A request came before `tinyvex/connect` was answered."""

    number = 1001


class AlreadyConnected(ProtocolError):
    """`tinyvex/connect` came a second time on one socket."""

    number = 1002


class UnsupportedVersion(ProtocolError):
    """Client and server share no protocol version; `supported` lists the server's."""

    number = 1003
    retry = "after-fix"
    fatal = True


class BaseVersionMismatch(ProtocolError):
    """A message continues from a version that is not the last one; the connection ends."""

    number = 1004
    fatal = True


class DuplicateQueryId(ProtocolError):
    """`Add` uses a query id that is in the query set already; nothing of the message was applied."""

    number = 1005


class UnknownQueryId(ProtocolError):
    """`Remove` names a query id that is not in the query set; nothing of the message was applied."""

    number = 1006


class RequestIdReused(ProtocolError):
    """A request id of this session was used before, with another function, other arguments, or by somebody else."""

    number = 1007


class ObservedTsAhead(ProtocolError):
    """The client has seen a later commit than this database holds, in the same epoch: one of the two lost data."""

    number = 1008
    fatal = True


class MessageTooLarge(ProtocolError):
    """A frame or message is over the server's limit; the connection ends."""

    number = 1009
    fatal = True


class BinaryFrame(ProtocolError):
    """A binary frame came; the protocol has text frames only, and the connection ends."""

    number = 1010
    fatal = True


class TooManyQueries(ProtocolError):
    """The query set of one connection is full; nothing of the message was applied."""

    number = 1011
    retry = "after-fix"


class TooManyRequests(ProtocolError):
    """One connection has too many unanswered requests."""

    number = 1012
    retry = "later"


class SessionReplaced(ProtocolError):
    """Another socket connected with the same session id; this older one is closed."""

    number = 1013
    fatal = True


class SessionIdentity(ProtocolError):
    """The session belongs to another authenticated identity."""

    number = 1014
    retry = "after-fix"


class IdleTimeout(ProtocolError):
    """Nothing came from the client for the idle timeout, not even a pong; the connection ends."""

    number = 1015
    retry = "now"
    fatal = True


class AccessError(TinyvexError):
    """The caller was not let in."""

    fault: ClassVar[Fault] = "client"
    retry: ClassVar[Retry] = "after-fix"
    exit_code: ClassVar[int] = 4


class Unauthenticated(AccessError):
    """The token is missing or wrong."""

    number = 1101
    fatal = True


class Forbidden(AccessError):
    """The caller is known but may not do this."""

    number = 1102


class SlowHandshake(AccessError):
    """The socket did not complete its handshake and `tinyvex/connect` in time."""

    number = 1103
    retry = "now"
    fatal = True


class FunctionError(TinyvexError):
    """Calling a user's function failed."""

    fault: ClassVar[Fault] = "developer"
    exit_code: ClassVar[int] = 3


class FunctionNotFound(FunctionError):
    """No public function has this path; internal functions need the admin token."""

    number = 1201
    fault = "client"
    retry = "after-fix"


class WrongFunctionKind(FunctionError):
    """The function is of another kind: a mutation was called as a query, for example."""

    number = 1202
    fault = "client"


class InvalidArguments(FunctionError):
    """The arguments do not fit the function's annotations; the message names the path of the wrong field."""

    number = 1203
    fault = "client"


class InvalidResult(FunctionError):
    """The function returned something that does not fit its annotation or is no value; nothing was written."""

    number = 1204
    retry = "after-fix"


class FunctionFailed(FunctionError):
    """The function raised; the log has the traceback under the request id. Nothing was written."""

    number = 1205
    retry = "after-fix"


def _brief(data: Any) -> str:
    text = repr(data)
    return text if len(text) <= _BRIEF_LENGTH else f"{text[:_BRIEF_LENGTH]}…"


class AppError(FunctionError):
    """
    Raised by the app's own functions to give the client data: it arrives as `error.data.appData`.

    Args:
        data: any value; the client receives it as it is.
    """

    number = 1206

    def __init__(self, data: Any = None) -> None:
        super().__init__(data if isinstance(data, str) else f"the function refused: {_brief(data)}")
        self.app_data: Any = data


class TimeLimitExceeded(FunctionError):
    """The function ran longer than its time limit and was stopped; nothing was written."""

    number = 1207
    retry = "after-fix"


class DatabaseError(TinyvexError):
    """What a function asked of the database cannot be done."""

    fault: ClassVar[Fault] = "developer"
    exit_code: ClassVar[int] = 3


class InvalidValue(DatabaseError):
    """Something is not a value: a key beginning with `$`, a too large plain integer, an unsupported type."""

    number = 1301


class ValueTooLarge(DatabaseError):
    """A document or value is over a limit of size, nesting, elements or fields."""

    number = 1302


class InvalidId(DatabaseError):
    """The text is not a document id."""

    number = 1303


class WrongTable(DatabaseError):
    """The id belongs to another table."""

    number = 1304


class DocumentNotFound(DatabaseError):
    """`patch`, `replace` or `delete` names a document that does not exist."""

    number = 1305


class IdExists(DatabaseError):
    """`insert` names an id that exists, or existed within retention."""

    number = 1306


class UnknownTable(DatabaseError):
    """The database has no such table."""

    number = 1307
    retry = "after-fix"


class UnknownIndex(DatabaseError):
    """The table has no such index, or not yet at the snapshot read."""

    number = 1308
    retry = "after-fix"


class SchemaViolation(DatabaseError):
    """A document does not fit its table's class; the message names the path."""

    number = 1309


class NotUnique(DatabaseError):
    """`unique()` met more than one document."""

    number = 1310


class TransactionTooLarge(DatabaseError):
    """A mutation wrote more documents or bytes than one transaction may."""

    number = 1311


class SnapshotUnavailable(DatabaseError):
    """The `ts` asked for is in the future or older than what is kept."""

    number = 1312
    fault = "client"


class InvalidCursor(DatabaseError):
    """The cursor is not one of this query with these arguments; start from the first page."""

    number = 1313
    fault = "client"


class ImportRefused(DatabaseError):
    """An import does not fit the database as it is, or is not the one under way; nothing was changed."""

    number = 1314
    fault = "operator"
    retry = "after-fix"


class ServerError(TinyvexError):
    """The server cannot do it now."""

    fault: ClassVar[Fault] = "server"
    retry: ClassVar[Retry] = "later"
    exit_code: ClassVar[int] = 4


class ServerStopping(ServerError):
    """The server is stopping; reconnect after `retryAfterMs`."""

    number = 1401
    fatal = True


class Overloaded(ServerError):
    """A bound of the server is reached."""

    number = 1402


class SlowConsumer(ServerError):
    """The client read too slowly for too long and was closed."""

    number = 1403
    fault = "client"
    fatal = True


class StorageError(TinyvexError):
    """The file or its folder."""

    fault: ClassVar[Fault] = "operator"
    retry: ClassVar[Retry] = "after-fix"
    exit_code = 20


class StorageFailed(StorageError):
    """SQLite reported an error that has no name of its own; nothing of the transaction was kept."""

    number = 1501
    fault = "server"
    retry = "later"


class DataFolderLocked(StorageError):
    """Another process owns the data folder; the message says which."""

    number = 1502
    exit_code = 21


class DataFolderUnusable(StorageError):
    """The data folder cannot be made, read or written."""

    number = 1503
    exit_code = 22


class DiskFull(StorageError):
    """The disk is full; nothing of the transaction was kept."""

    number = 1504
    exit_code = 23


class FileDamaged(StorageError):
    """The database file is damaged or no Tinyvex database; it was not touched."""

    number = 1505
    exit_code = 24


class FileTooNew(StorageError):
    """The database file was written by a newer Tinyvex; it was not touched."""

    number = 1506
    exit_code = 25


class StartError(TinyvexError):
    """The server cannot start, or the app cannot be loaded."""

    fault: ClassVar[Fault] = "operator"
    retry: ClassVar[Retry] = "after-fix"
    exit_code = 10


class PortTaken(StartError):
    """Another process listens on the port."""

    number = 1601
    exit_code = 11


class AppNotFound(StartError):
    """The app's file or package does not exist."""

    number = 1602
    exit_code = 12


class AppInvalid(StartError):
    """The app's modules do not import or declare something impossible; the message has file and line."""

    number = 1603
    fault = "developer"
    exit_code = 13


class SchemaRejected(StartError):
    """Existing documents do not fit the app's new schema; `violations` lists ids and fields."""

    number = 1604
    fault = "developer"
    exit_code = 14


def violation_lines(error: TinyvexError) -> list[str]:
    """Return the violations of a SchemaRejected, one line each; nothing for other errors."""
    return [f"{found['table']} {found['id']}: {found['problem']}" for found in error.data.get("violations", [])]


class ClientError(TinyvexError):
    """Raised by the client alone, never sent."""

    fault: ClassVar[Fault] = "client"
    exit_code: ClassVar[int] = 4


class DecodeError(ClientError):
    """A value does not fit the type the caller asked for; later values still arrive."""

    number = 1701


class ConnectionLost(ClientError):
    """The connection was lost while an action or a one-shot query was in flight; whether it ran is unknown."""

    number = 1702
    retry = "now"


class ClientClosed(ClientError):
    """The client was closed."""

    number = 1703


class UpdateRejected(ClientError):
    """The server sent an update that does not continue the client's version; the client reconnects."""

    number = 1704
    fault = "server"
    retry = "now"


class ServerUntrusted(ClientError):
    """The server's TLS certificate is not to be believed: by its authority, name, time or fingerprint; nothing was sent."""

    number = 1705
    fault = "operator"
    retry = "after-fix"


class RemoteError(TinyvexError):
    """
    An error the server answered with, as the client raises it.

    The number, name, fault and retry are the server's, so that a newer server's errors pass through an older client.
    """

    def __init__(
        self,
        message: str,
        /,
        *,
        number: int,
        name: str,
        details: Mapping[str, Any],
        fault: Fault = "server",
        retry: Retry = "never",
    ) -> None:
        super().__init__(message, **details)
        self.remote_number = number
        self.remote_name = name
        # Past the class variables: here the server says what they are, error by error.
        vars(self).update(fault=fault, retry=retry)

    @property
    def name(self) -> str:
        """The server's name for it."""
        return self.remote_name

    @property
    def app_data(self) -> Any:
        """What the function gave `AppError`; None for other errors."""
        return self.data.get("appData")


def error_classes() -> Iterator[type[TinyvexError]]:
    """Every class that has a number, by number: the table behind `protocol/errors.json`."""

    def below(cls: type[TinyvexError]) -> Iterator[type[TinyvexError]]:
        for child in cls.__subclasses__():
            if "number" in child.__dict__ and child.__module__ == __name__:
                yield child
            yield from below(child)

    return iter(sorted(below(TinyvexError), key=lambda cls: cls.number))
