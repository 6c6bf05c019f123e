"""Reload on save: the service that `tinyvex dev` adds to its server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from watchfiles import awatch

from tinyvex.server.services.background_service import BackgroundService

if TYPE_CHECKING:
    from watchfiles import Change

__all__ = ["SaveWatch"]

WATCH_WAIT_MS = 200
"""The interval at which the watching thread notices cancellation, and so the delay of Ctrl-C."""


class SaveWatch(BackgroundService):
    """
    Requests a reload when a file of the app is saved.

    Args:
        app: the app's file or package.
        on_save: called on the loop; saves within 100 ms of each other count as one.
    """

    name = "save-watch"

    def __init__(self, app: Path, on_save: Callable[[], None]) -> None:
        super().__init__()
        self._app = app
        self._on_save = on_save

    async def run(self) -> None:
        """Watch the app's folder."""
        app = self._app
        # For a single file, its folder is watched: most editors save by moving a new file over the old one.
        folder = app if app.is_dir() else app.parent
        async for _ in awatch(
            folder,
            watch_filter=self._belongs_to_app,
            recursive=app.is_dir(),
            debounce=100,
            step=20,
            rust_timeout=WATCH_WAIT_MS,
        ):
            self._on_save()

    def _belongs_to_app(self, _change: Change, path: str) -> bool:
        return path.endswith(".py") and (self._app.is_dir() or Path(path) == self._app)
