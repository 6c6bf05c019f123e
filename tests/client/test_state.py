"""The client's state machine against a fake server, message by message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.fake_server import FIRST_TS, FakeServer, FakeSession, error_object
from tinyvex import limits
from tinyvex.client.optimistic import LocalStore
from tinyvex.client.pending_requests import CallKind
from tinyvex.client.query_set import ClientQuery, QueryFailure
from tinyvex.client.query_value import QueryValue
from tinyvex.client.state import ClientState, Completed, Connected, Ended, Failed, ResultsChanged, SessionPhase
from tinyvex.errors import (
    ClientClosed,
    ConnectionLost,
    DatabaseReplaced,
    MessageTooLarge,
    RemoteError,
    TinyvexError,
    TooManyQueries,
    UpdateRejected,
)
from tinyvex.values import codec


class Dialogue:
    """A client's state and a fake server; messages move only when a method is called."""

    def __init__(self, server: FakeServer | None = None) -> None:
        self.server = server or FakeServer()
        self.state = ClientState("session-1", "token")
        self.session: FakeSession
        self.events: list[Any] = []

    def open(self) -> Dialogue:
        """Open a socket and exchange all messages."""
        self.dial()
        self.run()
        return self

    def dial(self) -> None:
        self.session = self.server.connect()
        self.state.opened(now_ms=5)

    def send(self) -> list[dict[str, Any]]:
        """Move the client's messages to the server; return them."""
        messages = []
        while (text := self.state.next_message()) is not None:
            messages.append(json.loads(text))
            self.session.receive(text)
        self.check()
        return messages

    def receive(self) -> None:
        """Move the server's messages to the client."""
        messages, self.session.out = self.session.out, []
        for text in messages:
            self.state.receive(text)
            self.check()

    def run(self) -> None:
        """Exchange messages until neither side has more."""
        while self.send() or self.session.out:
            self.session.turn()
            self.receive()
        self.session.turn()
        self.receive()

    def check(self) -> None:
        self.state.validate()
        self.events += self.state.events()

    def lose(self) -> None:
        self.state.lost("cut")
        self.check()

    def subscribe(self, name: str) -> ClientQuery:
        return self.state.subscribe("counters:get", codec.encode({"name": name}))

    def add(self, name: str, by: int = 1, **kwargs: Any) -> int:
        args = codec.encode({"name": name, "by": by})
        number = self.state.call(CallKind.MUTATION, "counters:add", args, **kwargs).number
        self.check()
        return number

    def call(self, kind: CallKind, path: str, args: bytes = b"{}") -> int:
        return self.state.call(kind, path, args).number

    def take_events(self) -> list[Any]:
        self.check()
        events, self.events = self.events, []
        return events


def methods(messages: list[dict[str, Any]]) -> list[str]:
    return [message["method"].removeprefix("tinyvex/") for message in messages]


def shown(query: ClientQuery) -> Any:
    assert isinstance(query.shown, QueryValue)
    return json.loads(query.shown.json)


def completed(events: list[Any]) -> list[int]:
    return [event.number for event in events if isinstance(event, Completed)]


def failures(events: list[Any]) -> dict[int, TinyvexError]:
    return {event.number: event.error for event in events if isinstance(event, Failed)}


# Connecting.


def test_nothing_is_sent_before_a_socket_is_open() -> None:
    """Calls and subscriptions wait."""
    dialogue = Dialogue()
    dialogue.subscribe("a")
    dialogue.add("a")
    assert dialogue.state.next_message() is None


def test_connect_is_first_and_alone() -> None:
    """Nothing follows `tinyvex/connect` until it is answered, because the epoch is unknown before."""
    dialogue = Dialogue()
    dialogue.subscribe("a")
    dialogue.dial()
    (connect,) = dialogue.send()
    assert connect["method"] == "tinyvex/connect"
    assert connect["params"]["sessionId"] == "session-1"
    assert connect["params"]["token"] == "token"
    assert connect["params"]["connectionCount"] == 0


