"""An app as it was loaded: its functions by path, its tables by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, cast

from tinyvex.errors import FunctionNotFound
from tinyvex.functions.app.function_spec import FunctionSpec, function_declaration
from tinyvex.functions.schema.document import Document, Table, TableDeclaration, declaration_of
from tinyvex.functions.schema.table_spec import TableSpec, class_spec

if TYPE_CHECKING:
    from tinyvex.storage.schema.document_upgrade import Validator
    from tinyvex.storage.schema.schema_change import Declaration

__all__ = ["App", "functions_of", "tables_of"]


class App:
    """
    What the server runs; never changed, replaced as a whole.

    Attributes:
        functions: by path, internal ones too.
        tables: by name.
        fingerprint: of the sources; another one means other code.
    """

    def __init__(self, functions: Iterable[FunctionSpec], tables: Iterable[TableSpec], fingerprint: str = "") -> None:
        """
        Raises:
            AppInvalid: two tables have one name, or two functions one path.
        """
        by_path: dict[str, FunctionSpec] = {}
        for function in functions:
            if function.path in by_path:
                first = by_path[function.path].location
                raise function.location.invalid(f"the path {function.path} is taken by the function at {first}")
            by_path[function.path] = function
        by_name: dict[str, TableSpec] = {}
        for table in tables:
            if table.name in by_name:
                raise table.location.invalid(f"table {table.name!r} is declared at {by_name[table.name].location} too")
            by_name[table.name] = table
        self.functions: Mapping[str, FunctionSpec] = MappingProxyType(dict(sorted(by_path.items())))
        self.tables: Mapping[str, TableSpec] = MappingProxyType(dict(sorted(by_name.items())))
        self.fingerprint = fingerprint
        self._paths: dict[Callable[..., object], str] = {
            spec.function: spec.path for spec in reversed(list(self.functions.values()))
        }
        self._class_specs = {spec.cls: spec for spec in by_name.values() if spec.cls is not None}

    @classmethod
    def of_modules(
        cls, modules: Mapping[str, ModuleType], others: Iterable[ModuleType] = (), fingerprint: str = ""
    ) -> App:
        """
        Collect what modules declare.

        Args:
            modules: by the first half of their functions' paths.
            others: whose tables belong to the app too, but not their functions.
            fingerprint: of their sources.

        Raises:
            AppInvalid: something in them is impossible.
        """
        functions = [spec for name, module in modules.items() for spec in functions_of(name, module)]
        return cls(functions, tables_of((*modules.values(), *others)), fingerprint)

    def path_of(self, function: Callable[..., object]) -> str:
        """
        The path of a function object.

        Raises:
            FunctionNotFound: it is none of the app's.
        """
        path = self._paths.get(function)
        if path is None:
            name = getattr(function, "__qualname__", repr(function))
            raise FunctionNotFound(f"{name} is no function of this app: decorate it, at the top level of a module")
        return path

    def class_spec(self, cls: type[Document]) -> TableSpec:
        """The table of a class, also of one that is not among the app's own."""
        spec = self._class_specs.get(cls)
        if spec is None:
            spec = self._class_specs[cls] = class_spec(cls)
        return spec

    def declaration(self) -> Declaration:
        """What the storage must provide: tables and their indexes."""
        from tinyvex.storage.schema.schema_change import Declaration

        return Declaration({name: table.indexes for name, table in self.tables.items()})

    def validators(self) -> Mapping[str, Validator]:
        """What is wrong with a stored document, or to be stored of it, for every table that has a class."""
        return {name: table.validate for name, table in self.tables.items() if table.cls is not None}

    def table_fingerprints(self) -> Mapping[str, str]:
        """Of every table's class."""
        return {name: table.fingerprint for name, table in self.tables.items()}


def functions_of(name: str, module: ModuleType) -> Iterator[FunctionSpec]:
    """
    The functions that a module defines; those it imports are another module's.

    Raises:
        AppInvalid: one of them is impossible.
    """
    for attribute, value in vars(module).items():
        declaration = function_declaration(value)
        if declaration is not None and value.__module__ == module.__name__:
            yield FunctionSpec(f"{name}:{attribute}", value, declaration)


def tables_of(modules: Iterable[ModuleType]) -> list[TableSpec]:
    """
    The tables that modules declare or import; a table that several of them have is one.

    Raises:
        AppInvalid: one of them is impossible.
    """
    found: dict[int, tuple[TableDeclaration, type[Document] | None]] = {}
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, Table) and not value.has_class:
                found[id(value)] = (value.declaration, None)
            elif (declaration := declaration_of(value)) is not None:
                found[id(value)] = (declaration, cast("type[Document]", value))
    return [TableSpec(*declared) for declared in found.values()]
