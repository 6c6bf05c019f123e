"""The chat example's functions, tested as its author would."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import tinyvex as tv
from examples.chat import app
from tinyvex.testing import Database


@pytest.fixture
def db() -> Iterator[Database]:
    """A database with one channel."""
    with tv.testing.Database() as database:
        database.mutation(app.create_channel, name="general")
        yield database


def test_messages_are_read_newest_first(db: Database) -> None:
    """What was sent last comes first."""
    for body in ("one", "two"):
        db.mutation(app.send, channel="general", author="Ann", body=body)
    assert [message.body for message in db.query(app.recent, channel="general")] == ["two", "one"]


def test_channels_are_unique(db: Database) -> None:
    """Creating a channel again changes nothing."""
    first = db.query(app.channels)[0]
    assert db.mutation(app.create_channel, name="general", topic="other") == first.id
    assert db.query(app.channels) == [first]


def test_unknown_channel(db: Database) -> None:
    """A channel that is not there is an error that clients can read."""
    with pytest.raises(tv.AppError) as caught:
        db.query(app.recent, channel="nowhere")
    assert caught.value.app_data == {"kind": "no-channel", "name": "nowhere"}


@pytest.mark.parametrize("body", ["", "   ", "x" * (app.BODY_LENGTH_MAX + 1)])
def test_bad_bodies(db: Database, body: str) -> None:
    """Empty and endless messages are refused."""
    with pytest.raises(tv.AppError):
        db.mutation(app.send, channel="general", author="Ann", body=body)


def test_editing(db: Database) -> None:
    """An author can change a message."""
    message = db.mutation(app.send, channel="general", author="Ann", body="Helo")
    db.mutation(app.edit, message=message, author="Ann", body="Hello")
    (found,) = db.query(app.recent, channel="general")
    assert (found.body, found.edited) == ("Hello", True)


def test_only_one_s_own(db: Database) -> None:
    """Nobody can change or take back another's message."""
    message = db.mutation(app.send, channel="general", author="Ann", body="Hello")
    with pytest.raises(tv.AppError):
        db.mutation(app.edit, message=message, author="Bob", body="x")
    with pytest.raises(tv.AppError):
        db.mutation(app.delete, message=message, author="Bob")
    assert db.query(app.message_count, channel="general") == 1


def test_taking_back(db: Database) -> None:
    """A deleted message is gone."""
    message = db.mutation(app.send, channel="general", author="Ann", body="Hello")
    db.mutation(app.delete, message=message, author="Ann")
    assert db.query(app.recent, channel="general") == []


def test_history(db: Database) -> None:
    """The history is read page by page."""
    for number in range(5):
        db.mutation(app.send, channel="general", author="Ann", body=str(number))
    first = db.query(app.history, channel="general", size=3)
    second = db.query(app.history, channel="general", cursor=first.cursor, size=3)
    assert [[message.body for message in page.items] for page in (first, second)] == [["0", "1", "2"], ["3", "4"]]
    assert (first.is_done, second.is_done) == (False, True)


def test_importing_a_text(db: Database, tmp_path: Path) -> None:
    """Every line of a file becomes a message, in a channel that is made for it."""
    (tmp_path / "poem.txt").write_text("Roses\n\nare red\n", encoding="utf-8")
    assert db.action(app.import_text, channel="poems", author="Ann", path=str(tmp_path / "poem.txt")) == 2
    assert [message.body for message in db.query(app.recent, channel="poems")] == ["are red", "Roses"]
