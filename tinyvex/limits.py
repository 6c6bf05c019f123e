"""
All bounds in one place: the number, the reason for it, and the consequence of reaching it.

The comment behind a bound names the error that a caller gets, or the action that the code takes. Sizes count bytes of
encoded JSON unless the comment states otherwise. Durations are seconds unless the name ends in another unit.
"""

# Values. The numbers are Convex's published limits, so that data can move between the two.
NESTING_MAX = 64  # ValueTooLarge, naming the path; so are the next three
ARRAY_ELEMENTS_MAX = 8192
OBJECT_FIELDS_MAX = 1024
DOCUMENT_BYTES_MAX = 1 << 20
IDENTIFIER_LENGTH_MAX = 64
SAFE_INTEGER_MAX = 2**53 - 1  # the range that an IEEE double represents exactly; a larger int must be an Int64

# One function execution.
FUNCTION_SECONDS = 10.0  # default time limit of a query or mutation; TimeLimitExceeded, and nothing is written
FUNCTION_GRACE_SECONDS = (
    2.0  # a function that ignores its time limit this long loses its thread; another one takes over
)
THREADS_ABANDONED_MAX = 8  # that many stuck threads end the process (services/watchdog.py)
ACTION_SECONDS = 600.0  # time limit of an action; TimeLimitExceeded
# Threads of actions, started when needed: so many actions can block at the same time without delaying others. More would
# delay the loop if all compute, because the interpreter runs one thread at a time, for SWITCH_SECONDS each.
ACTION_THREADS = 8
ACTION_THREADS_PER_CLIENT_MAX = ACTION_THREADS - 1  # so that one client never blocks all; its further actions share
ACTIONS_MAX = (
    4096  # running actions of all clients; Overloaded. Actions outlive connections, so need a bound of their own
)
# The time that a thread which computes may run while another waits for the interpreter lock, in a server's own process. A
# mutation waits for the lock some 30 times: alongside a query that computes it takes 31 ms (median), and 154 ms with
# Python's own interval of 5 ms. Three threads that compute need 4 % more processor time for it.
SWITCH_SECONDS = 0.001
SLOW_MS = 1000  # a query or mutation that runs at least this long is logged
SLOW_LINES_PER_MINUTE = 60  # further slow executions are counted and reported in one line
WATCHDOG_SECONDS = (
    60.0  # a C call that holds the interpreter lock this long, not counting suspensions, ends the process
)
TRANSACTION_DOCUMENTS_MAX = 16_384  # written by one mutation; TransactionTooLarge
TRANSACTION_BYTES_MAX = 32 << 20  # written by one mutation; TransactionTooLarge
RESULT_BYTES_MAX = 64 << 20  # InvalidResult
ARGUMENT_BYTES_MAX = 16 << 20  # InvalidArguments
LONG_ARGUMENTS_BYTES = 64 << 10  # longer arguments count towards the next bound; queue lengths bound shorter ones
LONG_ARGUMENTS_BYTES_MAX = 256 << 20  # long arguments of all unanswered calls together; Overloaded
LOG_LINES_MAX = 256  # per execution; further lines are counted and reported in one last line
LOG_LINE_LENGTH_MAX = 4096  # characters; the rest is cut off
CONSTRUCTION_SOURCES_MAX = 64  # cached source files of failed constructions; the least recently used one is evicted

