"""The shape of the source: direction of imports, pure modules, sizes of files and functions, forbidden calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tinyvex"

FLOORS: dict[str, set[str]] = {
    "errors": set(),
    "first_parent": set(),
    "forks": set(),
    "import_path": set(),
    "limits": set(),
    "runtime": {"forks"},
    "version": set(),
    "values": set(),
    "wire": {"values"},
    "client": {"wire", "values"},
    "storage": {"values"},
    "functions": {"storage", "values"},
    "sync": {"functions", "storage", "values"},
    "dialects": {"sync", "wire", "values"},
    "server": {"dialects", "sync", "functions", "storage", "wire", "values"},
    "cli": {"server", "dialects", "sync", "functions", "storage", "client", "wire", "values"},
}
"""The floors that each floor may import, in addition to those that are open to all."""

OPEN_TO_ALL = {"errors", "first_parent", "forks", "import_path", "limits", "runtime", "version"}

ROOMS: dict[str, tuple[str, ...]] = {
    "storage": ("file", "log", "engine", "schema", "maintenance"),
    "functions": ("result", "schema", "transaction", "app", "system", "run"),
    "server": (
        "options",
        "log_redaction",
        "access",
        "transport",
        "background_tasks",
        "services",
        "http",
        "front_door",
        "sessions",
        "serving",
        "server",
    ),
}
"""The rooms (folders or files) of a floor, lowest first: each may import only those before it."""

SHARED_CLASS_NAMES = {"Query"}
"""Class names of several files: `Query` is a message of the protocol, and the public type of a query under construction."""

PURE = [
    "values/*.py",
    "wire/*.py",
    "sync/*.py",
    "dialects/**/*.py",
    "client/state.py",
    "client/identity.py",
    "client/query_value.py",
    "client/patch_verification.py",
    "client/pending_requests.py",
    "client/query_set.py",
    "client/resend.py",
    "client/shared_values.py",
    "client/rpc.py",
    "client/optimistic.py",
    "client/decoding.py",
    "client/error_copy.py",
    "functions/result/*.py",
    "functions/schema/*.py",
    "functions/transaction/*.py",
    "functions/app/function_spec.py",
    "functions/app/registry.py",
    "functions/run/call.py",
    "functions/run/code_switch.py",
    "functions/run/exactly_once.py",
    "functions/run/failures.py",
    "functions/run/idempotency_key.py",
    "functions/run/identity_keys.py",
    "storage/engine/fair_shares.py",
    "storage/log/commit_feed.py",
    "storage/log/commit_record.py",
    "storage/log/key_ranges.py",
    "server/access/origin_rules.py",
    "server/access/refusal_log.py",
    "server/transport/deadlines.py",
    "server/transport/outbox.py",
    "server/transport/slow_clients.py",
    "server/transport/unread_total.py",
    "storage/log/operations.py",
    "storage/log/record_codec.py",
    "storage/maintenance/retention_policy.py",
]
IMPURE_MODULES = {"asyncio", "anyio", "websockets", "sqlite3", "aiosqlite", "socket", "threading", "subprocess"}

FILE_LINES_MAX = 600
LARGER_FILES: dict[str, tuple[int, str]] = {
    "tinyvex/errors.py": (740, "one table: every error, its number and its sentence"),
}
"""Files that may be larger: their cap and the reason. A number grows only with the rows of a table."""

FUNCTION_LINES_MAX = 70

VIRTUAL_TIME = {"loop", "world", "network", "cluster", "fake_world", "postings"}
"""Support modules that run on a virtual clock, or implement it."""

PRINTING_MODULES = {"wire/schema.py": "a generator that people run"}


def sources(pattern: str = "**/*.py", root: Path = PACKAGE) -> list[Path]:
    return sorted(root.glob(pattern))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def floor(module: str) -> str:
    """Return the floor of a dotted module: `tinyvex.sync.state` is on `sync`."""
    return module.split(".")[1] if "." in module else ""


def is_for_typing(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def statements(body: list[ast.stmt], *, executed_only: bool) -> Iterator[ast.stmt]:
    """Yield every statement below; with `executed_only` those that run on import."""
    for node in body:
        if executed_only and (is_for_typing(node) or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            continue
        yield node
        for field in ("body", "orelse", "finalbody", "handlers"):
            for child in getattr(node, field, []):
                inner = child.body if isinstance(child, ast.ExceptHandler) else [child]
                yield from statements(inner, executed_only=executed_only)


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, executed_only: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of each import of a file; `from a import b` gives `a.b`."""
    package = module_name(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in statements(tree(path).body, executed_only=executed_only):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def file_of(module: str) -> Path | None:
    """Return the file of a dotted name inside the package; the name may end in an attribute."""
    parts = module.split(".")
    for length in range(len(parts), 1, -1):
        path = ROOT.joinpath(*parts[:length])
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def impurities(path: Path, seen: set[Path]) -> Iterator[str]:
    """Find chains of imports that lead from a pure module to an impure one."""
    seen.add(path)
    for line, imported in imports(path, executed_only=True):
        if imported.split(".")[0] in IMPURE_MODULES:
            yield f"{name(path)}:{line} imports {imported}"
        elif imported.startswith("tinyvex."):
            inner = file_of(imported)
            if inner is not None and inner not in seen:
                yield from (f"{name(path)}:{line} -> {chain}" for chain in impurities(inner, seen))


@pytest.mark.parametrize("path", [path for path in sources() if floor(module_name(path)) in FLOORS], ids=name)
def test_imports_point_one_way(path: Path) -> None:
    """A floor imports only the floors below it; the facade (`tinyvex/__init__.py`, `testing.py`) may reach all."""
    here = floor(module_name(path))
    allowed = FLOORS[here] | (OPEN_TO_ALL if here not in OPEN_TO_ALL else set()) | {here}
    wrong = [
        f"line {line}: {imported}"
        for line, imported in imports(path)
        if imported.startswith("tinyvex.") and floor(imported) in FLOORS and floor(imported) not in allowed
    ]
    assert wrong == []


def dependencies(path: Path) -> set[Path]:
    """Return the package's files that a file imports, including imports for typing and inside functions."""
    imported_files = {file_of(imported) for _, imported in imports(path) if imported.split(".")[0] == "tinyvex"}
    return {file for file in imported_files if file is not None and file != path}


def circles() -> Iterator[set[str]]:
    """
    Return the largest sets of files that reach each other through imports (Tarjan's strongly connected components).
    """
    index: dict[Path, int] = {}
    lowest: dict[Path, int] = {}
    stack: list[Path] = []

    def visit(path: Path) -> Iterator[set[str]]:
        index[path] = lowest[path] = len(index)
        stack.append(path)
        for imported in dependencies(path):
            if imported not in index:
                yield from visit(imported)
                lowest[path] = min(lowest[path], lowest[imported])
            elif imported in stack:
                lowest[path] = min(lowest[path], index[imported])
        if lowest[path] == index[path]:
            component = stack[stack.index(path) :]
            del stack[stack.index(path) :]
            if len(component) > 1:
                yield {file.relative_to(PACKAGE).as_posix() for file in component}

    for path in sources():
        if path not in index:
            yield from visit(path)


def test_no_files_import_each_other() -> None:
    """The imports of files form no circle: each file can be read, tested and replaced without those above it."""
    assert list(circles()) == []


def room(path: Path, floor_name: str) -> str | None:
    """Return the folder or file directly below a floor; None for a file of another floor."""
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    return inside[1] if inside[0] == floor_name and len(inside) > 1 else None


@pytest.mark.parametrize("floor_name", ROOMS)
def test_rooms_are_floors_too(floor_name: str) -> None:
    """Inside a floor, a room imports only the rooms below it."""
    order = ROOMS[floor_name]
    wrong = [
        f"{name(path)} imports {name(imported)}"
        for path in sources(f"{floor_name}/**/*.py")
        if (here := room(path, floor_name)) in order
        for imported in dependencies(path)
        if (there := room(imported, floor_name)) in order and order.index(there) > order.index(here)
    ]
    assert wrong == []


def test_every_module_lies_on_a_floor() -> None:
    """A new folder or top-level module needs a place in the graph."""
    facade = {"__init__", "__main__", "testing"}
    modules = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or list(path.rglob("*.py"))]
    names = {path.stem if path.is_file() else path.name for path in modules}
    assert names - facade <= set(FLOORS)