def test_after_connecting_the_query_set_precedes_the_requests() -> None:
    """One `modifyQuerySet` from 0 to 1 has every query; requests follow in the order of the calls."""
    dialogue = Dialogue()
    dialogue.add("a")
    dialogue.call(CallKind.QUERY, "counters:get", b'{"name":"a"}')
    dialogue.subscribe("a"), dialogue.subscribe("b")
    dialogue.dial()
    dialogue.send()
    dialogue.receive()
    modify, *calls = dialogue.send()
    assert (modify["params"]["baseVersion"], modify["params"]["newVersion"]) == (0, 1)
    assert [change["queryId"] for change in modify["params"]["modifications"]] == [0, 1]
    assert methods(calls) == ["mutation", "query"]


def test_a_refused_token_ends_the_session() -> None:
    """A new socket cannot fix Unauthenticated; every request gets the error."""
    dialogue = Dialogue()
    dialogue.server.refusal = error_object("Unauthenticated", "wrong token", retry="after-fix")
    number = dialogue.add("a")
    dialogue.dial()
    dialogue.send()
    with pytest.raises(RemoteError, match="wrong token"):
        dialogue.receive()
    events = dialogue.take_events()
    assert dialogue.state.phase is SessionPhase.CLOSED
    assert failures(events)[number].name == "Unauthenticated"
    assert isinstance(events[-1], Ended)
    with pytest.raises(RemoteError, match="wrong token"):
        dialogue.subscribe("a")


def test_a_refusal_with_retry_later_leaves_the_session_open() -> None:
    """Its hint is available to the connection."""
    dialogue = Dialogue()
    dialogue.server.refusal = error_object("Overloaded", retry="later", retryAfterMs=700)
    dialogue.dial()
    dialogue.send()
    with pytest.raises(RemoteError):
        dialogue.receive()
    assert dialogue.state.phase is SessionPhase.GREETING
    assert dialogue.state.retry_after_ms == 700


@pytest.mark.parametrize(
    ("name", "closes"),
    [
        ("SessionReplaced", True),
        ("Unauthenticated", True),
        ("UnsupportedVersion", True),
        ("ObservedTsAhead", True),
        ("SessionIdentity", True),
        ("BaseVersionMismatch", False),
        ("ServerStopping", False),
        ("IdleTimeout", False),
        ("SlowConsumer", False),
        ("SomethingNewer", False),
    ],
)
def test_fatal_errors_that_close_the_session(name: str, closes: bool) -> None:
    """The other ones close only the socket."""
    dialogue = Dialogue().open()
    dialogue.session.fatal(error_object(name))
    with pytest.raises(RemoteError):
        dialogue.receive()
    assert (dialogue.state.phase is SessionPhase.CLOSED) is closes


# Subscriptions.


def test_a_subscription_shows_the_current_value_and_each_new_one() -> None:
    """`ResultsChanged` names the query."""
    dialogue = Dialogue().open()
    dialogue.server.commit("a", 3)
    query = dialogue.subscribe("a")
    dialogue.run()
    assert shown(query) == 3
    dialogue.server.commit("a", 1)
    dialogue.run()
    assert shown(query) == 4
    assert [event for event in dialogue.take_events() if isinstance(event, ResultsChanged)] == [
        ResultsChanged([0]),
        ResultsChanged([0]),
    ]


def test_equal_subscriptions_share_one_query_id() -> None:
    """The query is added once, and removed with the last subscription."""
    dialogue = Dialogue().open()
    first, second = dialogue.subscribe("a"), dialogue.subscribe("a")
    assert first is second
    assert methods(dialogue.send()) == ["modifyQuerySet"]
    dialogue.run()
    dialogue.state.queries.release(first.query_id)
    assert dialogue.send() == []
    dialogue.state.queries.release(first.query_id)
    (modify,) = dialogue.send()
    assert modify["params"]["modifications"] == [{"type": "Remove", "queryId": 0}]
    dialogue.run()
    assert list(dialogue.state.queries) == []


def test_a_query_removed_before_it_was_sent_sends_nothing() -> None:
    """Only the difference to the server's query set is sent."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.state.queries.release(query.query_id)
    assert dialogue.send() == []


def test_a_query_subscribed_again_before_its_removal_was_sent_stays() -> None:
    """The server does not notice."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()
    dialogue.state.queries.release(query.query_id)
    assert dialogue.subscribe("a") is query
    assert dialogue.send() == []