# Storage.
SCAN_PAGE_ROWS = 256  # rows that a scan fetches before it yields to other readers; the memory of a scan is one page
SCAN_PAGE_BYTES = 4 << 20  # the same in bytes
COUNT_PAGE_KEYS = 4096  # keys that a count visits before it yields; more than a scan, because it reads no documents
GROUP_MUTATIONS_MAX = 128  # mutations that share one COMMIT
GROUP_SECONDS = 0.02  # the run time after which a group commits, so that slow mutations do not delay the quick ones
WRITER_QUEUE_MAX = 4096  # waiting mutations; Overloaded
READER_QUEUE_MAX = 65_536  # waiting queries; Overloaded
READER_THREADS = 2
LARGE_RESULT_BYTES = 1 << 20  # from this on, a result counts towards the next bound
UNDELIVERED_BYTES_MAX = 64 << 20  # large results computed and not yet handed to their connections; then no query starts
READS_RUNNING_PER_CLIENT_MAX = READER_THREADS - 1  # so that one client never occupies all readers
SYSTEM_SHARE = 4.0  # of the readers and the writer, for work that no client requested; a client has 1
FAIR_COST_SECONDS_MIN = 0.00005  # charged for a shorter execution: queueing and committing it cost as much
FAIR_FIRST_COST_SECONDS = 0.02  # expected of a client's first execution; a client known for quick ones precedes it
LIVE_QUERY_PAYERS_MAX = 16  # subscribers examined to find the one that is charged for a computation
RECENT_COMMITS_BYTES_MAX = 4 << 20  # recent commits in memory; a live query older than these reads its ranges again
COMMIT_RECORD_BYTES_MAX = 256 << 20  # of an encoded commit: its documents, and index keys made from them
LISTENER_RECORDS_MAX = 4096  # that wait for a listener; then it has fallen behind and reads the log instead
LISTENER_BYTES_MAX = 32 << 20  # the same, by memory
WAL_BYTES_CHECKPOINT = 4 << 20  # the writer checkpoints once it is idle for CHECKPOINT_IDLE_SECONDS
WAL_BYTES_TRUNCATE = 16 << 20  # a longer log is truncated once the writer is idle for TRUNCATE_IDLE_SECONDS
# Above this the writer checkpoints whenever its queue is empty, however briefly. With 500 mutations/s and one subscriber
# (`bench canonical`), commit-to-client p99 is 2 ms; it was 75 ms when only WAL_BYTES_MAX triggered a checkpoint.
WAL_BYTES_LULL = 8 << 20
WAL_BYTES_MAX = 64 << 20  # not yet copied into the file; the writer checkpoints before its next group
# SQLite restarts the log only when it is completely checkpointed and no reader uses it, which overlapping readers may
# prevent for as long as they overlap. Above this size the writer therefore waits for active readers: WAL_WAITS times
# WAL_WAIT_MS, and again when the log has grown by half. So the log has at most this and one group, unless a read lasts longer.
WAL_BYTES_WAIT = 2 * WAL_BYTES_MAX
WAL_WAITS = 10
WAL_WAIT_MS = 100
CHECKPOINT_IDLE_SECONDS = 0.02  # time without a mutation after which the writer counts as idle
TRUNCATE_IDLE_SECONDS = 1.0  # idle time before truncation, which takes some 80 ms that a mutation would wait for
# A `ts` that is ahead of the wall clock by more than this, because the clock was set back, no longer states an age. Then the
# log remembers which `ts` it had at which time; see storage/log/clock_history.py.
CLOCK_AHEAD_SECONDS = 1.0
CLOCK_OBSERVED_SECONDS = (
    1.0  # shortest interval between two such observations; a time that a user gives is this precise
)
CLOCK_OBSERVATIONS_MAX = 256  # the closest ones are dropped, in relation to their age; tested to a tenth of an age
UPGRADE_STEP_ROWS = 20_000  # rows that an upgrade of the file copies in one transaction, about 0.2 s
UPGRADE_STEP_BYTES = 16 << 20  # the same in bytes; a killed upgrade loses at most one such step
REQUEST_RECORD_SECONDS = 14 * 86_400.0  # age at which an exactly-once record expires
STUCK_CALLS_MAX = 256  # refused because they ended the process; a further one evicts the oldest
RUNNING_CALLS_RECORDED_MAX = 32  # running calls that are recorded, so that the next process can refuse the stuck one
RUNNING_ACTIONS_RECORDED_MAX = 12  # of these; the rest is for calls that clients send again
REQUEST_RECORDS_INSPECTED_STEP = 1024  # records whose age one group inspects, and deletes if expired, within some 2 ms
REQUEST_RECORD_BYTES_STEP = 4 << 20  # of expired results that one group deletes, within some 10 ms
# The walk through all records is complete after a quarter as many commits as there are records. If no client acknowledges
# its results, expired records are therefore at most a quarter of all.
REQUEST_RECORDS_INSPECTED_PER_COMMIT = 4
SCHEMA_VIOLATIONS_MAX = 100  # listed in the error; all are counted
SUGGESTION_NAMES_MAX = 256  # names that a misspelt one is compared with, for at most some 2 ms: clients can cause it
IMPORT_STEP_ROWS = 256  # documents per commit of an import; a mutation waits for at most two such commits, some 20 ms
IMPORT_STEP_BYTES = 1 << 20  # the same in bytes
IMPORT_SECONDS = 86_400.0  # age at which an unfinished import counts as abandoned and its data is deleted
IMPORT_LINE_BYTES_MAX = 8 << 20  # one document in the file, with its white space and escapes
IMPORT_ZIP_DIRECTORY_BYTES_MAX = 1 << 20  # list of a zip's entries, some 10,000; Python takes 20 times as much for it
IMPORT_LINE_PROBLEMS_MAX = 24  # problems reported per line
IMPORT_PROBLEMS_MAX = 10_000  # problems listed; all are counted
BACKFILL_STEP_ROWS = 512  # index entries added per transaction; a mutation waits for at most one such step
BACKFILL_STEP_BYTES = 1 << 20  # the same in bytes of their documents: some 10 ms