@pytest.mark.parametrize("path", [path for pattern in PURE for path in sources(pattern)], ids=name)
def test_pure_modules_reach_nothing_impure(path: Path) -> None:
    """State machines and encodings import no event loop, socket, thread or database, not even indirectly."""
    assert list(impurities(path, set())) == []


def test_inner_packages_are_empty() -> None:
    """Importing one module of a package imports no other."""
    assert [name(path) for path in sources("*/**/__init__.py") if path.read_text().strip()] == []


def test_a_class_name_means_one_class() -> None:
    """No two files define classes of the same name, with or without an underscore: a name leads to one file."""
    files: dict[str, set[Path]] = {}
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                files.setdefault(node.name.lstrip("_"), set()).add(path)
    assert {shared for shared, paths in files.items() if len(paths) > 1} <= SHARED_CLASS_NAMES


@pytest.mark.parametrize("path", sources(), ids=name)
def test_records_are_structs(path: Path) -> None:
    """No class is a dataclass: Python compiles its methods at every start, 0.3 ms a class; a struct's are built in."""
    decorated = [
        node.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        and any("dataclass(" in f"{ast.unparse(each)}(" for each in node.decorator_list)
    ]
    assert decorated == []


@pytest.mark.parametrize("path", sources(), ids=name)
def test_files_stay_small(path: Path) -> None:
    """A file holds one idea; exceptions are listed with their reason."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LARGER_FILES.get(name(path), (FILE_LINES_MAX, ""))[0]


def test_exceptions_to_the_file_size_are_needed() -> None:
    """An exception that is no longer needed, or much too generous, must be removed."""
    sizes = {entry: len((ROOT / entry).read_text(encoding="utf-8").splitlines()) for entry in LARGER_FILES}
    assert {entry: size for entry, size in sizes.items() if not FILE_LINES_MAX < size <= LARGER_FILES[entry][0]} == {}


@pytest.mark.parametrize("path", sources(), ids=name)
def test_functions_fit_a_screen(path: Path) -> None:
    """No function has more than 70 lines."""
    long = [
        f"{node.name}: {size} lines"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (size := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


def may_print(path: Path) -> bool:
    inside = path.relative_to(PACKAGE).as_posix()
    return inside.startswith("cli/") or inside in PRINTING_MODULES


def calls(path: Path) -> Iterator[tuple[int, str, ast.Call]]:
    """Yield line, dotted name and node of every call."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func), node


