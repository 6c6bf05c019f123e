"""The chat example's functions, tested as its author would test them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import tinyvex as tv
from examples.chat import app
from tinyvex.testing import Database


@pytest.fixture
def db() -> Iterator[Database]:
    """Open a database with one channel."""
    with tv.testing.Database() as database:
        database.mutation(app.create_channel, name="general")
        yield database


def test_messages_are_read_newest_first(db: Database) -> None:
    """The last message sent is the first returned."""
    for body in ("one", "two"):
        db.mutation(app.send, channel="general", author="Ann", body=body)
    assert [message.body for message in db.query(app.recent, channel="general")] == ["two", "one"]


def test_channels_are_unique(db: Database) -> None:
    """Creating an existing channel changes nothing."""
    first = db.query(app.channels)[0]
    assert db.mutation(app.create_channel, name="general", topic="other") == first.id
    assert db.query(app.channels) == [first]


def test_unknown_channel(db: Database) -> None:
    """An unknown channel raises an error that clients can read."""
    with pytest.raises(tv.AppError) as caught:
        db.query(app.recent, channel="nowhere")
    assert caught.value.app_data == {"kind": "no-channel", "name": "nowhere"}


@pytest.mark.parametrize("body", ["", "   ", "x" * (app.BODY_LENGTH_MAX + 1)])
def test_bad_bodies(db: Database, body: str) -> None:
    """Empty and overlong messages are refused."""
    with pytest.raises(tv.AppError):
        db.mutation(app.send, channel="general", author="Ann", body=body)


def test_editing(db: Database) -> None:
    """Authors can edit their messages."""
    message = db.mutation(app.send, channel="general", author="Ann", body="Helo")
    db.mutation(app.edit, message=message, author="Ann", body="Hello")
    (edited,) = db.query(app.recent, channel="general")
    assert (edited.body, edited.edited) == ("Hello", True)


def test_only_authors_can_change_messages(db: Database) -> None:
    """Users cannot edit or delete another author's messages."""
    message = db.mutation(app.send, channel="general", author="Ann", body="Hello")
    with pytest.raises(tv.AppError):
        db.mutation(app.edit, message=message, author="Bob", body="x")
    with pytest.raises(tv.AppError):
        db.mutation(app.delete, message=message, author="Bob")
    assert db.query(app.message_count, channel="general") == 1


def test_deleting(db: Database) -> None:
    """A deleted message disappears."""
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
    """Every line of a file becomes a message, in a channel created for it."""
    (tmp_path / "poem.txt").write_text("Roses\n\nare red\n", encoding="utf-8")
    assert db.action(app.import_text, channel="poems", author="Ann", path=str(tmp_path / "poem.txt")) == 2
    assert [message.body for message in db.query(app.recent, channel="poems")] == ["are red", "Roses"]
