"""The types of documents, ids, rows and pages as type checkers infer them. Checked, never executed."""

from typing import Any, assert_type

import msgspec

import tinyvex as tv


@tv.table("channels", indexes={"by_name": ["name"]})
class Channel(tv.Document):
    name: str
    topic: str = ""
    parent: "tv.Id[Channel] | None" = None


@tv.table("messages", indexes={"by_channel": ["channel"]})
class Message(tv.Document):
    edited: bool = False
    channel: tv.Id[Channel]
    body: str
    count: tv.Int64 = tv.Int64(0)
    tags: list[str] = msgspec.field(default_factory=list)
    labels: list[str] = []  # noqa: RUF012  # msgspec copies it
    nickname: str | msgspec.UnsetType = tv.UNSET


def the_decorator_keeps_the_class(message: Message) -> None:
    assert_type(Message, type[Message])
    assert_type(message, Message)


def fields_have_their_types(message: Message) -> None:
    assert_type(message.channel, tv.Id[Channel])
    assert_type(message.body, str)
    assert_type(message.count, tv.Int64)
    assert_type(message.tags, list[str])


def system_fields_have_their_types(message: Message) -> None:
    assert_type(message.id, tv.Id[Message])
    assert_type(message.creation_time, float)


def documents_are_made_with_keywords(channel: tv.Id[Channel]) -> None:
    assert_type(Message(channel=channel, body="Hello"), Message)
    Message(channel=channel, body="Hello", edited=True, count=tv.Int64(3), tags=["a"])


def wrong_documents_are_refused(channel: tv.Id[Channel], message: Message) -> None:
    Channel("general")  # type: ignore[call-arg]
    Channel()  # type: ignore[call-arg]
    Channel(name=3)  # type: ignore[arg-type]
    Channel(name="general", colour="red")  # type: ignore[call-arg]
    Channel(name="general", id=channel)  # type: ignore[call-arg]
    Message(channel=message.id, body="Hello")  # type: ignore[arg-type]


def documents_are_frozen(message: Message) -> None:
    message.body = "Hello"  # type: ignore[misc]
    message.id = message.id  # type: ignore[misc]


def a_changed_copy_has_the_same_type(message: Message) -> None:
    assert_type(msgspec.structs.replace(message, body="Hello"), Message)


def ids_are_strings(message: Message) -> None:
    text: str = message.id
    tv.Id[Message](text)


def ids_of_other_tables_are_other_types(message: Message, channel: Channel) -> None:
    first: tv.Id[Message] = channel.id  # type: ignore[assignment]
    second: tv.Id[Channel] = message.channel
    del first, second


def ids_of_several_tables(target: tv.Id[Message | Channel], message: Message, channel: Channel) -> None:
    targets: list[tv.Id[Message | Channel]] = [target, message.id, channel.id]
    del targets


def rows_are_sequences(rows: tv.Rows[Message]) -> None:
    assert_type(rows[0], Message)
    assert_type(rows[1:], tv.Rows[Message])
    assert_type(len(rows), int)
    assert_type([row.body for row in rows], list[str])
    rows[0] = rows[1]  # type: ignore[index, assignment]
    rows.append(rows[0])  # type: ignore[arg-type]


def pages_have_rows(page: tv.Page[Message]) -> None:
    assert_type(page.items, tv.Rows[Message])
    assert_type(page.cursor, str)
    assert_type(page.is_done, bool)


def errors_carry_any_data() -> None:
    assert_type(tv.AppError({"kind": "full"}).app_data, Any)
    error: tv.TinyvexError = tv.AppError("full")
    del error