@pytest.mark.parametrize("path", sources(), ids=name)
def test_every_task_has_an_owner(path: Path) -> None:
    """Tasks start in a task group, which waits for them."""
    bare = [
        f"line {line}: {called}"
        for line, called, _ in calls(path)
        if called.split(".")[-1] in {"create_task", "ensure_future"} and "group" not in called
    ]
    assert bare == []


@pytest.mark.parametrize("path", [path for path in sources() if not may_print(path)], ids=name)
def test_only_commands_print(path: Path) -> None:
    """Standard output belongs to the ready line and to the output of commands."""
    assert [line for line, called, _ in calls(path) if called in {"print", "sys.stdout.write"}] == []


def runs_on_virtual_time(path: Path) -> bool:
    """Return whether a test or support module has a virtual clock, on which sleeping takes no time."""
    imported = {name.removeprefix("tests.support.").split(".")[0] for _, name in imports(path)}
    return bool(VIRTUAL_TIME & imported) or (path.parent.name == "support" and path.stem in VIRTUAL_TIME)


@pytest.mark.parametrize("path", sources(root=ROOT / "tests"), ids=name)
def test_tests_never_sleep(path: Path) -> None:
    """Tests wait for events or on a virtual clock; yielding once (`sleep(0)`) is allowed."""
    real = {"time.sleep"} if runs_on_virtual_time(path) else {"time.sleep", "asyncio.sleep", "anyio.sleep"}
    sleeps = [
        f"line {line}: {ast.unparse(node)}"
        for line, called, node in calls(path)
        if called in real and ast.unparse(node.args[0]) != "0"
    ]
    assert sleeps == []
