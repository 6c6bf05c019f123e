"""
Load an app whose files are being saved.

A program that saves a file may truncate it first and write it afterwards, and a half of an app can be a valid app:
an empty file is one without functions. So an app that was loaded is used if its files did not change for a while,
and is loaded again otherwise. It waits longer if functions are missing that are being served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tinyvex.functions.app.loader import App, has_changed
from tinyvex.limits import SAVE_MISSING_SECONDS, SAVE_SETTLE_SECONDS

__all__ = ["load_settled"]


async def load_settled(load: Callable[[], App], serving: App, sleep: Callable[[float], Awaitable[None]]) -> App:
    """
    Load an app until its files have settled; while they change again and again, it does not return.

    Args:
        load: loads the app.
        serving: the app that the loaded one replaces.
        sleep: waits for some seconds.

    Raises:
        AppNotFound, AppInvalid: as `load` does.
    """
    while True:
        app = load()
        is_missing = bool(serving.functions.keys() - app.functions.keys())
        await sleep(SAVE_MISSING_SECONDS if is_missing else SAVE_SETTLE_SECONDS)
        if not has_changed(app):
            return app