def test_query_ids_are_never_reused() -> None:
    """A query that is added again after its removal was sent has a new id."""
    dialogue = Dialogue().open()
    dialogue.state.queries.release(dialogue.subscribe("a").query_id)
    query = dialogue.subscribe("a")
    dialogue.run()
    dialogue.state.queries.release(query.query_id)
    dialogue.run()
    assert dialogue.subscribe("a").query_id > query.query_id


def test_a_result_of_a_removed_query_is_ignored() -> None:
    """The rest of the transition, which crosses with the removal, is applied."""
    dialogue = Dialogue().open()
    kept, dropped = dialogue.subscribe("a"), dialogue.subscribe("b")
    dialogue.send()
    dialogue.state.queries.release(dropped.query_id)
    dialogue.send()
    dialogue.run()
    assert shown(kept) == 0


def test_failure_and_success_follow_each_other() -> None:
    """A failed query shows its error; an equal error is not a change."""
    dialogue = Dialogue().open()
    query = dialogue.state.subscribe("counters:fail", b"{}")
    dialogue.run()
    assert isinstance(query.shown, QueryFailure)
    assert query.revision == 1
    dialogue.server.commit("failures", 1)
    dialogue.run()
    assert query.revision == 2
    assert query.shown.error.message == "failed 1"


def test_too_many_queries_are_refused_by_the_client() -> None:
    """So the message with the other queries is not refused."""
    dialogue = Dialogue()
    for number in range(limits.CLIENT_QUERIES_MAX):
        dialogue.subscribe(str(number))
    with pytest.raises(TooManyQueries):
        dialogue.subscribe("one more")


def test_queries_above_the_servers_bound_fail_alone_until_there_is_room() -> None:
    """When another query is removed, the failed one is added."""
    server = FakeServer()
    server.queries_max = 2
    dialogue = Dialogue(server).open()
    first, second, third = (dialogue.subscribe(name) for name in "abc")
    dialogue.run()
    assert shown(first) == shown(second) == 0
    assert isinstance(third.shown, QueryFailure)
    assert third.shown.error.name == "TooManyQueries"
    dialogue.state.queries.release(first.query_id)
    dialogue.run()
    assert shown(third) == 0


def test_a_query_with_arguments_too_large_for_the_server_fails_alone() -> None:
    """Sending it would end every connection."""
    server = FakeServer()
    server.message_bytes_max = 2000
    dialogue = Dialogue(server).open()
    large = dialogue.subscribe("x" * 3000)
    small = dialogue.subscribe("a")
    dialogue.run()
    assert isinstance(large.shown, QueryFailure)
    assert large.shown.error.name == "MessageTooLarge"
    assert shown(small) == 0
    assert dialogue.state.caught_up


def test_changes_of_the_query_set_are_collected_while_others_are_unanswered() -> None:
    """A client that subscribes faster than the server answers sends few messages."""
    dialogue = Dialogue().open()
    sent = []
    for number in range(50):
        dialogue.subscribe(str(number))
        sent += dialogue.send()
    assert len(sent) == 4
    dialogue.run()
    assert len(dialogue.session.queries) == 50


# The version chain.


def transition(start: int, end: int, query_set: tuple[int, int] = (0, 0), *modifications: Any) -> str:
    params = {
        "startVersion": {"querySet": query_set[0], "identity": 0, "ts": start},
        "endVersion": {"querySet": query_set[1], "identity": 0, "ts": end},
        "modifications": modifications,
        "serverTs": 0,
    }
    return json.dumps({"jsonrpc": "2.0", "method": "tinyvex/transition", "params": params})


UPDATE = {"type": "QueryUpdated", "queryId": 0, "hash": "h"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (transition(7, 8), "starts at 0/0/7"),
        (transition(0, 8, (1, 1)), "starts at 1/0/0"),
        (transition(0, 8, (0, 5)), "last query-set version sent is 0"),
        (transition(0, 8, (0, 0), {**UPDATE, "value": 1}), "was never added"),
        ('{"jsonrpc":"2.0","id":99,"result":{}}', "99, which is not open"),
        ('{"jsonrpc":"2.0","id":null,"error":' + json.dumps(error_object("ParseError", "bad JSON")) + "}", "bad JSON"),
        ("no JSON", "is malformed"),
        ('{"jsonrpc":"2.0","method":"tinyvex/transition","params":{}}', "is malformed"),
        ("[]", "is malformed"),
        ('{"jsonrpc":"2.0"}', "neither"),
    ],
)
def test_inconsistent_messages_are_rejected(text: str, why: str) -> None:
    """A gap, an unknown query, an unexpected answer, malformed JSON: UpdateRejected, then another socket."""
    dialogue = Dialogue().open()
    with pytest.raises(UpdateRejected, match=why):
        dialogue.state.receive(text)
    assert dialogue.state.phase is SessionPhase.READY
    dialogue.lose()
    dialogue.open()


