"""
Every bound in one place: the number, why that number, and what happens at it.

Sizes are bytes of encoded JSON unless a name says otherwise; durations are seconds.
"""

# Values. The numbers are the published Convex limits, so that data moves between the two.
NESTING_MAX = 64  # InvalidValue / ValueTooLarge, named path
ARRAY_ELEMENTS_MAX = 8192
OBJECT_FIELDS_MAX = 1024
DOCUMENT_BYTES_MAX = 1 << 20
IDENTIFIER_LENGTH_MAX = 64
SAFE_INTEGER_MAX = 2**53 - 1  # what an IEEE double holds exactly; a larger int must be an Int64

# One function execution.
FUNCTION_SECONDS = 10.0  # TimeLimitExceeded, nothing written
FUNCTION_GRACE_SECONDS = 2.0  # then its thread is given up and the others go on without it
THREADS_ABANDONED_MAX = 8  # then the process ends with the watchdog's exit code
ACTION_SECONDS = 600.0
ACTIONS_MAX = 4096  # of clients, at once; Overloaded. They outlive connections, so those' bound is none of theirs
SLOW_MS = 1000  # a query or mutation that runs this long is logged
SLOW_LINES_PER_MINUTE = 60  # the others are counted in one line
WATCHDOG_SECONDS = 60.0  # the interpreter lock not given up for this long: the process ends
TRANSACTION_DOCUMENTS_MAX = 16_384  # TransactionTooLarge
TRANSACTION_BYTES_MAX = 32 << 20
RESULT_BYTES_MAX = 64 << 20  # InvalidResult
ARGUMENT_BYTES_MAX = 16 << 20  # InvalidArguments
LONG_ARGUMENTS_BYTES = 64 << 10  # longer ones are counted; of others, the bounds of the queues are bound enough
LONG_ARGUMENTS_BYTES_MAX = 256 << 20  # of all calls that wait for an answer together; Overloaded
LOG_LINES_MAX = 256  # per execution; the rest is counted in one last line
LOG_LINE_LENGTH_MAX = 4096

# Storage.
SCAN_PAGE_ROWS = 256  # rows fetched before a scan gives way; memory of a scan is one page
SCAN_PAGE_BYTES = 4 << 20
COUNT_PAGE_KEYS = 4096  # counted before a count gives way; keys only, no documents
GROUP_MUTATIONS_MAX = 128  # one COMMIT acknowledges at most this many
GROUP_SECONDS = 0.02  # nor runs longer before its COMMIT, so that slow mutations do not hold up quick ones
WRITER_QUEUE_MAX = 4096  # Overloaded
READER_QUEUE_MAX = 65_536  # Overloaded
READER_THREADS = 2
TAIL_BYTES_MAX = 4 << 20  # of the last commits in memory; a live query older than they are reads its ranges again
WAL_BYTES_CHECKPOINT = 4 << 20  # the writer checkpoints in its next pause
WAL_BYTES_KEPT = 16 << 20  # a log that has grown longer is cut off in a long pause
# Above this the writer checkpoints whenever its queue is empty, if only for a moment.
# `bench canonical`, 500 mutations/s beside a subscriber: send to subscriber p99 2 ms; 75 ms when only WAL_BYTES_MAX did.
WAL_BYTES_LULL = 8 << 20
WAL_BYTES_MAX = 64 << 20  # the writer checkpoints before the next group
# A log is begun anew when all of it is in the file and nobody reads in it; where reads overlap, somebody always does.
# Above this the writer waits for those that read now: as often as this, so long; and again when it is half as long again.
WAL_BYTES_WAIT = 2 * WAL_BYTES_MAX
WAL_WAITS = 10
WAL_WAIT_MS = 100
CHECKPOINT_PAUSE_SECONDS = 0.02  # without a mutation: what counts as a pause
LOG_CUT_PAUSE_SECONDS = 1.0  # a long one: cutting off takes some 80 ms, for which the next mutation would wait
REQUEST_RECORD_SECONDS = 14 * 86_400.0  # how long an exactly-once record is kept
REQUEST_RECORDS_EXPIRED_STEP = 512  # deleted in one group, once for each half as many that are written
SCHEMA_VIOLATIONS_MAX = 100  # listed; all are counted
IMPORT_STEP_ROWS = 256  # documents that one commit of an import adds: mutations wait for two of them, some 20 ms
IMPORT_STEP_BYTES = 1 << 20
IMPORT_SECONDS = 86_400.0  # from its beginning; then its client is taken for gone, and what it had added is deleted
IMPORT_LINE_BYTES_MAX = 8 << 20  # one document as it is written, with white space and escapes
IMPORT_LINE_PROBLEMS_MAX = 24  # told of one line
IMPORT_PROBLEMS_MAX = 10_000  # listed; all are counted
BACKFILL_STEP_ROWS = 512  # documents indexed per transaction, so that writers wait at most one step

