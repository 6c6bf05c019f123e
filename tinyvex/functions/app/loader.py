"""
Loading an app: its modules are imported afresh, and their declarations collected.

A reload must see the new code while executions that are running finish with the old code. Python caches modules by name
in `sys.modules`, so each load is a *generation* with a private package name (`_tinyvex_app_7`)::

    import helpers      in the app's code
         │              `_Generation.import_for_app`, the modules' own `__import__`
         ▼
    _tinyvex_app_7.helpers      found by `_Finder`, compiled by `_SourceLoader`

1.  Absolute imports of the app's own modules (`import helpers`, `from chat.messages import Message`) resolve to the
    generation of the importing module; all other imports are Python's.
2.  A generation's modules stay in `sys.modules` as long as its `App` exists, because functions may import while they run.
    They are removed when the `App` is garbage-collected.
3.  Sources are compiled on each load and never from the byte code cache, which compares modification times in seconds.

=================  =====================================  =========================================
APP                functions come from                    path of `send`
=================  =====================================  =========================================
`chat.py`          this file; the files that it imports   `chat:send`
                   contribute tables only
`chat/` (package)  every module below it                  `messages:send`, `admin/users:send`;
                                                          in `chat/__init__.py`: `chat:send`
`functions/`       every module below it                  `messages:send`
=================  =====================================  =========================================

In a folder, tests (`test_*.py`, `conftest.py`) and hidden folders are ignored.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import importlib.machinery
import importlib.util
import itertools
import linecache
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tinyvex.errors import AppInvalid, AppNotFound, TinyvexError
from tinyvex.functions.app.registry import App, FileVersion
from tinyvex.functions.schema.location import Location
from tinyvex.values.suggestions import did_you_mean

__all__ = ["App", "has_changed", "load_app"]

_PREFIX = "_tinyvex_app_"
_numbers = itertools.count(1)
_loading = threading.RLock()


def load_app(path: Path) -> App:
    """
    Load a file or a folder.

    Raises:
        AppNotFound: there is no such file or folder, or it has no modules.
        AppInvalid: a module does not import, or declares something impossible; the message has file and line.
    """
    path = path.resolve()
    if path.is_dir():
        root, files = path, list(_modules_below(path))
    elif path.suffix == ".py" and path.is_file():
        root, files = path.parent, [path]
    else:
        raise AppNotFound(f"there is no app at `{path}`; give a `.py` file or a folder of modules", path=str(path))
    if not files:
        raise AppNotFound(f"the folder `{path}` has no Python modules", path=str(path))
    with _loading:
        return _Generation(root, f"{_PREFIX}{next(_numbers)}").load(files)


def has_changed(app: App) -> bool:
    """Return whether a file of the app is no longer as it was read."""
    try:
        return any(_version(Path(path).stat()) != version for path, version in app.files.items())
    except OSError:  # a file is gone
        return True


def _version(status: os.stat_result) -> FileVersion:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _modules_below(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if entry.name.isidentifier() and entry.name not in ("__pycache__", "tests"):
                yield from _modules_below(entry)
        elif entry.suffix == ".py" and entry.stem.isidentifier() and not _is_test(entry):
            yield entry


def _is_test(file: Path) -> bool:
    return file.name.startswith("test_") or file.name == "conftest.py"


class _Generation:
    """The modules of one load."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self.sources: dict[str, bytes] = {}
        self.files: dict[str, FileVersion] = {}
        self._is_package = (root / "__init__.py").is_file()

    def load(self, files: Sequence[Path]) -> App:
        _finder.add(self)
        linecache.checkcache()
        try:
            modules = {self._path(file): self._import(file) for file in files}
            others = [module for _, module in self._loaded() if module not in modules.values()]
            app = App.of_modules(modules, others, self._fingerprint(), self.files)
        except BaseException:
            self._unload()
            raise
        # Until the app is garbage, its modules stay importable: functions may import while they run.
        weakref.finalize(app, self._unload).atexit = False
        return app

    def _path(self, file: Path) -> str:
        """Return the first part of the paths of a file's functions."""
        parts = file.relative_to(self.root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1] or (self.root.name,)
        return "/".join(parts)

    def _import(self, file: Path) -> ModuleType:
        parts = file.relative_to(self.root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        try:
            module = importlib.import_module(".".join((self.name, *parts)))
        except SyntaxError as error:
            raise Location(error.filename or str(file), error.lineno or 1).invalid(error.msg) from error
        except AppInvalid:
            raise
        except (Exception, SystemExit) as error:
            raise self._location(error, file).invalid(_summary(error)) from error
        self._check_redefinitions(file)
        return module

    def _check_redefinitions(self, file: Path) -> None:
        """Refuse a second function of the same name: Python would silently replace the first."""
        first: dict[str, int] = {}
        for node in ast.parse(self.sources[str(file)]).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and any(
                map(_is_function_decorator, node.decorator_list)
            ):
                line = node.decorator_list[0].lineno
                if node.name in first:
                    problem = f"`{node.name}` is defined twice; the first definition is at line {first[node.name]}"
                    raise Location(str(file), line).invalid(problem)
                first[node.name] = line

    def _location(self, error: BaseException, file: Path) -> Location:
        """Return the app's last line in the exception's traceback."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename in self.sources]
        return Location(own[-1].filename, own[-1].lineno or 1) if own else Location(str(file), 1)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for file, source in sorted(self.sources.items()):
            name = Path(file).relative_to(self.root).as_posix()
            digest.update(b"%d %s %d " % (len(name), name.encode(), len(source)) + source)
        return digest.hexdigest()

    def find(self, name: str) -> Path | None:
        """Return the file of one of the app's modules, or the folder of a namespace package; None for other modules."""
        folder = self.root.joinpath(*name.split(".")[1:])
        for candidate in (folder / "__init__.py", folder.with_name(f"{folder.name}.py")):
            if candidate.is_file() and candidate.is_relative_to(self.root):
                return candidate
        return folder if folder.is_dir() else None

    def import_for_app(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002  # as in `__import__`
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Import a module for the app: the `__import__` of its modules, which finds the app's own modules first."""
        private = self._private_name(name) if level == 0 else None
        if private is None:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(private, globals, locals, fromlist or (), 0)
        if fromlist or self._is_package:
            return module
        return sys.modules[f"{self.name}.{name.partition('.')[0]}"]

    def _private_name(self, name: str) -> str | None:
        """Return the private name of one of the app's modules; None for other modules."""
        first, dot, rest = name.partition(".")
        if first == "tinyvex" or first in sys.stdlib_module_names:
            return None
        if self._is_package:
            private = self.name + dot + rest if first == self.root.name else None
        else:
            private = f"{self.name}.{name}"
        return private if private is not None and self.find(private) is not None else None

    def _loaded(self) -> list[tuple[str, ModuleType]]:
        prefix = f"{self.name}."
        # A copy in one step: listing the items allocates tuples, which can start the garbage collector,
        # and that may unload another generation during the iteration.
        modules = sys.modules.copy()
        return [item for item in modules.items() if item[0] == self.name or item[0].startswith(prefix)]

    def _unload(self) -> None:
        _finder.remove(self)
        for name, _ in self._loaded():
            sys.modules.pop(name, None)


def _is_function_decorator(decorator: ast.expr) -> bool:
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", None)
    return name in ("query", "mutation", "action", "internal_query", "internal_mutation", "internal_action")


def _summary(error: BaseException) -> str:
    if isinstance(error, TinyvexError):
        return str(error)
    hint = ""
    if isinstance(error, AttributeError) and error.obj is sys.modules["tinyvex"]:
        hint = did_you_mean(error.name or "", sys.modules["tinyvex"].__all__)
    return "".join(traceback.format_exception_only(error)).strip() + hint


class _Finder:
    """
    Finds the modules of all generations by their private names.

    It is never removed from `sys.meta_path`. A generation ends when the garbage collector runs, in any thread;
    removing the finder then would make an import that is iterating over the list skip the finder after it.
    """

    def __init__(self) -> None:
        self._generations: dict[str, _Generation] = {}

    def __len__(self) -> int:
        return len(self._generations)

    def add(self, generation: _Generation) -> None:
        """Start to find a generation's modules."""
        self._generations[generation.name] = generation
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def remove(self, generation: _Generation) -> None:
        """Stop finding a generation's modules."""
        self._generations.pop(generation.name, None)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        generation = self._generations.get(name.partition(".")[0])
        file = None if generation is None else generation.find(name)
        if generation is None or file is None:
            return None
        if file.is_dir():
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(file)]
            return spec
        return importlib.util.spec_from_file_location(
            name,
            file,
            loader=_SourceLoader(generation, name, str(file)),
            submodule_search_locations=[str(file.parent)] if file.name == "__init__.py" else None,
        )


_finder = _Finder()


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """
    Compiles the source on each load.

    Python's byte code cache compares modification times in seconds and sizes: it would miss a second save
    of the same size within one second.
    """

    def __init__(self, generation: _Generation, name: str, file: str) -> None:
        super().__init__(name, file)
        self._generation = generation

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = vars(builtins) | {"__import__": self._generation.import_for_app}
        super().exec_module(module)

    def get_code(self, fullname: str) -> CodeType:
        with Path(self.path).open("rb") as file:
            self._generation.files[self.path] = _version(os.fstat(file.fileno()))
            source = file.read()
        self._generation.sources[self.path] = source
        code: CodeType = compile(source, self.path, "exec", dont_inherit=True)
        return code
