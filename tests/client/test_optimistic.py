"""The store that optimistic updates read and change, and when updates run."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tinyvex.client.decoding import encode_arguments
from tinyvex.client.optimistic import LocalStore, OptimisticUpdates, QueryKey, Update
from tinyvex.client.query_value import QueryValue
from tinyvex.errors import DecodeError, InvalidValue
from tinyvex.values import codec


def key(name: str) -> QueryKey:
    """Return the query `m:get {name}`."""
    return "m:get", encode_arguments({"name": name})


class Results:
    """The server's results of `m:get {name}`, by name; None for a query that has none yet."""

    def __init__(self, **values: Any) -> None:
        self.values: dict[QueryKey, QueryValue | None] = {}
        for name, value in values.items():
            self.set(name, value)

    def set(self, name: str, value: Any) -> None:
        self.values[key(name)] = None if value is None else QueryValue(codec.encode(value), f"{value}")

    def server_value(self, key: QueryKey) -> QueryValue | None:
        return self.values.get(key)

    def subscribed_keys(self, path: str) -> list[QueryKey]:
        return [key for key in self.values if key[0] == path]


class Client:
    """The updates of one client over the server's results, with the number of runs of each update."""

    def __init__(self, **values: Any) -> None:
        self.server = Results(**values)
        self.updates = OptimisticUpdates(self.server)
        self.runs: list[int] = []

    def add(self, update: Update) -> int:
        """Call a mutation with an update; return its number."""
        number = len(self.runs)
        self.runs.append(0)

        def counted(store: LocalStore) -> None:
            self.runs[number] += 1
            update(store)

        self.updates.add(number, "m:change", counted, self.updates.run(counted))
        return number

    def shown(self, name: str) -> Any:
        result = self.updates.results.get(key(name)) or self.server.server_value(key(name))
        return None if result is None else result.value

    def look(self, use: Callable[[LocalStore], Any]) -> Any:
        """Return what an update would read."""
        seen: list[Any] = []
        self.updates.run(lambda store: seen.append(use(store)))
        return seen[0]


def append(name: str, row: Any) -> Update:
    return lambda store: store.set("m:get", {"name": name}, [*store.get("m:get", {"name": name}), row])


# The store.


def test_get_reads_the_servers_result() -> None:
    """None if there is no result."""
    client = Client(a=[1, 2], b=None)
    assert client.look(lambda store: store.get("m:get", {"name": "a"}, type=list[int])) == [1, 2]
    assert client.look(lambda store: store.get("m:get", {"name": "b"})) is None
    assert client.look(lambda store: store.get("m:get", {"name": "c"})) is None


def test_a_result_that_was_set_is_read_back() -> None:
    """By the same update and by later ones; the server's result is unchanged."""
    client = Client(a=1)
    seen: list[Any] = []

    def update(store: LocalStore) -> None:
        store.set("m:get", {"name": "a"}, 0)
        seen.append(store.get("m:get", {"name": "a"}))

    client.add(update)
    assert seen == [0]
    assert client.look(lambda store: store.get("m:get", {"name": "a"})) == 0
    server = client.server.server_value(key("a"))
    assert server is not None
    assert server.value == 1


def test_queries_lists_the_results_of_a_path() -> None:
    """Arguments and values of subscribed queries, including those that were set."""
    client = Client(a=1, b=2, c=None)

    def update(store: LocalStore) -> None:
        store.set("m:get", {"name": "b"}, 3)
        store.set("m:get", {"name": "not subscribed"}, 4)

    client.add(update)
    assert client.look(lambda store: list(store.queries("m:get"))) == [({"name": "a"}, 1), ({"name": "b"}, 3)]

    def update_again(store: LocalStore) -> list[Any]:
        store.set("m:get", {"name": "c"}, 5)
        return [value for _, value in store.queries("m:get")]

    assert client.look(update_again) == [1, 3, 5]


def test_a_list_that_was_read_may_be_changed_and_set() -> None:
    """The result itself is not changed before."""
    client = Client(a=[{"n": 1}])

    def update(store: LocalStore) -> None:
        rows = store.get("m:get", {"name": "a"})
        rows.append({"n": 2})
        assert store.get("m:get", {"name": "a"}) == [{"n": 1}]
        store.set("m:get", {"name": "a"}, rows)

    client.add(update)
    assert client.shown("a") == [{"n": 1}, {"n": 2}]


def test_a_row_that_was_read_cannot_be_changed() -> None:
    """It belongs to the result that is shown."""
    client = Client(a=[{"n": 1}])
    with pytest.raises(TypeError, match="set a copy"):
        client.add(lambda store: store.get("m:get", {"name": "a"})[0].update(n=2))
    assert client.shown("a") == [{"n": 1}]


