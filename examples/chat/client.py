"""
A terminal client for the chat; start it in two terminals and talk.

    tinyvex dev examples/chat/app.py
    python examples/chat/client.py --name Ada
    python examples/chat/client.py --name Eve

It uses only the public Python client.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import sys
import threading
from pathlib import Path
from typing import TypedDict

import tinyvex as tv

HELP = """\
/channels          list the channels
/join CHANNEL      switch to a channel; creates it if it does not exist
/import PATH       post every line of a text file on the server's machine
/help              show this
/quit              leave (so does Ctrl-C, and the end of input)
anything else is sent to the channel"""


class Message(TypedDict):
    _id: str
    author: str
    body: str
    edited: bool


class Channel(TypedDict):
    name: str
    topic: str


class Chat:
    def __init__(self, client: tv.Client, name: str, channel: str) -> None:
        self.client = client
        self.name = name
        self.channel = channel

    async def run(self) -> None:
        lines = read_lines()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self.watch_connection(lines))
            reading: asyncio.Task[None] | None = None
            joined: str | None = None
            line: str | None = f"/join {self.channel}"
            while line is not None:
                try:
                    if not await self.obey(line.strip()):
                        break
                except tv.TinyvexError as error:
                    print(f"! {explain(error)}", flush=True)
                if self.channel != joined:
                    if reading is not None:
                        reading.cancel()
                    reading = tasks.create_task(self.show_messages())
                    joined = self.channel
                line = await lines.get()
            for task in (watching, reading):
                if task is not None:
                    task.cancel()

    async def obey(self, line: str) -> bool:
        """Execute an input line; return False to leave."""
        command, _, rest = line.partition(" ")
        rest = rest.strip()
        if command == "/quit":
            return False
        elif command == "/channels":
            for channel in await self.client.query("app:channels", type=list[Channel]):
                print(f"  #{channel['name']}  {channel['topic']}".rstrip())
        elif command == "/join" and rest:
            await self.join(rest.removeprefix("#"))
        elif command == "/import" and rest:
            arguments = {"channel": self.channel, "author": self.name, "path": rest}
            count = await self.client.action("app:import_text", arguments, type=int)
            print(f"  {count} lines posted")
        elif line.startswith("/"):
            print(HELP)
        elif line:
            await self.client.mutation("app:send", {"channel": self.channel, "author": self.name, "body": line})
        return True

    async def join(self, channel: str) -> None:
        await self.client.mutation("app:create_channel", {"name": channel})
        self.channel = channel
        print(f"# {channel}", flush=True)

    async def show_messages(self) -> None:
        """Print each message once, and again after an edit."""
        shown: dict[str, str] = {}
        async with self.client.subscribe("app:recent", {"channel": self.channel}, type=list[Message]) as recent:
            while True:
                try:
                    messages = await anext(recent)
                except tv.TinyvexError as error:
                    print(f"! {explain(error)}")
                    if self.client.connection_state.phase == "closed":
                        return
                    continue  # the subscription stays open: the next valid value arrives
                for message in reversed(messages):
                    if shown.get(message["_id"]) != message["body"]:
                        edited = " (edited)" if message["edited"] else ""
                        print(f"{message['author']}: {message['body']}{edited}", flush=True)
                        shown[message["_id"]] = message["body"]

    async def watch_connection(self, lines: asyncio.Queue[str | None]) -> None:
        """Report lost and restored connections; end the program when the client closes permanently."""
        away = False
        async for state in self.client.connection_states():
            if state.phase == "disconnected" and not away:
                print(f"! {state.last_error}; reconnecting", flush=True)
                away = True
            elif state.phase == "connected" and away:
                print("! reconnected", flush=True)
                away = False
            elif state.phase == "closed":
                lines.put_nowait(None)


def explain(error: tv.TinyvexError) -> str:
    data = getattr(error, "app_data", None)
    return json.dumps(data) if data is not None else str(error)


def read_lines() -> asyncio.Queue[str | None]:
    """
    Return a queue of the lines of standard input, then None.

    A thread reads them, which works for terminals, pipes and files on every system.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def post(line: str | None) -> None:
        try:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        except RuntimeError:  # the program has ended
            return

    def read() -> None:
        # Not sys.stdin: Python could not close it at exit while this thread blocks in it.
        rest = b""
        while data := os.read(0, 65536):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                post(line.decode(sys.stdin.encoding or "utf-8", "replace"))
        if rest:
            post(rest.decode(sys.stdin.encoding or "utf-8", "replace"))
        post(None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    return lines


def discover(data: Path | None) -> tuple[str, str | None]:
    """URL and token from the discovery file of a data folder: the one named, or the nearest."""
    here = Path(__file__).resolve().parent
    near = [folder / ".tinyvex" for folder in (here, *here.parents, Path.cwd(), *Path.cwd().parents)]
    for folder in near if data is None else [data]:
        try:
            discovery = json.loads((folder / "server.json").read_text("utf-8"))
            return discovery["url"], discovery["token"]
        except (OSError, ValueError, KeyError):
            continue
    place = "near this folder" if data is None else f"in `{data}`"
    raise SystemExit(
        f"no running server found {place}; start one with `tinyvex dev examples/chat/app.py`, or pass --url"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Chat in a terminal, live.",
        epilog="While it runs:\n" + HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", help="the server's URL, such as ws://127.0.0.1:4800; discovered if omitted")
    parser.add_argument("--token", help="the client token, if the server requires one")
    parser.add_argument("--data", type=Path, help="the data folder of the running server")
    parser.add_argument("--name", default=getpass.getuser(), help="your name (default: %(default)s)")
    parser.add_argument("--channel", default="general", help="the first channel (default: %(default)s)")
    return parser.parse_args()


async def main(arguments: argparse.Namespace) -> None:
    url, token = (arguments.url, None) if arguments.url else discover(arguments.data)
    async with tv.connect(url, arguments.token or token) as client:
        await Chat(client, arguments.name, arguments.channel).run()
        if client.connection_state.phase == "closed":
            raise SystemExit(1)


if __name__ == "__main__":
    try:
        asyncio.run(main(parse_arguments()))
    except KeyboardInterrupt:
        print()
    except tv.TinyvexError as error:
        sys.exit(f"{error.name}: {error}")