# One connection.
MESSAGE_BYTES_MAX = 32 << 20  # MessageTooLarge, closed with 1009
HANDSHAKE_SECONDS = 10.0  # time until `tinyvex/connect`; SlowHandshake
UNAUTHENTICATED_BYTES_MAX = 24 << 10  # bytes of a client before it is authenticated: a head and 8 KiB; MessageTooLarge
QUERIES_PER_CONNECTION_MAX = 4096  # TooManyQueries
REQUESTS_PER_CONNECTION_MAX = 1024  # unanswered requests; TooManyRequests
TRANSITIONS_UNSENT_MAX = 2  # at this number no further transition is computed until the socket drains
CHUNK_BYTES = 256 << 10  # a longer transition is sent in chunks, so that other messages pass between them
OUTBOX_BYTES_HIGH = CHUNK_BYTES  # above this the socket counts as full: its buffer holds one chunk
SYSTEM_BUFFER_BYTES = 128 << 10  # unsent bytes in the operating system's buffer, before ours fills
# Above this the server stops reading from the client, and runs no further queries for it, until the client reads.
RESPONSES_UNSENT_BYTES_MAX = 64 << 20
OUTBOX_BYTES_MAX = (
    RESPONSES_UNSENT_BYTES_MAX + 2 * RESULT_BYTES_MAX
)  # SlowConsumer; the margin is for requests in flight
UNREAD_COUNTED_BYTES = 1 << 20  # from this on, what waits for a client counts towards the next bound
# What waits for all clients together. Above it, the client is closed that has the most and has not read for longest;
# SlowConsumer.
UNREAD_BYTES_MAX = 256 << 20
CLOSE_SECONDS = 2.0  # how long a closing connection waits for the peer's close frame

# History.
RETENTION_SECONDS = 24 * 3600.0  # default age up to which any state can be read
# The default size bound: this many times the live data, plus RETENTION_BYTES. Above it the oldest revisions go before their
# age. Request records count too, but history keeps at least half of the bound, and records never expire early.
RETENTION_LIVE_FACTOR = 4
RETENTION_BYTES = 256 << 20
LIVE_SIZE_STEP_ROWS = 10_000  # rows that one step of measuring the live data reads
LIVE_SIZE_SECONDS = (
    3600.0  # age at which a measurement is repeated; earlier if the file has grown by a tenth above the bound
)
RETENTION_SECONDS_MIN = 10.0  # smallest age: reads under way and clients that reconnect need it
RETENTION_STEP_ROWS = 500  # revisions examined per step of the writer, about a millisecond
RETENTION_STEP_ROWS_MAX = 5_000  # the same while mutations write faster than that, some 10 ms
HOUSEKEEPING_SECONDS = (
    0.01  # after this a step of deletions ends early, because documents are large; it lasts up to 30 ms
)
RETENTION_PAUSE_SECONDS = 0.01  # pause between two steps
RETENTION_INTERVAL_SECONDS = 60.0  # pause between two sweeps; a tenth of the retained time if that is less