def test_a_transition_that_goes_backwards_is_rejected() -> None:
    """Versions never decrease."""
    dialogue = Dialogue().open()
    dialogue.state.receive(transition(0, 8))
    with pytest.raises(UpdateRejected, match="backwards"):
        dialogue.state.receive(transition(8, 7))


@pytest.mark.parametrize(
    ("modification", "why"),
    [
        (UPDATE, "neither a value nor a patch"),
        ({"type": "QueryUnchanged", "queryId": 0, "hash": "other"}, "from a result that this client lacks"),
        ({"type": "QueryRemoved", "queryId": 0}, "did not ask for that"),
    ],
)
def test_impossible_updates_are_rejected(modification: dict[str, Any], why: str) -> None:
    """An update must build on a result that this client has."""
    dialogue = Dialogue().open()
    dialogue.subscribe("a")
    dialogue.run()
    ts = dialogue.state.version.ts
    with pytest.raises(UpdateRejected, match=why):
        dialogue.state.receive(transition(ts, ts + 1, (1, 1), modification))


@pytest.mark.parametrize("method", ["tinyvex/ping", "tinyvex/fromTheFuture"])
def test_pings_and_unknown_notifications_change_nothing(method: str) -> None:
    """They have no effect."""
    dialogue = Dialogue().open()
    version = dialogue.state.version
    dialogue.state.receive(json.dumps({"jsonrpc": "2.0", "method": method, "params": {}}))
    assert dialogue.state.version == version
    assert dialogue.take_events() == [Connected()]


# Mutations, actions, one-shot queries.


def test_a_mutation_is_complete_with_the_transition_that_covers_it() -> None:
    """Not with its answer; and the results that show it come first."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()
    dialogue.take_events()
    number = dialogue.add("a", 5)
    dialogue.send()
    dialogue.receive()
    assert dialogue.take_events() == []
    dialogue.session.turn()
    dialogue.receive()
    changed, done = dialogue.take_events()
    assert changed == ResultsChanged([query.query_id])
    assert (done.number, done.answer.value) == (number, b"5")


def test_a_transition_before_the_commit_does_not_complete_a_mutation() -> None:
    """Its `ts` must be reached."""
    dialogue = Dialogue().open()
    number = dialogue.add("a")
    dialogue.send()
    dialogue.receive()
    dialogue.state.receive(transition(0, FIRST_TS))
    assert completed(dialogue.take_events()) == []
    dialogue.state.receive(transition(FIRST_TS, FIRST_TS + 2))
    assert completed(dialogue.take_events()) == [number]


def test_a_failed_mutation_waits_for_no_transition() -> None:
    """The error has the app's data."""
    dialogue = Dialogue().open()
    number = dialogue.call(CallKind.MUTATION, "counters:fail")
    dialogue.send()
    dialogue.receive()
    error = failures(dialogue.take_events())[number]
    assert isinstance(error, RemoteError)
    assert error.app_data == {"why": "because"}


def test_actions_and_queries_are_complete_with_their_answer() -> None:
    """They wait for no transition."""
    dialogue = Dialogue().open()
    action = dialogue.call(CallKind.ACTION, "counters:slow")
    query = dialogue.call(CallKind.QUERY, "counters:echo", b'{"value":2}')
    dialogue.send()
    dialogue.receive()
    assert completed(dialogue.take_events()) == [query]
    dialogue.session.finish_actions()
    dialogue.receive()
    assert completed(dialogue.take_events()) == [action]
    assert list(dialogue.state.requests) == []


def test_no_more_requests_are_sent_than_the_server_accepts() -> None:
    """The others wait for answers."""
    server = FakeServer()
    server.requests_max = 16
    dialogue = Dialogue(server).open()
    numbers = [dialogue.add("a") for _ in range(30)]
    assert len(dialogue.send()) == 10
    dialogue.run()
    assert server.counters == {"a": 30}
    assert completed(dialogue.take_events()) == numbers