def test_wrong_types_and_values_are_errors() -> None:
    """They are raised in the update."""
    client = Client(a="text")
    with pytest.raises(DecodeError):
        client.add(lambda store: store.get("m:get", {"name": "a"}, type=int))
    with pytest.raises(InvalidValue):
        client.add(lambda store: store.set("m:get", {"name": "a"}, object()))


# When updates run.


def test_a_call_runs_its_own_update_only() -> None:
    """However many are pending."""
    client = Client(a=[])
    for number in range(100):
        client.add(append("a", number))
    assert client.shown("a") == list(range(100))
    assert client.runs == [1] * 100


def test_a_change_below_runs_each_update_once() -> None:
    """A change of the server's result, or the end of an earlier update."""
    client = Client(a=[])
    for number in range(10):
        client.add(append("a", number))
    client.server.set("a", ["x"])
    client.updates.refresh()
    assert client.runs == [2] * 10
    assert client.shown("a") == ["x", *range(10)]
    client.updates.remove(4)
    client.updates.refresh()
    assert client.runs == [2] * 5 + [3] * 5
    assert client.shown("a") == ["x", 0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_an_update_does_not_run_again_for_results_that_it_did_not_read() -> None:
    """Nor if it only sets a result."""
    client = Client(a=[], b=[])
    client.add(append("a", 1))
    client.add(lambda store: store.set("m:get", {"name": "b"}, ["expected"]))
    client.server.set("b", ["another"])
    client.updates.refresh()
    assert client.runs == [1, 1]
    assert client.shown("b") == ["expected"]


def test_an_update_whose_input_is_equal_again_does_not_run() -> None:
    """The update below it ran again with the same outcome."""
    client = Client(a=[3], b=0)
    client.add(lambda store: store.set("m:get", {"name": "b"}, len(store.get("m:get", {"name": "a"}))))
    client.add(lambda store: store.set("m:get", {"name": "b"}, store.get("m:get", {"name": "b"}) + 10))
    client.server.set("a", [4])
    client.updates.refresh()
    assert client.runs == [2, 1]
    assert client.shown("b") == 11


def test_an_update_that_lists_queries_runs_for_each_of_them() -> None:
    """Also for one that is subscribed later."""
    client = Client(a=1)

    def update(store: LocalStore) -> None:
        for args, value in store.queries("m:get"):
            store.set("m:get", args, value + 1)

    client.add(update)
    client.server.set("b", 5)
    client.updates.refresh()
    assert (client.shown("a"), client.shown("b"), client.runs) == (2, 6, [2])


def test_an_update_that_raises_later_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Those after it run on the results without it."""
    client = Client(a=[])

    def only_on_nothing(store: LocalStore) -> None:
        assert store.get("m:get", {"name": "a"}) == []
        store.set("m:get", {"name": "a"}, ["first"])

    client.add(only_on_nothing)
    client.add(append("a", "second"))
    client.server.set("a", ["x"])
    client.updates.refresh()
    assert client.shown("a") == ["x", "second"]
    assert "m:change" in caplog.text
    assert not client.updates.remove(0)


def test_values_that_were_not_changed_are_neither_encoded_nor_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pending update over a thousand rows costs its own row."""
    client = Client(a=[{"n": n} for n in range(1000)])
    client.add(append("a", {"n": 1000}))
    encoded: list[object] = []
    encode = codec.encode
    monkeypatch.setattr(codec, "encode", lambda value: encoded.append(value) or encode(value))
    for number in range(1001, 1100):
        client.add(append("a", {"n": number}))
    assert all(value == {"name": "a"} for value in encoded)
    server = client.server.server_value(key("a"))
    assert server is not None
    assert all(one is other for one, other in zip(client.shown("a"), server.value, strict=False))


@pytest.mark.parametrize("seed", range(50))
def test_the_results_equal_those_of_running_everything_again(seed: int) -> None:
    """In random orders of calls, ends of calls and changes of the server's results."""
    source = random.Random(seed)
    client = Client(a=0, b=0, c=None)
    pending: dict[int, Update] = {}

    def random_update() -> Update:
        reads, writes = source.choice("abc"), source.choice("abc")
        by, lists, blind = source.randrange(3), source.random() < 0.2, source.random() < 0.2

        def update(store: LocalStore) -> None:
            before = store.get("m:get", {"name": reads})
            total = sum(value for _, value in store.queries("m:get")) if lists else 0
            store.set("m:get", {"name": writes}, by if blind else (before or 0) + by + total)

        return update

    for _ in range(60):
        match source.randrange(3):
            case 0:
                update = random_update()
                pending[client.add(update)] = update
            case 1 if pending:
                number = source.choice(list(pending))
                del pending[number]
                client.updates.remove(number)
                client.updates.refresh()
            case _:
                client.server.set(source.choice("abc"), source.randrange(5))
                client.updates.refresh()
        fresh = OptimisticUpdates(client.server)
        for number, update in pending.items():
            fresh.add(number, "m:change", update, fresh.run(update))
        assert client.updates.results == fresh.results, f"seed {seed}"