# Live queries.
CANONICAL_BYTES_MAX = 256 << 10  # arguments of one message canonicalised to find equal ones; at most 30 ms on the loop
RESULT_CACHE_BYTES_MAX = 128 << 20  # cached results, ranges and older versions; the least recently computed are evicted
DIFF_TEXT_BYTES_MAX = 16 << 20  # text of a result without its rows; if longer, the full value is sent
DIFF_STEPS_MAX = 200_000  # fields and elements compared for one patch on a reader thread, about half a second
# Comparisons on the loop, for a client that is behind: each bound keeps one below a millisecond. Above any of them the
# full value is sent.
DIFF_ON_LOOP_BYTES_MAX = 64 << 10  # encoded text of a result
DIFF_ON_LOOP_ROWS_MAX = 1024  # rows in chunks that the other version does not have
DIFF_ON_LOOP_ROWS_BYTES_MAX = 512 << 10  # encoded text of those rows
DIFF_ON_LOOP_STEPS_MAX = 1_000  # fields and elements
# Computations that one turn of a connection, or one group of commits, starts: some 2 ms. The next iteration continues.
PLAN_QUERIES_MAX = 64
PATCHES_CACHED_MAX = 32  # cached patches of one result, each from another older version
RECONSTRUCTIONS_MAX = 4  # older results of one live query reconstructed concurrently, for clients that resume
TRANSITION_BYTES_MAX = 4 * RESULT_BYTES_MAX  # all results in one transition; a client refuses a longer one
# What cannot be evicted, because results wait for the others of their transitions: the longest transition and one more
# result. Above it, the client with the most is closed; Overloaded.
AWAITED_BYTES_MAX = TRANSITION_BYTES_MAX + RESULT_BYTES_MAX

# Pairing.
PAIRING_SECONDS = 300.0  # lifetime of a pairing code
PAIRING_TRIES_MAX = 5  # wrong codes of one address, or IPv6 network, before it has to wait between two
PAIRING_PAUSE_SECONDS = 10.0  # that wait; a code that comes earlier is refused unseen (Unauthenticated)
TOKEN_USES_SECONDS = 300.0  # interval at which the last uses of paired tokens are written
PAIRING_NETWORKS_MAX = 1024  # counted addresses and networks; a further one evicts the oldest
PAIRING_LOCK_SECONDS = 1.0  # wait for another process that changes pairings, which takes some 10 ms; it blocks the loop

# The dashboard.
DASHBOARD_LINK_SECONDS = 60.0  # lifetime of a link
DASHBOARD_LINKS_MAX = 8  # valid links; a further one invalidates the oldest
DASHBOARD_TABS_MAX = 64  # authenticated tabs; a further one signs out the oldest
DASHBOARD_RECORDS_MAX = 500  # log records
DASHBOARD_SAMPLES_MAX = 600  # samples of figures, one per second
DASHBOARD_TEXT_LENGTH_MAX = 4096  # characters of a record's message or traceback; the rest is cut off
DASHBOARD_ROWS_MAX = 200  # connections or live queries in one response
DASHBOARD_SCAN_MAX = 10_000  # live queries examined to find the busiest
DASHBOARD_ARGUMENTS_LENGTH_MAX = 200  # characters of a live query's arguments; the rest is cut off

# The server.
CONNECTIONS_MAX = 10_000  # further ones get status 503
SOCKETS_MAX = 2 * CONNECTIONS_MAX  # further ones are closed without an answer
FILES_RESERVED = 320  # open files of a process that are not for sockets, but for the database and handshakes of TLS
SCRAPES_MAX = 4  # concurrent scrapes of the metrics, each with a thread and an open file; further ones get status 503
HTTP_HEAD_BYTES_MAX = 16 << 10  # request line and headers; status 431
HTTP_BODY_BYTES_MAX = 20 << 20  # body of a request; status 413
HTTP_BODY_BUFFER_BYTES = 64 << 10  # bytes of a body received ahead of its handler; above this reading pauses
HTTP_IDLE_SECONDS = 20.0  # time without a byte between two requests (closed), or in a body (status 408)
AUDIT_REFUSALS_PER_MINUTE = 64  # audit records of refused clients; further ones are counted in one record
AUDIT_RECORDS_PER_MINUTE = 256  # the same for all other audit records, which no stranger can cause
REFUSALS_LOGGED_MAX = 64  # reasons logged in a minute, each once; further refusals are not logged
# Sockets whose clients are not admitted yet; a further one evicts the oldest of the address with the most. With TLS and a
# WebSocket that has sent 8 KB, one takes some 41 KB.
STRANGERS_MAX = 256  # of other machines together
STRANGERS_PER_NETWORK_MAX = 32  # of one address, or IPv6 network
STRANGERS_LOCAL_MAX = 4096  # of this machine, whose programs, and a reverse proxy, share an address
TLS_HANDSHAKES_MAX = 256  # unfinished TLS handshakes; a further one evicts the oldest
HEARTBEAT_SECONDS = 5.0  # interval of WebSocket pings
PING_SECONDS = 15.0  # time without another message after which `tinyvex/ping` is sent
IDLE_SECONDS = 120.0  # time without a byte from the client; IdleTimeout
SLOW_CONSUMER_SECONDS = 120.0  # time in which the client reads nothing although data waits; SlowConsumer
SHUTDOWN_SECONDS = 10.0  # the one deadline of a shutdown
SERVICE_STOP_SECONDS = 2.0  # a service that takes longer to stop is no longer waited for
SERVICE_RESTART_SECONDS_MIN = 1.0  # pause before a failed service restarts; it doubles with each failure in a row
SERVICE_RESTART_SECONDS_MAX = 60.0  # longest such pause; a service that has run this long counts as healthy
RETRY_AFTER_MS = 500  # the reconnect hint that clients get from a stopping server
SAVE_SETTLE_SECONDS = 0.05  # time without a change of its files before a reloaded app serves; editors write in less
SAVE_MISSING_SECONDS = 1.0  # the same if functions are missing, as in a file of which a slow writer has written a half

