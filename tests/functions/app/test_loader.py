"""Loading apps: layouts, reloads, and errors with file and line."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tinyvex.errors import AppInvalid, AppNotFound
from tinyvex.functions.app import loader
from tinyvex.functions.app.loader import App, has_changed, load_app
from tinyvex.testing import Database

FUNCTION = """
import tinyvex as tv

@tv.query
def {name}(ctx: tv.QueryCtx) -> int:
    return {result}
"""


def function(name: str = "answer", result: str = "42") -> str:
    return FUNCTION.format(name=name, result=result)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def run(app: object, path: str) -> object:
    """Return a query's result on an empty database."""
    with Database() as db:
        return db.query(app.functions[path].function)  # type: ignore[attr-defined]


# Layouts.


def test_one_file(tmp_path: Path) -> None:
    """A file's functions have its name in their paths."""
    write(tmp_path, {"chat.py": function()})
    assert list(load_app(tmp_path / "chat.py").functions) == ["chat:answer"]


def test_a_folder(tmp_path: Path) -> None:
    """A folder's functions have their module's path, in subfolders too."""
    write(tmp_path, {"messages.py": function(), "admin/users.py": function("purge")})
    assert list(load_app(tmp_path).functions) == ["admin/users:purge", "messages:answer"]


def test_a_package(tmp_path: Path) -> None:
    """Paths omit the package's name, except for functions of its `__init__`."""
    write(
        tmp_path / "chat",
        {
            "__init__.py": function("one"),
            "messages.py": function("two"),
            "admin/__init__.py": function("three"),
            "admin/users.py": function("four"),
        },
    )
    paths = list(load_app(tmp_path / "chat").functions)
    assert paths == ["admin/users:four", "admin:three", "chat:one", "messages:two"]


def test_tests_and_hidden_folders_are_left_out(tmp_path: Path) -> None:
    """Files for tests and tools do not belong to the app."""
    broken = dict.fromkeys(("test_x.py", "conftest.py", "tests/x.py", ".venv/x.py", "a-b.py"), "raise SystemExit")
    write(tmp_path, {"messages.py": function(), **broken})
    assert list(load_app(tmp_path).functions) == ["messages:answer"]


def test_helpers_of_a_file(tmp_path: Path) -> None:
    """A file may import its neighbours; their tables belong to the app, their functions do not."""
    models = "import tinyvex as tv\n@tv.table('things')\nclass Thing(tv.Document):\n    name: str\n"
    write(tmp_path, {"chat.py": "import models\n" + function(), "models.py": models + function("hidden")})
    app = load_app(tmp_path / "chat.py")
    assert (list(app.functions), list(app.tables)) == (["chat:answer"], ["things"])


@pytest.mark.parametrize(
    "statement",
    [
        "from .helpers import VALUE",
        "from . import helpers; VALUE = helpers.VALUE",
        "from helpers import VALUE",
        "import helpers; VALUE = helpers.VALUE",
        "from deep.down import VALUE",
        "import deep.down; VALUE = deep.down.VALUE",
        "from .deep.down import VALUE",
        "from .deep import down; VALUE = down.VALUE",
    ],
)
def test_imports_in_a_folder(tmp_path: Path, statement: str) -> None:
    """Modules of a folder import each other, relatively and by name."""
    write(tmp_path, {"helpers.py": "VALUE = 7", "deep/down.py": "from helpers import VALUE", "main.py": ""})
    write(tmp_path, {"main.py": f"{statement}\n{function(result='VALUE')}"})
    assert run(load_app(tmp_path), "main:answer") == 7


@pytest.mark.parametrize(
    "statement",
    [
        "from chat.helpers import VALUE",
        "import chat.helpers; VALUE = chat.helpers.VALUE",
        "import chat.helpers as helpers; VALUE = helpers.VALUE",
        "from chat import helpers; VALUE = helpers.VALUE",
        "from .helpers import VALUE",
    ],
)
def test_imports_in_a_package(tmp_path: Path, statement: str) -> None:
    """Modules of a package import each other, relatively and by the package's name."""
    write(tmp_path / "chat", {"__init__.py": "", "helpers.py": "VALUE = 7"})
    write(tmp_path / "chat", {"main.py": f"{statement}\n{function(result='VALUE')}"})
    assert run(load_app(tmp_path / "chat"), "main:answer") == 7