def test_a_request_too_large_for_the_server_fails_alone() -> None:
    """It is never sent; later requests are."""
    server = FakeServer()
    server.message_bytes_max = 2000
    dialogue = Dialogue(server).open()
    large = dialogue.add("x" * 3000)
    small = dialogue.add("a")
    dialogue.run()
    events = dialogue.take_events()
    assert isinstance(failures(events)[large], MessageTooLarge)
    assert completed(events) == [small]


def test_an_unsent_action_can_be_withdrawn() -> None:
    """It is never sent."""
    dialogue = Dialogue()
    action = dialogue.state.call(CallKind.ACTION, "counters:echo", b'{"value":1}')
    dialogue.add("a")
    assert dialogue.state.withdraw(action)
    dialogue.open()
    assert methods(dialogue.session.heard) == ["connect", "mutation"]


# Lost connections.


def test_queries_are_sent_again_with_their_ids_and_resume() -> None:
    """In one `modifyQuerySet` from 0 to 1; an unchanged result is not sent again."""
    dialogue = Dialogue().open()
    dialogue.state.queries.release(dialogue.subscribe("gone").query_id)
    query = dialogue.subscribe("a")
    dialogue.run()
    dialogue.add("a")
    dialogue.run()
    revision, ts = query.revision, dialogue.state.version.ts
    dialogue.lose()
    dialogue.open()
    modify = dialogue.session.heard[1]["params"]
    (add,) = modify["modifications"]
    assert (modify["baseVersion"], modify["newVersion"], add["queryId"]) == (0, 1, query.query_id)
    assert add["resume"]["ts"] == ts
    assert (shown(query), query.revision) == (1, revision)
    assert dialogue.session.heard[0]["params"]["maxObservedTs"] == ts
    assert dialogue.session.heard[0]["params"]["connectionCount"] == 1
    assert dialogue.session.heard[0]["params"]["lastCloseReason"] == "cut"


def test_changes_during_a_disconnection_arrive() -> None:
    """With the next transition."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()
    dialogue.lose()
    dialogue.server.commit("a", 9)
    dialogue.open()
    assert shown(query) == 9


def test_a_query_subscribed_while_disconnected_is_not_lost() -> None:
    """Nor is one that is subscribed while `tinyvex/connect` is unanswered."""
    dialogue = Dialogue().open()
    dialogue.lose()
    first = dialogue.subscribe("a")
    dialogue.dial()
    dialogue.send()
    second = dialogue.subscribe("b")
    dialogue.run()
    assert shown(first) == shown(second) == 0
    assert methods(dialogue.session.heard) == ["connect", "modifyQuerySet"]


def test_a_query_with_an_unsent_removal_is_not_added_again() -> None:
    """A new socket has subscribed queries only."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()
    dialogue.state.queries.release(query.query_id)
    dialogue.lose()
    dialogue.open()
    assert methods(dialogue.session.heard) == ["connect"]


def test_unfinished_mutations_are_sent_again_in_order_under_their_numbers() -> None:
    """Unanswered, or answered but not covered; the server returns stored results, so nothing runs twice."""
    dialogue = Dialogue().open()
    answered = dialogue.add("a")
    dialogue.send()
    dialogue.receive()
    unanswered = dialogue.add("a")
    dialogue.send()
    dialogue.lose()
    unsent = dialogue.add("a")
    dialogue.open()
    again = [message["params"]["requestId"] for message in dialogue.session.heard[1:]]
    assert again == [answered, unanswered, unsent]
    assert dialogue.server.counters == {"a": 3}
    assert completed(dialogue.take_events()) == [answered, unanswered, unsent]


def test_sent_actions_and_queries_fail_and_unsent_ones_are_sent() -> None:
    """The outcome of a sent one is unknown, and the error says so."""
    dialogue = Dialogue().open()
    sent = [dialogue.call(kind, "counters:slow") for kind in (CallKind.ACTION, CallKind.QUERY)]
    dialogue.send()
    unsent = dialogue.call(CallKind.ACTION, "counters:echo", b'{"value":1}')
    dialogue.lose()
    errors = failures(dialogue.take_events())
    assert sorted(errors) == sent
    assert all(isinstance(error, ConnectionLost) for error in errors.values())
    dialogue.open()
    assert completed(dialogue.take_events()) == [unsent]