# The garbage collector (`server/services/garbage_collector.py`). To examine an object takes 0.1 to 0.5 µs.
COLLECTOR_YOUNG_OBJECTS = 700  # objects created, less those freed, before a young collection; Python's own default
COLLECTOR_YOUNG_PASSES = 10  # young collections before a longer one, of about 8,000 objects: 1 ms
COLLECTOR_YOUNG_COLLECTIONS = 3  # of the longer ones before a full collection
COLLECTOR_SECONDS = 1.0  # interval at which the service checks which collection is due
COLLECTOR_SECONDS_MIN = 0.25  # the same after a full collection, while clients create thousands of live queries
COLLECTOR_FREEZE_OBJECTS = 10_000  # that remain after a full collection; they are frozen if no function runs
COLLECTOR_FREEZE_BUSY_OBJECTS = 30_000  # the same if functions run: about 10 ms to examine; functions own few of them
COLLECTOR_HOLD_SECONDS = 10.0  # objects that live queries and connections do not explain are not frozen before this age
COLLECTOR_HOLD_GARBAGE = 0.1  # nor while garbage is more than this share of them
COLLECTOR_HOLD_OBJECTS = 100_000  # above this they are frozen in any case: about 40 ms to examine
COLLECTOR_IDLE_SECONDS = 5.0  # without a message, a commit or a computation
COLLECTOR_THAW_OBJECTS = 100_000  # frozen and not explained by live queries, about 10 MB: all are examined when idle
COLLECTOR_THAW_BUSY_OBJECTS = 300_000  # the same, about 30 MB: all are examined at any time, which may take 0.2 s
COLLECTOR_PATIENCE_MAX = 8  # by which COLLECTOR_HOLD_SECONDS is multiplied if frozen objects become garbage
LIVE_QUERY_OBJECTS = 8  # that the collector tracks for a live query and a subscription to it
CONNECTION_OBJECTS = 50  # the same for a connection

# Finding servers.
BROWSED_SERVERS_MAX = 256  # further announcements are ignored
BROWSE_ANSWER_SECONDS = 1  # time in which an announced server must answer with its address

# Users' tokens.
AUTH_LEEWAY_SECONDS = 10.0  # tolerated difference between the clocks of issuer and server, for `nbf`, `iat` and `exp`
AUTH_TOKEN_LENGTH_MAX = 8192  # characters; Unauthenticated
AUTH_CLOCK_SECONDS = 60.0  # interval at which the wall clock is compared with a token's expiry
AUTH_QUEUED_MESSAGES_MAX = (
    256  # messages queued while keys for the connection's token are fetched; Overloaded, closed with 1013
)
AUTH_SECRET_BYTES_MIN = 32  # for HS256 (RFC 7518 section 3.2); StartError
AUTH_RSA_BITS_MIN = 2048  # RFC 7518 section 3.3
AUTH_KEYS_BYTES_MAX = 1 << 20  # size of a key set
AUTH_KEYS_MAX = 256  # keys in a key set
AUTH_WAITING_MAX = 4096  # tokens that wait for keys; Overloaded
AUTH_REFETCH_SECONDS = 60.0  # shortest interval at which unknown key ids trigger a fetch of the key set
AUTH_RETRY_SECONDS = 5.0  # the same after a fetch that failed
AUTH_FRESH_SECONDS = 600.0  # age at which a key set in use is fetched again in the background
AUTH_KEYS_SECONDS_MAX = 24 * 3600.0  # age at which a key set that cannot be fetched is no longer used
AUTH_FETCH_SECONDS = 10.0  # time limit of one fetch

