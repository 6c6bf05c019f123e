"""The exact contents of `import tinyvex as tv`."""

import subprocess
import sys

import pytest

import tinyvex as tv

NAMES = [
    "ActionCtx",
    "AppError",
    "BlockingClient",
    "CallTimeout",
    "Client",
    "ClientClosed",
    "ConnectionLost",
    "DatabaseReplaced",
    "DecodeError",
    "Document",
    "Id",
    "Int64",
    "MutationCtx",
    "Page",
    "QueryCtx",
    "RemoteError",
    "Rows",
    "TinyvexError",
    "UNSET",
    "__version__",
    "action",
    "connect",
    "connect_blocking",
    "errors",
    "internal_action",
    "internal_mutation",
    "internal_query",
    "mutation",
    "query",
    "table",
    "testing",
]


def test_all_is_exact() -> None:
    """The public names are these; add a new one here on purpose."""
    assert sorted(tv.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there(name: str) -> None:
    """Every public name resolves, including those imported late."""
    assert getattr(tv, name) is not None


def test_other_names_are_refused() -> None:
    """An unknown name raises AttributeError as in any module."""
    with pytest.raises(AttributeError, match="module 'tinyvex' has no attribute 'quarry'"):
        tv.quarry  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("module", ["asyncio", "websockets", "sqlite3", "anyio", "tinyvex.client"])
def test_importing_it_is_light(module: str) -> None:
    """The package imports neither the client nor an event loop nor a database."""
    program = f"import sys, tinyvex; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
