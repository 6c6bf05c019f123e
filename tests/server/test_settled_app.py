"""A reload uses an app whose files have settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import tinyvex as tv
from tinyvex.functions.app.loader import load_app
from tinyvex.limits import SAVE_MISSING_SECONDS, SAVE_SETTLE_SECONDS
from tinyvex.runtime import Runtime
from tinyvex.server.options import ServerOptions
from tinyvex.server.server import Server
from tinyvex.server.settled_app import load_settled

PATIENCE_SECONDS = 20.0

APP = """
import tinyvex as tv
import words

@tv.query
def word(ctx: tv.QueryCtx) -> str:
    return words.WORD

@tv.query
def other(ctx: tv.QueryCtx) -> str:
    return "other"
"""
HALF = APP.partition("@tv.query\ndef other")[0]


class Saves:
    """A folder with an app, and a clock that saves a file during each wait."""

    def __init__(self, folder: Path, *saves: Callable[[], object]) -> None:
        self.app = folder / "app.py"
        self.app.write_text(APP)
        (folder / "words.py").write_text("WORD = 'one'")
        self.serving = load_app(self.app)
        self.saves = list(saves)
        self.waited: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Note the time, and make the next save."""
        self.waited.append(seconds)
        if self.saves:
            self.saves.pop(0)()

    async def load(self) -> list[str]:
        """Return the functions of the app that is loaded."""
        app = await load_settled(lambda: load_app(self.app), self.serving, self.sleep)
        return list(app.functions)


async def test_an_app_that_does_not_change_is_loaded_once(tmp_path: Path) -> None:
    """It waits for the shorter time."""
    saves = Saves(tmp_path)
    assert await saves.load() == ["app:other", "app:word"]
    assert saves.waited == [SAVE_SETTLE_SECONDS]


async def test_a_truncated_file_is_not_used_if_it_is_written_afterwards(tmp_path: Path) -> None:
    """An empty file and the first half of an app are valid apps; the whole one is loaded."""
    saves = Saves(tmp_path, lambda: saves.app.write_text(HALF), lambda: saves.app.write_text(APP))
    saves.app.write_text("")
    assert await saves.load() == ["app:other", "app:word"]
    assert saves.waited == [SAVE_MISSING_SECONDS, SAVE_MISSING_SECONDS, SAVE_SETTLE_SECONDS]


async def test_functions_can_be_removed(tmp_path: Path) -> None:
    """An app without them is used if its files stay as they are for the longer time."""
    saves = Saves(tmp_path)
    saves.app.write_text("")
    assert await saves.load() == []
    assert saves.waited == [SAVE_MISSING_SECONDS]


async def test_a_file_that_the_app_imports_has_to_settle_too(tmp_path: Path) -> None:
    """Its other modules may be saved at the same time."""
    saves = Saves(tmp_path, lambda: (tmp_path / "words.py").write_text("WORD = 'three'"))
    assert await saves.load() == ["app:other", "app:word"]
    assert len(saves.waited) == 2


async def test_clients_do_not_see_a_truncated_file(tmp_path: Path) -> None:
    """A server that reloads while the file is empty continues to serve the functions, and then has the new ones."""
    app = tmp_path / "app.py"
    app.write_text(HALF.replace("words.WORD", "'one'").replace("import words", ""))
    whole = app.read_text()

    class SavingRuntime(Runtime):
        """Finishes the save while the reload waits."""

        async def sleep(self, seconds: float) -> None:
            if seconds == SAVE_MISSING_SECONDS and not app.read_text():
                answers.append(await client.query("app:word"))
                app.write_text(whole.replace("one", "two"))
            await super().sleep(min(seconds, SAVE_SETTLE_SECONDS))

    answers: list[object] = []
    options = ServerOptions(app, tmp_path / "data", port=0, dev=True)
    runtime = SavingRuntime()
    runtime.bind(asyncio.get_running_loop())
    async with asyncio.timeout(PATIENCE_SECONDS), Server(options, runtime) as server, tv.connect(server.url) as client:
        app.write_text("")
        await server.reload()
        answers.append(await client.query("app:word"))
    assert answers == ["one", "two"]