# One connection.
MESSAGE_BYTES_MAX = 32 << 20  # MessageTooLarge, closed with 1009
HANDSHAKE_SECONDS = 10.0  # SlowHandshake
HELLO_BYTES_MAX = 64 << 10  # from a stranger, until it was let in; MessageTooLarge
QUERIES_PER_CONNECTION_MAX = 4096  # TooManyQueries
REQUESTS_PER_CONNECTION_MAX = 1024  # TooManyRequests
TRANSITIONS_UNSENT_MAX = 2  # no further transition is computed until the socket drains
CHUNK_BYTES = 256 << 10  # a longer transition goes in parts, with other messages between them
OUTBOX_BYTES_HIGH = CHUNK_BYTES  # the socket counts as full above this: one part waits in its buffer, no more
SYSTEM_BUFFER_BYTES = 128 << 10  # unsent in the system's own buffer, before ours fills
RESPONSES_UNSENT_BYTES_MAX = 64 << 20  # reading stops until the client reads
OUTBOX_BYTES_MAX = RESPONSES_UNSENT_BYTES_MAX + 2 * RESULT_BYTES_MAX  # SlowConsumer: what was asked before that
CLOSE_SECONDS = 2.0  # how long a close waits for the peer

# History.
RETENTION_SECONDS = 24 * 3600.0  # how far back any state can be read, unless an operator says otherwise
RETENTION_SECONDS_MIN = 10.0  # what reads under way need, and clients that come back at once
RETENTION_STEP_ROWS = 500  # revisions looked at by one unit of the writer: about a millisecond
RETENTION_STEP_ROWS_MAX = 5_000  # where mutations write so fast that less would fall behind: some 10 ms
RETENTION_PAUSE_SECONDS = 0.01  # between two of them
RETENTION_INTERVAL_SECONDS = 60.0  # between two sweeps, or a tenth of what is kept, whichever is less

# Live queries.
CANONICAL_BYTES_MAX = 256 << 10  # of one message's arguments, read to find equal ones: on the loop, 30 ms at worst
KEPT_BYTES_MAX = 128 << 20  # of results, their ranges and older versions; the one computed longest ago gives up its own
DIFF_STEPS_MAX = 200_000  # fields and elements looked at for a patch, on a reader: about half a second
# What is compared on the loop, for a client that is behind; above it the whole value is sent. Below a millisecond:
DIFF_ON_LOOP_BYTES_MAX = 64 << 10  # of text that a function made
DIFF_ON_LOOP_ROWS_MAX = 1024  # in chunks that the other version does not have
DIFF_ON_LOOP_ROWS_BYTES_MAX = 512 << 10  # of those
DIFF_ON_LOOP_STEPS_MAX = 1_000
PATCHES_KEPT_MAX = 32  # of a result, from older versions
FINDING_MAX = 4  # older results of one live query that are computed at once, for clients that resume
TRANSITION_BYTES_MAX = 4 * RESULT_BYTES_MAX  # all results of a connection at once; a client refuses more

# Pairing.
PAIRING_SECONDS = 300.0  # how long a code is good
PAIRING_TRIES_MAX = 5  # wrong ones; then it is good for nothing

# The dashboard.
DASHBOARD_LINK_SECONDS = 60.0  # how long a link is good
DASHBOARD_LINKS_MAX = 8  # open at once; the oldest is good no more
DASHBOARD_TABS_MAX = 64  # let in; the one let in longest ago is forgotten
DASHBOARD_RECORDS_MAX = 500  # log records kept
DASHBOARD_SAMPLES_MAX = 600  # seconds of figures kept
DASHBOARD_TEXT_LENGTH_MAX = 4096  # of a record's message or traceback; the rest is cut off
DASHBOARD_ROWS_MAX = 200  # connections or live queries told at once
DASHBOARD_SCAN_MAX = 10_000  # live queries among which the busiest are looked for
DASHBOARD_ARGUMENTS_LENGTH_MAX = 200  # of a live query; the rest is cut off