def test_imports_while_running(tmp_path: Path) -> None:
    """A function may import its neighbours when it runs."""
    body = "__import__('importlib') and late()"
    late = "\ndef late():\n    from .helpers import VALUE\n    import helpers\n    return VALUE + helpers.VALUE\n"
    write(tmp_path, {"helpers.py": "VALUE = 7", "main.py": function(result=body) + late})
    assert run(load_app(tmp_path), "main:answer") == 14


def test_the_standard_library_is_not_hidden(tmp_path: Path) -> None:
    """A module named like one of the standard library does not replace it."""
    write(tmp_path, {"json.py": "", "main.py": "import json\n" + function(result="json.loads('5')")})
    assert run(load_app(tmp_path), "main:answer") == 5


def test_other_code_does_not_see_the_app(tmp_path: Path) -> None:
    """Outside the app, its modules cannot be imported by their names."""
    write(tmp_path, {"quite_private.py": "", "main.py": "import quite_private\n" + function()})
    app = load_app(tmp_path)
    assert "quite_private" not in sys.modules
    with pytest.raises(ImportError):
        __import__("quite_private")
    del app


def test_ids_of_tables_in_quotes(tmp_path: Path) -> None:
    """A class may refer to itself, and to a class later in the file."""
    text = """
        import tinyvex as tv
        @tv.table("a")
        class A(tv.Document):
            parent: "tv.Id[A] | None" = None
            other: "tv.Id[B] | None" = None
        @tv.table("b")
        class B(tv.Document):
            name: str
    """.replace("\n        ", "\n")
    write(tmp_path, {"main.py": text})
    assert list(load_app(tmp_path).tables) == ["a", "b"]


# Reloads.


def test_a_reload_sees_new_code(tmp_path: Path) -> None:
    """A save within the same second, of the same size, is seen."""
    write(tmp_path, {"main.py": "from helpers import VALUE\n" + function(result="VALUE"), "helpers.py": "VALUE = 1"})
    old = load_app(tmp_path)
    write(tmp_path, {"helpers.py": "VALUE = 2"})
    new = load_app(tmp_path)
    assert (run(old, "main:answer"), run(new, "main:answer")) == (1, 2)


def test_the_fingerprint_follows_the_sources(tmp_path: Path) -> None:
    """A change of any source, helpers included, changes the fingerprint; nothing else does."""
    write(tmp_path, {"main.py": "import helpers\n" + function(), "helpers.py": "A = 1"})
    first, again = (load_app(tmp_path).fingerprint for _ in range(2))
    write(tmp_path, {"helpers.py": "A = 2"})
    assert first == again != load_app(tmp_path).fingerprint


def test_old_modules_are_removed(tmp_path: Path) -> None:
    """A generation's modules leave `sys.modules` with its app."""
    write(tmp_path, {"main.py": function(), "other.py": "from . import main"})
    gc.collect()  # what earlier tests left goes now, not while this one counts
    before = set(sys.modules)
    generations = set(loader._finder._generations)
    app = load_app(tmp_path)
    for _ in range(3):
        app = load_app(tmp_path)
    gc.collect()
    assert len([name for name in set(sys.modules) - before if name.startswith("_tinyvex_app_")]) == 3
    # New ones only: an app of an earlier test may be collected at any time.
    assert len(set(loader._finder._generations) - generations) == 1
    del app
    gc.collect()
    assert {name for name in set(sys.modules) - before if name.startswith("_tinyvex_app_")} == set()
    assert set(loader._finder._generations) <= generations


def test_an_import_elsewhere_finds_its_module_while_an_app_is_unloaded(tmp_path: Path) -> None:
    """The import iterates over `sys.meta_path`; removing a finder from it would make the import skip the next one."""
    write(tmp_path, {"main.py": function()})
    app: App | None = load_app(tmp_path)
    expected = list(sys.meta_path)
    met = []
    for finder in sys.meta_path:  # as the import system does
        met.append(finder)
        if finder is loader._finder and app is not None:
            app = None
            gc.collect()
    assert met == expected


def test_a_failed_load_leaves_nothing(tmp_path: Path) -> None:
    """Modules of a failed load are removed immediately."""
    write(tmp_path, {"a.py": function(), "b.py": "1 / 0"})
    before = set(sys.modules)
    with pytest.raises(AppInvalid):
        load_app(tmp_path)
    assert {name for name in set(sys.modules) - before if name.startswith("_tinyvex_app_")} == set()


# Errors.


@pytest.mark.parametrize("name", ["nothing", "nothing.py", "text.txt"])
def test_a_missing_app(tmp_path: Path, name: str) -> None:
    """A file or folder that does not exist, or is not Python, is not an app."""
    (tmp_path / "text.txt").touch()
    with pytest.raises(AppNotFound, match="there is no app at"):
        load_app(tmp_path / name)


