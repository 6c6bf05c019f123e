"""A warning in dev mode about tables that have documents but are not declared any more: renamed, most often."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tinyvex.storage.schema.system_tables import is_empty

if TYPE_CHECKING:
    from tinyvex.functions.app.registry import App
    from tinyvex.storage.engine.store import Store
    from tinyvex.storage.log.document_log import Snapshot

__all__ = ["UndeclaredTables"]

log = logging.getLogger("tinyvex.app")


class UndeclaredTables:
    """Warns once of each such table, and again after its problem has changed or has been solved in the meantime."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._warned: set[str] = set()

    async def warn(self, app: App) -> None:
        """Look for tables with documents that an app, which serves now, does not declare."""

        def find(snapshot: Snapshot) -> list[str]:
            catalog = snapshot.catalog
            names = [name for name in catalog.names() if name not in app.tables]
            return [name for name in names if not is_empty(snapshot, catalog.table(name))]

        sentences = [_sentence(name, app) for name in await self._store.read(find)]
        for sentence in sentences:
            if sentence not in self._warned:
                log.warning("%s", sentence)
        self._warned = set(sentences)


def _sentence(name: str, app: App) -> str:
    renamed = app.spec_of(name)
    if renamed is not None:
        return (
            f"table `{name}` was not renamed to `{renamed.name}`, because `{renamed.name}` has documents of its own;"
            f" delete those with `tinyvex wipe --table {renamed.name}` and save again, or move the documents of `{name}`"
        )
    return (
        f"table `{name}` has documents, but the app does not declare it any more; if it was renamed, write"
        f' `renamed_from="{name}"` in the declaration of its new name; `tinyvex drop {name}` deletes it'
    )