# The server.
CONNECTIONS_MAX = 10_000  # answered 503
SCRAPES_MAX = 4  # of the metrics at once, each with a thread and the file open; further ones are answered 503
TLS_HANDSHAKES_MAX = 256  # sockets that have not shaken hands; the oldest is cut for one more
HEARTBEAT_SECONDS = 5.0  # WebSocket ping
PING_SECONDS = 15.0  # tinyvex/ping after this long without another message
IDLE_SECONDS = 120.0  # IdleTimeout
SLOW_CONSUMER_SECONDS = 120.0  # SlowConsumer: nothing written for this long while something waits
SHUTDOWN_SECONDS = 10.0  # the one deadline of the numbered close
SERVICE_STOP_SECONDS = 2.0  # a service that stops no sooner is left to the end of the process
SERVICE_RESTART_SECONDS_MIN = 1.0  # pause before a failed service restarts; twice as long after each failure in a row
SERVICE_RESTART_SECONDS_MAX = 60.0  # longest pause; a service that has run this long is healthy again
RETRY_AFTER_MS = 500  # the hint sent when the server stops

# Finding servers.
BROWSED_SERVERS_MAX = 256  # further ones are not listed
BROWSE_ANSWER_SECONDS = 1  # how long a server that was heard of may take to say where it is

# Users' tokens.
AUTH_LEEWAY_SECONDS = 10.0  # clocks of issuer and server may differ by this much: before `nbf` and `iat`, after `exp`
AUTH_TOKEN_LENGTH_MAX = 8192
AUTH_CLOCK_SECONDS = 60.0  # how often the wall clock is looked at while a token lasts
AUTH_HELD_MAX = 256  # messages of a connection while keys are fetched for its token; Overloaded, closed with 1013
AUTH_SECRET_BYTES_MIN = 32  # of HS256, as RFC 7518 section 3.2 asks for
AUTH_RSA_BITS_MIN = 2048  # RFC 7518 section 3.3
AUTH_KEYS_BYTES_MAX = 1 << 20  # of a key set
AUTH_KEYS_MAX = 256  # in a key set
AUTH_WAITING_MAX = 4096  # tokens that wait for keys; Overloaded
AUTH_REFETCH_SECONDS = 60.0  # an unknown key id makes the key set be fetched again, at most this often
AUTH_RETRY_SECONDS = 5.0  # ... or this often where it could not be fetched
AUTH_FRESH_SECONDS = 600.0  # an older key set is fetched again while it is used
AUTH_KEYS_SECONDS_MAX = 24 * 3600.0  # one that could not be fetched again for so long is used no more
AUTH_FETCH_SECONDS = 10.0

# The client.
AUTH_CALLABLE_SECONDS = 30.0  # how long it waits for the token that it asked its program for
AUTH_RENEW_SECONDS_MIN = 1.0  # between two tokens that it asks for because the one before is about to expire
RECONNECT_SECONDS_MIN = 0.05
RECONNECT_SECONDS_MAX = 15.0
RECONNECT_HINT_SECONDS_MAX = 24 * 3600.0  # a server that asks for more is not believed
CLIENT_INACTIVE_SECONDS = 45.0  # no frame for this long: the server is gone
CLIENT_REQUESTS_MAX = 4096  # a caller waits
CLIENT_QUERIES_MAX = QUERIES_PER_CONNECTION_MAX
CLIENT_MESSAGE_BYTES_MAX = TRANSITION_BYTES_MAX + (1 << 20)  # above it the client reconnects

assert CLOSE_SECONDS + SERVICE_STOP_SECONDS < SHUTDOWN_SECONDS
assert PING_SECONDS < CLIENT_INACTIVE_SECONDS < IDLE_SECONDS
assert HEARTBEAT_SECONDS < PING_SECONDS
assert (IMPORT_LINE_PROBLEMS_MAX + 1) * IMPORT_STEP_ROWS < ARRAY_ELEMENTS_MAX
assert DOCUMENT_BYTES_MAX < ARGUMENT_BYTES_MAX < MESSAGE_BYTES_MAX
assert LONG_ARGUMENTS_BYTES < MESSAGE_BYTES_MAX < LONG_ARGUMENTS_BYTES_MAX
assert TRANSACTION_BYTES_MAX >= 16 * DOCUMENT_BYTES_MAX
assert WAL_BYTES_CHECKPOINT <= WAL_BYTES_LULL < WAL_BYTES_MAX < WAL_BYTES_WAIT
assert GROUP_SECONDS < FUNCTION_SECONDS
assert FUNCTION_SECONDS + FUNCTION_GRACE_SECONDS < WATCHDOG_SECONDS
assert RECONNECT_SECONDS_MIN * 1000 <= RETRY_AFTER_MS
