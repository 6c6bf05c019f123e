"""The error of a context that is used after its function has ended."""

from __future__ import annotations

__all__ = ["ContextEnded"]


class ContextEnded(RuntimeError):
    """A context, or its database, was used after its function had returned or raised: a write would be lost."""

    def __init__(self) -> None:
        super().__init__(
            "this `ctx` belongs to a function that has ended, so it can neither read nor write;"
            " finish all work with it before the function returns, also work in threads and callbacks"
        )