def test_an_empty_folder(tmp_path: Path) -> None:
    """A folder without modules is not an app."""
    with pytest.raises(AppNotFound, match="has no Python modules"):
        load_app(tmp_path)


TABLE = "import tinyvex as tv\n@tv.table('things'{options})\nclass Thing(tv.Document):\n    name: str\n"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\ny = (\n", 2, "'(' was never closed"),
        ("def f():\npass\n", 2, "expected an indented block"),
        ("x = 1\n\nnothing\n", 3, "NameError: name 'nothing' is not defined"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
        ("\nimport no_such_module_anywhere\n", 2, "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("def f():\n    return 1 / 0\n\nf()\n", 2, "ZeroDivisionError: division by zero"),
        ("import tinyvex as tv\n@tv.query\nasync def f(ctx): ...\n", 2, "`main:f`: a query must be a plain `def`"),
        ("import tinyvex as tv\n@tv.action\ndef f(ctx): ...\n", 2, "`main:f`: an action must be `async def`"),
        ("import tinyvex as tv\n\n\n@tv.query\ndef f(ctx, a): ...\n", 4, "argument `a` needs an annotation"),
        (TABLE.format(options=", indexes={'by_x': ['x']}"), 2, "class `Thing` has no field `x`"),
        (TABLE.format(options="").replace("things", "_things"), 2, "`_things` cannot be a table name"),
        (TABLE.format(options="").replace("name:", "id:"), 3, "`Thing.id`: this name is reserved"),
        (TABLE.format(options="") + TABLE.format(options="").replace("class Thing", "class Other"), 6, "declared at"),
        (function() + function(), 10, "`answer` is defined twice; the first definition is at line 4"),
    ],
)
def test_errors_have_file_and_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    """The error of a broken module names file, line and problem."""
    write(tmp_path, {"main.py": text})
    with pytest.raises(AppInvalid) as caught:
        load_app(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'main.py'}:{line}: ")
    assert message in str(caught.value)
    assert caught.value.data == {"file": str(tmp_path / "main.py"), "line": line}


def test_the_line_is_the_app_s(tmp_path: Path) -> None:
    """An exception in a library is reported at the app's last line before it."""
    write(tmp_path, {"main.py": "import json\n\njson.loads('{')\n"})
    with pytest.raises(AppInvalid, match=r"main\.py:3: json\.decoder\.JSONDecodeError"):
        load_app(tmp_path)


def test_errors_in_helpers(tmp_path: Path) -> None:
    """An error in an imported module names that module's file and line."""
    write(tmp_path, {"main.py": "import helpers\n", "helpers.py": "\n\n1 / 0\n"})
    with pytest.raises(AppInvalid, match=r"helpers\.py:3: ZeroDivisionError"):
        load_app(tmp_path / "main.py")


def test_paths_are_shown_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files below the working directory are shown relative to it."""
    write(tmp_path, {"app/main.py": "1 / 0\n"})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AppInvalid, match=r"^app/main\.py:1: "):
        load_app(Path("app"))


# Changes of the files.


@pytest.fixture
def loaded(tmp_path: Path) -> App:
    """An app of one file with a function."""
    (tmp_path / "app.py").write_text(function())
    return load_app(tmp_path / "app.py")


def keep_time(path: Path, change: Callable[[], object]) -> None:
    """Change a file without its time."""
    before = path.stat()
    change()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_app_whose_files_stay_has_not_changed(tmp_path: Path, loaded: App) -> None:
    """Other files of the folder do not belong to it."""
    (tmp_path / "other.py").write_text("")
    assert not has_changed(loaded)


def test_another_size_is_a_change(tmp_path: Path, loaded: App) -> None:
    """Also if the time of the modification is the same."""
    path = tmp_path / "app.py"
    keep_time(path, lambda: path.write_text(function() + "#"))
    assert has_changed(loaded)


def test_another_file_in_its_place_is_a_change(tmp_path: Path, loaded: App) -> None:
    """Editors move a new file over the old one, and may keep its time."""
    path = tmp_path / "app.py"
    (tmp_path / "app.new").write_text(function(result="43"))
    keep_time(path, lambda: (tmp_path / "app.new").replace(path))
    assert has_changed(loaded)


def test_a_missing_file_is_a_change(tmp_path: Path, loaded: App) -> None:
    """A file may be gone while it is replaced."""
    (tmp_path / "app.py").unlink()
    assert has_changed(loaded)
