"""
Define every error that Tinyvex raises or sends, with its fault, stable number and name, and whether to retry.

::

    TinyvexError
    ├── ProtocolError               an invalid message, or messages in an invalid order
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
    │   ├── IdleTimeout             1015    └── RequestAcknowledged  1016
    ├── AccessError                 the identity or rights of the client
    │   ├── Unauthenticated         1101    ├── Forbidden            1102    └── SlowHandshake  1103
    ├── FunctionError               calling a user's function
    │   ├── FunctionNotFound        1201    ├── WrongFunctionKind    1202
    │   ├── InvalidArguments        1203    ├── InvalidResult        1204
    │   ├── FunctionFailed          1205    ├── AppError             1206
    │   ├── TimeLimitExceeded       1207    ├── MutationStuck        1208
    │   └── QueryStuck              1209
    ├── DatabaseError               an operation on the database
    │   ├── InvalidValue            1301    ├── ValueTooLarge        1302
    │   ├── InvalidId               1303    ├── WrongTable           1304
    │   ├── DocumentNotFound        1305    ├── IdExists             1306
    │   ├── UnknownTable            1307    ├── UnknownIndex         1308
    │   ├── SchemaViolation         1309    ├── NotUnique            1310
    │   ├── TransactionTooLarge     1311    ├── SnapshotUnavailable  1312
    │   ├── InvalidCursor           1313    ├── ImportRefused        1314    └── TableDeclared  1315
    ├── ServerError                 a condition of the server that passes
    │   ├── ServerStopping          1401    ├── Overloaded           1402    └── SlowConsumer  1403
    ├── StorageError                the database file or the data folder
    │   ├── StorageFailed           1501    ├── DataFolderLocked     1502
    │   ├── DataFolderUnusable      1503    ├── DiskFull             1504
    │   ├── FileDamaged             1505    ├── FileTooNew           1506
    │   └── OutcomeUnknown          1507
    ├── StartError                  starting the server or loading the app
    │   ├── PortTaken               1601    ├── AppNotFound          1602
    │   ├── AppInvalid              1603    └── SchemaRejected       1604
    └── ClientError                 raised only by the client, never sent
        ├── DecodeError             1701    ├── ConnectionLost       1702
        ├── ClientClosed            1703    ├── UpdateRejected       1704    ├── ServerUntrusted  1705
        ├── DatabaseReplaced        1706    └── CallTimeout          1707

The docstring of a class is its meaning in `protocol/errors.json`. Released numbers and names never change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

_BRIEF_LENGTH = 200

Fault = Literal["client", "developer", "server", "operator"]
Retry = Literal["never", "after-fix", "now", "later"]


class TinyvexError(Exception):
    """
    Base of all errors.

    Attributes:
        number: stable number on the wire (JSON-RPC `error.code`).
        fault: the party that can fix it: calling `client`, `developer` of the functions, `server`, or its `operator`.
        retry: `never` (the same call fails again), `after-fix` (once the named cause is fixed), `now`, or `later`.
        exit_code: the exit code of a command that ends with this error.
        fatal: whether the connection ends with this error.
        data: details for programs, as JSON.
        log_lines: what the failed function wrote with `ctx.log`; not part of `data`.
    """

    number: ClassVar[int]
    fault: ClassVar[Fault]
    retry: ClassVar[Retry] = "never"
    exit_code: ClassVar[int] = 1
    fatal: ClassVar[bool] = False
    log_lines: Sequence[str] = ()

    def __init__(self, message: str, /, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data: dict[str, Any] = data

    @property
    def name(self) -> str:
        """The stable name, which is the name of the class."""
        return type(self).__name__

    def __str__(self) -> str:
        return self.message


class ProtocolError(TinyvexError):
    """
    A message is invalid, or not allowed at this point.

    Attributes:
        request_id: the JSON-RPC id of the refused message; None if it could not be read.
    """

    fault: ClassVar[Fault] = "client"
    request_id: int | str | None = None


class ParseError(ProtocolError):
    """The message is not valid JSON."""

    number = -32700


class InvalidRequest(ProtocolError):
    """The message is not a JSON-RPC 2.0 request object; batches are not supported."""

    number = -32600


class MethodNotFound(ProtocolError):
    """The protocol has no method of this name."""

    number = -32601


class InvalidParams(ProtocolError):
    """The parameters do not match the method's schema; the error message has the path of the wrong field."""

    number = -32602