def test_a_mutation_refused_by_a_stopping_server_is_resent() -> None:
    """Its caller does not notice."""
    dialogue = Dialogue().open()
    number = dialogue.add("a")
    (message,) = [json.loads(dialogue.state.next_message() or b"")]
    dialogue.session.refuse(message["id"], error_object("ServerStopping", retry="later", retryAfterMs=500))
    with pytest.raises(RemoteError):
        dialogue.receive()
    assert dialogue.state.retry_after_ms == 500
    dialogue.lose()
    dialogue.open()
    assert completed(dialogue.take_events()) == [number]


def test_an_answered_mutation_stays_answered_if_resending_fails() -> None:
    """It did commit; the refusal of its repetition does not change that."""
    dialogue = Dialogue().open()
    number = dialogue.add("a")
    dialogue.send()
    dialogue.receive()
    dialogue.lose()
    dialogue.dial()
    dialogue.send()
    dialogue.receive()
    message = json.loads(dialogue.state.next_message() or b"")
    dialogue.session.refuse(message["id"], error_object("Overloaded"))
    dialogue.session.owed = True
    dialogue.session.turn()
    dialogue.receive()
    assert completed(dialogue.take_events()) == [number]


def test_a_new_socket_shows_nothing_until_everything_is_restored() -> None:
    """A transition past the visible `ts` but without the queries changes nothing and completes nothing."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()
    number = dialogue.add("a")
    dialogue.send()
    dialogue.receive()
    dialogue.lose()
    dialogue.dial()
    dialogue.send()
    dialogue.receive()
    dialogue.send()
    dialogue.take_events()
    modify, answer = dialogue.session.out
    dialogue.state.receive(answer)
    dialogue.state.receive(transition(0, dialogue.server.ts))
    assert not dialogue.state.caught_up
    assert (shown(query), dialogue.take_events()) == (0, [])
    dialogue.session.version = {"querySet": 0, "identity": 0, "ts": dialogue.server.ts}
    dialogue.session.out = [modify]
    dialogue.run()
    assert dialogue.state.caught_up
    assert (shown(query), completed(dialogue.take_events())) == (1, [number])


def test_a_query_set_split_into_messages_is_restored_as_one() -> None:
    """Nothing is shown before the last message is answered."""
    server = FakeServer()
    server.message_bytes_max = 2000
    dialogue = Dialogue(server).open()
    queries = [dialogue.subscribe(name * 700) for name in "ab"]
    dialogue.run()
    dialogue.lose()
    for query in queries:
        server.commit(json.loads(query.args)["name"], 1)
    dialogue.dial()
    dialogue.send()
    dialogue.receive()
    first = dialogue.state.next_message()
    assert first is not None
    dialogue.session.receive(first)
    dialogue.session.turn()
    dialogue.receive()
    assert [shown(query) for query in queries] == [0, 0]
    dialogue.run()
    assert [shown(query) for query in queries] == [1, 1]


def test_visible_results_never_go_backwards() -> None:
    """A transition to an older version is withheld until a newer one arrives."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.server.commit("a", 1)
    dialogue.run()
    ts = dialogue.state.version.ts
    dialogue.lose()
    dialogue.dial()
    for _ in range(2):
        dialogue.send()
        dialogue.receive()
    dialogue.state.receive(transition(0, ts - 1, (0, 1), {**UPDATE, "value": 0}))
    assert shown(query) == 1
    dialogue.state.receive(transition(ts - 1, ts, (1, 1), {**UPDATE, "value": 1}))
    assert (shown(query), query.revision) == (1, 1)