# The client.
AUTH_CALLABLE_SECONDS = 30.0  # time limit of the application's function that returns a token
AUTH_RENEW_SECONDS_MIN = 1.0  # shortest interval between two tokens requested because the last one is about to expire
AUTH_CALLABLE_RETRY_SECONDS_MIN = (
    0.5  # first pause before an auth callable that failed is called again; it doubles each time
)
AUTH_CALLABLE_RETRY_SECONDS_MAX = 30.0  # longest such pause
RECONNECT_SECONDS_MIN = 0.05  # first pause before a reconnect; it grows with each failure
RECONNECT_SECONDS_MAX = 15.0  # longest such pause
RECONNECT_LOOPBACK_SECONDS_MAX = 1.0  # while no server listens on this machine: a refused attempt costs well under 1 ms
RECONNECT_HINT_SECONDS_MAX = 24 * 3600.0  # a longer hint from the server is ignored
CLIENT_INACTIVE_SECONDS = 45.0  # time without a frame after which the client reconnects
CLIENT_SILENCE_STEP_SECONDS = (
    5.0  # the client adds up that time in steps; a longer one, in a suspended process, counts as one
)
IDEMPOTENCY_KEY_LENGTH_MAX = 256  # characters of a caller's own key; InvalidParams
CLIENT_REQUESTS_MAX = 4096  # unanswered requests; further callers wait
CLIENT_QUERIES_MAX = QUERIES_PER_CONNECTION_MAX
CLIENT_MESSAGE_BYTES_MAX = TRANSITION_BYTES_MAX + (1 << 20)  # a longer message makes the client reconnect

assert CLOSE_SECONDS + SERVICE_STOP_SECONDS < SHUTDOWN_SECONDS
assert PING_SECONDS < CLIENT_INACTIVE_SECONDS < IDLE_SECONDS
assert HEARTBEAT_SECONDS < PING_SECONDS
assert FILES_RESERVED > TLS_HANDSHAKES_MAX
assert STRANGERS_PER_NETWORK_MAX < STRANGERS_MAX <= TLS_HANDSHAKES_MAX < STRANGERS_LOCAL_MAX < CONNECTIONS_MAX
assert UNAUTHENTICATED_BYTES_MAX > HTTP_HEAD_BYTES_MAX
assert (IMPORT_LINE_PROBLEMS_MAX + 1) * IMPORT_STEP_ROWS < ARRAY_ELEMENTS_MAX
assert DOCUMENT_BYTES_MAX < ARGUMENT_BYTES_MAX < MESSAGE_BYTES_MAX
assert LONG_ARGUMENTS_BYTES < MESSAGE_BYTES_MAX < LONG_ARGUMENTS_BYTES_MAX
assert TRANSACTION_BYTES_MAX >= 16 * DOCUMENT_BYTES_MAX
assert COMMIT_RECORD_BYTES_MAX >= 4 * TRANSACTION_BYTES_MAX
assert LISTENER_RECORDS_MAX > GROUP_MUTATIONS_MAX
assert WAL_BYTES_CHECKPOINT <= WAL_BYTES_LULL < WAL_BYTES_MAX < WAL_BYTES_WAIT
assert OUTBOX_BYTES_MAX < UNREAD_BYTES_MAX
assert RESULT_CACHE_BYTES_MAX < TRANSITION_BYTES_MAX < AWAITED_BYTES_MAX
assert GROUP_SECONDS < FUNCTION_SECONDS
assert READS_RUNNING_PER_CLIENT_MAX >= 1
assert RUNNING_CALLS_RECORDED_MAX - RUNNING_ACTIONS_RECORDED_MAX > READER_THREADS + THREADS_ABANDONED_MAX + 1
assert FUNCTION_SECONDS + FUNCTION_GRACE_SECONDS < WATCHDOG_SECONDS
assert RECONNECT_SECONDS_MIN <= RECONNECT_LOOPBACK_SECONDS_MAX <= RECONNECT_SECONDS_MAX
assert RECONNECT_SECONDS_MIN * 1000 <= RETRY_AFTER_MS