class InternalError(ProtocolError):
    """The server failed unexpectedly; its log has the request id and the traceback."""

    number = -32603
    fault = "server"
    retry = "later"


class NotConnected(ProtocolError):
    """A request arrived before `tinyvex/connect` was answered."""

    number = 1001


class AlreadyConnected(ProtocolError):
    """A second `tinyvex/connect` arrived on the same connection."""

    number = 1002


class UnsupportedVersion(ProtocolError):
    """The client and the server have no protocol version in common; `supported` lists the server's versions."""

    number = 1003
    retry = "after-fix"
    fatal = True


class BaseVersionMismatch(ProtocolError):
    """A message continues from a version other than the current one; the connection is closed."""

    number = 1004
    fatal = True


class DuplicateQueryId(ProtocolError):
    """`Add` uses a query id that is already in the query set; no part of the message was applied."""

    number = 1005


class UnknownQueryId(ProtocolError):
    """`Remove` names a query id that is not in the query set; no part of the message was applied."""

    number = 1006


class RequestIdReused(ProtocolError):
    """The request id or idempotency key was used before, for another function, other arguments or another identity."""

    number = 1007


class ObservedTsAhead(ProtocolError):
    """The client has seen a later commit of this epoch than the database contains, so one of the two has lost data."""

    number = 1008
    fatal = True


class MessageTooLarge(ProtocolError):
    """The message exceeds the server's size limit; the connection is closed."""

    number = 1009
    fatal = True


class BinaryFrame(ProtocolError):
    """A binary frame arrived, but the protocol uses only text frames; the connection is closed."""

    number = 1010
    fatal = True


class TooManyQueries(ProtocolError):
    """The query set of the connection is full; no part of the message was applied."""

    number = 1011
    retry = "after-fix"


class TooManyRequests(ProtocolError):
    """The connection has too many unanswered requests."""

    number = 1012
    retry = "later"


class SessionReplaced(ProtocolError):
    """Another connection was opened with the same session id; the older one is closed."""

    number = 1013
    fatal = True


class SessionIdentity(ProtocolError):
    """The session belongs to another identity."""

    number = 1014
    retry = "after-fix"


class IdleTimeout(ProtocolError):
    """The client sent nothing within the idle timeout, not even a pong; the connection is closed."""

    number = 1015
    retry = "now"
    fatal = True


class RequestAcknowledged(ProtocolError):
    """
    The session has acknowledged this request id: it stated that it would never send the request again.

    The result is no longer stored, and the mutation does not run.
    """

    number = 1016


class AccessError(TinyvexError):
    """The client lacks the identity or the rights for its request."""

    fault: ClassVar[Fault] = "client"
    retry: ClassVar[Retry] = "after-fix"
    exit_code: ClassVar[int] = 4


class Unauthenticated(AccessError):
    """The token is missing or invalid."""

    number = 1101
    fatal = True


class Forbidden(AccessError):
    """The client is authenticated but not allowed to do this."""

    number = 1102


class SlowHandshake(AccessError):
    """The connection did not complete its handshake and `tinyvex/connect` in time."""

    number = 1103
    retry = "now"
    fatal = True


class FunctionError(TinyvexError):
    """Calling a user's function failed."""

    fault: ClassVar[Fault] = "developer"
    exit_code: ClassVar[int] = 3


class FunctionNotFound(FunctionError):
    """There is no public function of this path; internal functions require the admin token."""

    number = 1201
    fault = "client"
    retry = "after-fix"


class WrongFunctionKind(FunctionError):
    """The function is of another kind; for example, a mutation was called as a query."""

    number = 1202
    fault = "client"


class InvalidArguments(FunctionError):
    """The arguments do not match the function's annotations; the error message has the path of the wrong field."""

    number = 1203
    fault = "client"


class InvalidResult(FunctionError):
    """The result does not match the function's annotation or is not a valid value. A mutation wrote nothing."""

    number = 1204
    retry = "after-fix"


class FunctionFailed(FunctionError):
    """The function raised an exception; the server's log has its traceback and the request id. A mutation wrote nothing."""

    number = 1205
    retry = "after-fix"


def _brief(data: Any) -> str:
    try:
        text = json.dumps(data, ensure_ascii=False, default=lambda part: f"a {type(part).__name__}")
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(data).__name__}"  # it cannot be sent either, which is reported when it is encoded
    return text if len(text) <= _BRIEF_LENGTH else f"{text[:_BRIEF_LENGTH]}…"


