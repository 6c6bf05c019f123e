"""An app as it was loaded: its functions by path, its tables by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, TypeAlias, cast

from tinyvex.errors import FunctionNotFound
from tinyvex.functions.app.function_spec import FunctionSpec, function_declaration
from tinyvex.functions.schema.document import Document, TableDeclaration, TableDecorator, declaration_of
from tinyvex.functions.schema.table_spec import TableSpec, class_spec

if TYPE_CHECKING:
    from tinyvex.storage.schema.document_upgrade import Validator
    from tinyvex.storage.schema.schema_plan import Declaration

__all__ = ["App", "FileVersion", "functions_of", "tables_of"]

FileVersion: TypeAlias = tuple[int, int, int]
"""The inode, modification time and size of a file."""


class App:
    """
    A loaded app. It is never changed; a reload replaces it.

    Attributes:
        functions: the functions by path, including internal ones.
        tables: the tables by name.
        fingerprint: the digest of the sources.
        files: the version of each file that was read.
    """

    def __init__(
        self,
        functions: Iterable[FunctionSpec],
        tables: Iterable[TableSpec],
        fingerprint: str = "",
        files: Mapping[str, FileVersion] = MappingProxyType({}),
    ) -> None:
        """
        Raises:
            AppInvalid: two tables have one name, now or earlier, or two functions one path.
        """
        by_path: dict[str, FunctionSpec] = {}
        for function in functions:
            if function.path in by_path:
                first = by_path[function.path].location
                raise function.location.invalid(
                    f"`{function.path}` is also the path of the function at {first}; rename one of them"
                )
            by_path[function.path] = function
        by_name: dict[str, TableSpec] = {}
        for table in tables:
            if table.name in by_name:
                first = by_name[table.name].location
                raise table.location.invalid(f"table `{table.name}` is also declared at {first}; rename one of them")
            by_name[table.name] = table
        self._by_earlier_name = _by_earlier_name(by_name)
        self.functions: Mapping[str, FunctionSpec] = MappingProxyType(dict(sorted(by_path.items())))
        self.tables: Mapping[str, TableSpec] = MappingProxyType(dict(sorted(by_name.items())))
        self.fingerprint = fingerprint
        self.files = files
        self._paths: dict[Callable[..., object], str] = {
            spec.function: spec.path for spec in reversed(list(self.functions.values()))
        }
        self._class_specs = {spec.cls: spec for spec in by_name.values() if spec.cls is not None}

    @classmethod
    def of_modules(
        cls,
        modules: Mapping[str, ModuleType],
        others: Iterable[ModuleType] = (),
        fingerprint: str = "",
        files: Mapping[str, FileVersion] = MappingProxyType({}),
    ) -> App:
        """
        Collect the declarations of modules.

        Args:
            modules: the modules by the first part of their functions' paths.
            others: modules whose tables belong to the app, but whose functions do not.
            fingerprint: the digest of the sources.
            files: the version of each file that was read.

        Raises:
            AppInvalid: a declaration is impossible.
        """
        functions = [spec for name, module in modules.items() for spec in functions_of(name, module)]
        return cls(functions, tables_of((*modules.values(), *others)), fingerprint, files)

    def path_of(self, function: Callable[..., object]) -> str:
        """
        Return the path of a function object.

        Raises:
            FunctionNotFound: it is not one of the app's functions.
        """
        path = self._paths.get(function)
        if path is None:
            name = getattr(function, "__qualname__", type(function).__name__)
            raise FunctionNotFound(
                f"`{name}` is not a function of this app; decorate it and define it at the top level of a module"
            )
        return path

    def class_spec(self, cls: type[Document]) -> TableSpec:
        """Return the table of a class, declared by this app or not."""
        spec = self._class_specs.get(cls)
        if spec is None:
            spec = self._class_specs[cls] = class_spec(cls)
        return spec

    def spec_of(self, name: str) -> TableSpec | None:
        """Return the table with this name, or with this earlier name if no table has it now; None if there is none."""
        return self.tables.get(name) or self._by_earlier_name.get(name)

    def declaration(self) -> Declaration:
        """Return the tables and indexes that the storage must provide."""
        from tinyvex.storage.schema.schema_plan import Declaration

        return Declaration(
            {name: table.indexes for name, table in self.tables.items()},
            {name: table.renamed_from for name, table in self.tables.items() if table.renamed_from},
            {name: table.schema for name, table in self.tables.items() if table.schema is not None},
        )

    def validators(self) -> Mapping[str, Validator]:
        """Return the validation of stored documents for each table that has a class."""
        return {name: table.validate for name, table in self.tables.items() if table.cls is not None}

    def table_fingerprints(self) -> Mapping[str, str]:
        """Return the fingerprint of each table's class."""
        return {name: table.fingerprint for name, table in self.tables.items()}


def _by_earlier_name(tables: Mapping[str, TableSpec]) -> dict[str, TableSpec]:
    """
    Return the tables by their earlier names.

    Raises:
        AppInvalid: a table has this name now, or two tables had it.
    """
    found: dict[str, TableSpec] = {}
    for table in tables.values():
        for earlier in table.renamed_from:
            other = tables.get(earlier) or found.get(earlier)
            if other is not None and other is not table:
                problem = f"`{earlier}` cannot be its earlier name, because table `{other.name}` at {other.location}"
                verb = "has that name" if other.name == earlier else "has it as an earlier name too"
                raise table.location.invalid(f"table `{table.name}`: {problem} {verb}; rename one of them")
            found[earlier] = table
    return found


def functions_of(name: str, module: ModuleType) -> Iterator[FunctionSpec]:
    """
    Yield the functions that a module defines; imported ones belong to their own module.

    Raises:
        AppInvalid: a function is impossible.
    """
    for attribute, value in vars(module).items():
        declaration = function_declaration(value)
        if declaration is not None and value.__module__ == module.__name__:
            yield FunctionSpec(f"{name}:{attribute}", value, declaration)


def tables_of(modules: Iterable[ModuleType]) -> list[TableSpec]:
    """
    Return the tables that modules declare or import, each once.

    Raises:
        AppInvalid: a table is impossible.
    """
    declared: dict[int, tuple[TableDeclaration, type[Document] | None]] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, TableDecorator) and not value.has_class:
                declared[id(value)] = (value.declaration, None)
            elif (declaration := declaration_of(value)) is not None:
                declared[id(value)] = (declaration, cast("type[Document]", value))
    return [TableSpec(*arguments) for arguments in declared.values()]