def test_another_epoch_discards_results_and_resume_data() -> None:
    """A smaller version is accepted, and an answered mutation is complete, because it did commit."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()
    dialogue.add("a", 4)
    dialogue.run()
    answered = dialogue.add("a", 4)
    dialogue.send()
    dialogue.receive()
    dialogue.take_events()
    dialogue.lose()
    dialogue.server.restore("second")
    dialogue.open()
    assert dialogue.state.epoch == "second"
    assert dialogue.session.heard[0]["params"]["observedEpoch"] == "first"
    assert dialogue.session.heard[1]["params"]["modifications"][0]["resume"] is None
    assert methods(dialogue.session.heard) == ["connect", "modifyQuerySet"]
    assert completed(dialogue.take_events()) == [answered]
    assert shown(query) == 0


def test_a_server_that_lost_data_ends_the_session() -> None:
    """Within an epoch the server must have every commit that this client observed."""
    dialogue = Dialogue().open()
    dialogue.add("a")
    dialogue.run()
    dialogue.lose()
    dialogue.server.restore("first")
    dialogue.dial()
    dialogue.send()
    with pytest.raises(RemoteError):
        dialogue.receive()
    assert dialogue.state.phase is SessionPhase.CLOSED


def test_a_refused_change_of_the_query_set_ends_the_socket() -> None:
    """Otherwise the subscription would wait forever; the next socket adds every query again."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    (change,) = [json.loads(text) for text in iter(dialogue.state.next_message, None)]
    dialogue.session.refuse(change["id"], error_object("TooManyQueries", "too many"))
    with pytest.raises(RemoteError, match="too many"):
        dialogue.receive()
    dialogue.lose()
    dialogue.dial()
    dialogue.run()
    assert shown(query) == 0


@pytest.mark.parametrize("is_paired", [False, True])
def test_every_socket_sends_the_token(is_paired: bool) -> None:
    """The one that the client was given, or the one that the server exchanged for a pairing code."""
    dialogue = Dialogue()
    sent = []
    for _ in range(3):
        dialogue.dial()
        greeting = json.loads(dialogue.state.next_message() or b"")
        sent.append(greeting["params"]["token"])
        dialogue.session.receive(json.dumps(greeting))
        if is_paired:
            answer = json.loads(dialogue.session.out.pop())
            answer["result"]["token"] = "own token"
            dialogue.session.out.append(json.dumps(answer))
        dialogue.run()
        dialogue.lose()
    assert sent == (["token", "own token", "own token"] if is_paired else ["token"] * 3)


# Another database at the same URL.


def test_calls_are_not_sent_to_another_database() -> None:
    """Mutations and actions that were made for the former one fail; reads and later calls go to the new one."""
    dialogue = Dialogue().open()
    answered = dialogue.add("a")
    dialogue.send()
    dialogue.receive()
    dialogue.lose()
    mutation = dialogue.add("a", update=expect("a", 7))
    action = dialogue.call(CallKind.ACTION, "counters:echo", b'{"value":1}')
    query = dialogue.call(CallKind.QUERY, "counters:get", b'{"name":"a"}')
    dialogue.take_events()
    dialogue.server.restore("second")
    dialogue.server.database_id = "other"
    dialogue.dial()
    dialogue.run()
    later = dialogue.add("a")
    dialogue.run()
    events = dialogue.take_events()
    failed = failures(events)
    assert sorted(failed) == [mutation, action]
    assert all(isinstance(error, DatabaseReplaced) for error in failed.values())
    assert sorted(completed(events)) == [answered, query, later]
    assert dialogue.server.counters == {"a": 1}
    assert not dialogue.state.updates.results


def test_another_database_with_the_same_epoch_has_another_history() -> None:
    """An answered mutation is complete, because it did commit; results and `ts` of the former database are discarded."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()
    answered = dialogue.add("a", 4)
    dialogue.send()
    dialogue.receive()
    dialogue.lose()
    waiting = dialogue.add("a")
    dialogue.take_events()
    dialogue.server.database_id = "other"
    dialogue.dial()
    dialogue.run()
    events = dialogue.take_events()
    assert completed(events) == [answered]
    assert {number: error.name for number, error in failures(events).items()} == {waiting: "DatabaseReplaced"}
    assert dialogue.session.heard[1]["params"]["modifications"][0]["resume"] is None
    assert shown(query) == 4


def test_a_restored_database_is_the_same_database() -> None:
    """A new epoch alone fails no call."""
    dialogue = Dialogue().open()
    dialogue.lose()
    number = dialogue.add("a")
    dialogue.server.restore("second")
    dialogue.dial()
    dialogue.run()
    assert completed(dialogue.take_events()) == [number]


def test_results_that_are_too_long_together_end_the_session() -> None:
    """Another socket would ask for the same results again; subscribers get the error."""
    dialogue = Dialogue().open()
    dialogue.subscribe("a")
    dialogue.send()
    dialogue.session.fatal(error_object("MessageTooLarge", "the results are too long"))
    with pytest.raises(RemoteError):
        dialogue.receive()
    assert dialogue.state.phase is SessionPhase.CLOSED
    assert dialogue.state.error is not None
    assert dialogue.state.error.name == "MessageTooLarge"


# Optimistic updates.


def expect(name: str, value: int) -> Any:
    return lambda store: store.set("counters:get", {"name": name}, value)


def increment(name: str) -> Any:
    return lambda store: store.set("counters:get", {"name": name}, store.get("counters:get", {"name": name}) + 1)


def test_an_optimistic_update_is_shown_until_its_transition() -> None:
    """Between them nothing but the expected or the real value is shown."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()
    dialogue.add("a", 5, update=expect("a", 7))
    assert shown(query) == 7
    dialogue.send()
    dialogue.receive()
    assert shown(query) == 7
    dialogue.session.turn()
    dialogue.receive()
    assert shown(query) == 5