class AppError(FunctionError):
    """
    A function of the app refused the call and returned data for the client, which arrives as `error.data.appData`.

    Args:
        data: any value; the client receives it unchanged.
    """

    number = 1206

    def __init__(self, data: Any = None) -> None:
        super().__init__(data if isinstance(data, str) else f"the function refused: {_brief(data)}")
        self.app_data: Any = data


class TimeLimitExceeded(FunctionError):
    """The function exceeded its time limit. A mutation wrote nothing; what an action had committed before stays."""

    number = 1207
    retry = "after-fix"


class MutationStuck(FunctionError):
    """This mutation held the interpreter until the watchdog ended the server; it does not run again. Nothing was written."""

    number = 1208


class QueryStuck(FunctionError):
    """
    This query held the interpreter until the watchdog ended the server. It does not run again with these arguments for this
    user, until its code changes or the server is stopped and started.
    """

    number = 1209
    retry = "after-fix"


class DatabaseError(TinyvexError):
    """An operation on the database failed."""

    fault: ClassVar[Fault] = "developer"
    exit_code: ClassVar[int] = 3


class InvalidValue(DatabaseError):
    """Data is not a valid value: a key that begins with `$`, a plain integer that is too large, or an unsupported type."""

    number = 1301


class ValueTooLarge(DatabaseError):
    """A document or value exceeds a limit on size, nesting, elements or fields."""

    number = 1302


class InvalidId(DatabaseError):
    """The string is not a document id."""

    number = 1303


class WrongTable(DatabaseError):
    """The id belongs to another table."""

    number = 1304


class DocumentNotFound(DatabaseError):
    """The document to patch, replace or delete does not exist."""

    number = 1305


class IdExists(DatabaseError):
    """The id to insert is in use, or was in use within the retention period."""

    number = 1306


class UnknownTable(DatabaseError):
    """The database has no table of this name."""

    number = 1307
    retry = "after-fix"


class UnknownIndex(DatabaseError):
    """The table has no index of this name, or did not have it yet as of the snapshot."""

    number = 1308
    retry = "after-fix"


class SchemaViolation(DatabaseError):
    """A document does not match the class of its table; the error message has the path of the wrong field."""

    number = 1309


class NotUnique(DatabaseError):
    """More than one document matches a query that ends with `unique()`."""

    number = 1310


class TransactionTooLarge(DatabaseError):
    """A mutation wrote more documents or bytes than the limit of one transaction."""

    number = 1311


class SnapshotUnavailable(DatabaseError):
    """The requested `ts` is in the future, or older than the retained history."""

    number = 1312
    fault = "client"


class InvalidCursor(DatabaseError):
    """The cursor does not belong to this query with these arguments; start from the first page."""

    number = 1313
    fault = "client"


class ImportRefused(DatabaseError):
    """The import does not fit the database, or is not the import in progress; nothing was changed."""

    number = 1314
    fault = "operator"
    retry = "after-fix"


class TableDeclared(DatabaseError):
    """The app declares the table, so it cannot be dropped; nothing was changed."""

    number = 1315
    retry = "after-fix"


class ServerError(TinyvexError):
    """The server cannot do this now."""

    fault: ClassVar[Fault] = "server"
    retry: ClassVar[Retry] = "later"
    exit_code: ClassVar[int] = 4


class ServerStopping(ServerError):
    """The server is stopping; reconnect after `retryAfterMs` milliseconds."""

    number = 1401
    fatal = True


class Overloaded(ServerError):
    """The server has reached one of its limits."""

    number = 1402


class SlowConsumer(ServerError):
    """The client read too slowly for too long, or left too much unread; the connection is closed."""

    number = 1403
    fault = "client"
    fatal = True


class StorageError(TinyvexError):
    """The database file or the data folder is unusable."""

    fault: ClassVar[Fault] = "operator"
    retry: ClassVar[Retry] = "after-fix"
    exit_code = 20


class StorageFailed(StorageError):
    """SQLite reported an error without a name of its own here; the transaction was rolled back, and stays so after a crash."""

    number = 1501
    fault = "server"
    retry = "later"


class DataFolderLocked(StorageError):
    """Another process owns the data folder; the error message has its process id."""

    number = 1502
    exit_code = 21


class DataFolderUnusable(StorageError):
    """The data folder cannot be created, read or written."""

    number = 1503
    exit_code = 22


class DiskFull(StorageError):
    """The disk is full; the transaction was rolled back."""

    number = 1504
    exit_code = 23


class FileDamaged(StorageError):
    """The database file is damaged, lacks acknowledged commits, or is not a Tinyvex database; it was not changed."""

    number = 1505
    exit_code = 24


class FileTooNew(StorageError):
    """The database file was written by a newer version of Tinyvex; it was not changed."""

    number = 1506
    exit_code = 25


class OutcomeUnknown(StorageError):
    """
    The disk failed during the commit, and again while the commit was withdrawn.

    The mutation has no effect as long as the server runs, but a server that starts after a crash may find it committed.
    Sent again with the same request id, it takes effect once.
    """

    number = 1507
    fault = "server"
    retry = "later"
    fatal = True


class StartError(TinyvexError):
    """The server cannot start, or the app cannot be loaded."""

    fault: ClassVar[Fault] = "operator"
    retry: ClassVar[Retry] = "after-fix"
    exit_code = 10


class PortTaken(StartError):
    """Another process is listening on the port."""

    number = 1601
    exit_code = 11


class AppNotFound(StartError):
    """The app's file or package does not exist."""

    number = 1602
    exit_code = 12


class AppInvalid(StartError):
    """The app's modules cannot be imported, or contain an invalid declaration; the error message has file and line."""

    number = 1603
    fault = "developer"
    exit_code = 13


class SchemaRejected(StartError):
    """Existing documents do not match the app's new schema; `violations` lists their ids and fields."""

    number = 1604
    fault = "developer"
    exit_code = 14


class ClientError(TinyvexError):
    """The client raises these errors itself; no server sends them."""

    fault: ClassVar[Fault] = "client"
    exit_code: ClassVar[int] = 4


class DecodeError(ClientError):
    """A result does not match the type that the caller requested; later results still arrive."""

    number = 1701


class ConnectionLost(ClientError):
    """The connection was lost while an action or a one-shot query was in flight; it may or may not have run."""

    number = 1702
    retry = "now"


class ClientClosed(ClientError):
    """The client was closed."""

    number = 1703


class UpdateRejected(ClientError):
    """The server sent an update that does not continue from the client's version; the client reconnects."""

    number = 1704
    fault = "server"
    retry = "now"


class ServerUntrusted(ClientError):
    """The server's TLS certificate is not trusted because of its authority, name, dates or fingerprint; nothing was sent."""

    number = 1705
    fault = "operator"
    retry = "after-fix"


class DatabaseReplaced(ClientError):
    """The server at this URL has another database than the one that the call was made for; it was not sent there."""

    number = 1706
    retry = "after-fix"


class CallTimeout(ClientError, TimeoutError):
    """
    A call was not answered within its `timeout`. A call that was not sent was withdrawn, and never runs.

    Of a call that was sent, the outcome is unknown. A sent mutation still runs once: the client sends it again after a
    lost connection.
    """

    number = 1707

    @property
    def was_sent(self) -> bool:
        """Return whether the call was sent, so that it may have run or may still run."""
        return bool(self.data.get("wasSent"))


class RemoteError(TinyvexError):
    """
    An error sent by the server, as the client raises it.

    It is also an instance of the error's own class, so that `except AppError` catches it, unless this version lacks one.
    Number, name, fault and retry are the server's, so that an older client can report the errors of a newer server.
    """

    fatal = False  # if a function passes it on, it ends no other connection

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
        TinyvexError.__init__(self, message, **details)  # not that of the error's own class
        self._name = name
        # Assigned past the declarations as class variables: for this class the server sends them with each error.
        vars(self).update(number=number, fault=fault, retry=retry)

    @property
    def name(self) -> str:
        """The name that the server sent."""
        return self._name

    @property
    def app_data(self) -> Any:
        """The data of an `AppError`; None for other errors."""
        return self.data.get("appData")


def error_classes() -> Iterator[type[TinyvexError]]:
    """Yield every class that has a number, in the order of numbers, for `protocol/errors.json`."""

    def below(cls: type[TinyvexError]) -> Iterator[type[TinyvexError]]:
        for child in cls.__subclasses__():
            if "number" in child.__dict__ and child.__module__ == __name__:
                yield child
            yield from below(child)

    return iter(sorted(below(TinyvexError), key=lambda cls: cls.number))