def test_a_correct_expectation_causes_one_change() -> None:
    """The value changes once."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()
    revision = query.revision
    dialogue.add("a", 5, update=expect("a", 5))
    dialogue.run()
    assert query.revision == revision + 1


def test_updates_are_applied_again_on_new_results() -> None:
    """After the commit of another client, the expectation builds on the new result."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()
    dialogue.add("a", update=increment("a"))
    dialogue.add("a", update=increment("a"))
    assert shown(query) == 2
    dialogue.server.commit("a", 10)
    dialogue.session.turn()
    dialogue.receive()
    assert shown(query) == 12


def test_a_failed_mutations_update_is_dropped_with_its_failure() -> None:
    """The previous result is shown again, in the same step."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()
    dialogue.take_events()
    dialogue.state.call(CallKind.MUTATION, "counters:fail", b"{}", update=expect("a", 7))
    assert shown(query) == 7
    dialogue.send()
    dialogue.receive()
    assert shown(query) == 0
    assert [type(event) for event in dialogue.take_events()] == [ResultsChanged, ResultsChanged, Failed]


def test_updates_survive_a_lost_connection() -> None:
    """The expectation is shown until the mutation is covered on the next socket."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()
    dialogue.add("a", 5, update=expect("a", 7))
    dialogue.send()
    dialogue.lose()
    assert shown(query) == 7
    dialogue.dial()
    for _ in range(2):
        dialogue.send()
        dialogue.receive()
        assert shown(query) == 7
    dialogue.run()
    assert shown(query) == 5


def test_an_update_that_raises_prevents_the_call() -> None:
    """The caller gets the exception."""
    dialogue = Dialogue().open()
    with pytest.raises(ZeroDivisionError):
        dialogue.add("a", update=lambda _store: 1 / 0)
    assert dialogue.send() == []


def test_an_update_that_raises_later_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """The mutation stays pending, and the error is logged."""
    dialogue = Dialogue().open()
    query = dialogue.subscribe("a")
    dialogue.run()

    def works_on_nought(store: LocalStore) -> None:
        store.set("counters:get", {"name": "a"}, 1 / (1 - store.get("counters:get", {"name": "a"})))

    number = dialogue.add("a", update=works_on_nought)
    dialogue.server.commit("a", 1)
    dialogue.session.turn()
    dialogue.receive()
    assert shown(query) == 1
    assert "counters:add" in caplog.text
    dialogue.run()
    assert completed(dialogue.take_events()) == [number]


# Closing.


def test_messages_after_closing_are_ignored() -> None:
    """No caller waits for them."""
    dialogue = Dialogue().open()
    dialogue.add("a")
    dialogue.send()
    dialogue.session.turn()
    dialogue.state.close()
    events = dialogue.take_events()
    dialogue.receive()
    assert dialogue.take_events() == []
    assert isinstance(events[-1], Ended)


def test_closing_fails_everything_once() -> None:
    """Pending requests get ClientClosed, and nothing is sent."""
    dialogue = Dialogue().open()
    number = dialogue.add("a")
    dialogue.state.close()
    dialogue.state.close()
    events = dialogue.take_events()
    assert isinstance(failures(events)[number], ClientClosed)
    assert [type(event) for event in events] == [Connected, Failed, Ended]
    with pytest.raises(ClientClosed):
        dialogue.add("a")
    assert dialogue.state.next_message() is None
