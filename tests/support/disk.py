"""
The disk beneath SQLite: its writes and syncs, in order, and injected errors.

SQLite accesses files through a table of functions (a VFS). `recording` replaces it for this process with one
that records each change before the real function makes it. The record can be replayed up to any step:
synced changes are present, and of the others an arbitrary part, as a power failure would leave it.
"""

from __future__ import annotations

import ctypes
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

SECTOR_BYTES = 512
"""The unit that a disk writes atomically."""

OK, FULL, READONLY, CANTOPEN = 0, 13, 8, 14
IOERR_WRITE, IOERR_FSYNC, IOERR_TRUNCATE = 778, 1034, 1546
IOERR_READ, IOERR_SHORT_READ, IOERR_FSTAT, IOERR_SHMMAP = 266, 522, 1802, 5386

_Pointer = ctypes.c_void_p
_Open = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer, _Pointer, ctypes.c_int, _Pointer)
_Delete = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.c_char_p, ctypes.c_int)
_Write = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer, ctypes.c_int, ctypes.c_int64)
_Truncate = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.c_int64)
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.c_int)
_Size = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, _Pointer)
_Map = ctypes.CFUNCTYPE(ctypes.c_int, _Pointer, ctypes.c_int, ctypes.c_int, ctypes.c_int, _Pointer)


class _Vfs(ctypes.Structure):
    """The part of `sqlite3_vfs` that is needed; the rest is copied."""

    _fields_ = (
        ("version", ctypes.c_int), ("os_file_bytes", ctypes.c_int), ("path_bytes_max", ctypes.c_int),
        ("next", _Pointer), ("name", ctypes.c_char_p), ("data", _Pointer), ("open", _Open), ("delete", _Delete),
        ("rest", _Pointer * 14),
    )  # fmt: skip


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`."""

    _fields_ = (
        ("version", ctypes.c_int), ("close", _Pointer), ("read", _Write), ("write", _Write),
        ("truncate", _Truncate), ("sync", _Sync), ("size", _Size), ("between", _Pointer * 6), ("map", _Map),
        ("rest", _Pointer * 5),
    )  # fmt: skip


class Step(NamedTuple):
    """A change, or a mark that the test made (`kind` "mark")."""

    kind: str
    file: str
    offset: int = 0
    data: bytes = b""


class Access(NamedTuple):
    """An access to a file: `open`, `read`, `size`, or `map` for the memory that connections share."""

    kind: str
    file: str


@dataclass
class Disk:
    """
    The record since `recording` began.

    Attributes:
        steps: in order.
        fails: called before each step; SQLite receives any code other than OK.
        refuses: the same for each access, if accesses are watched;
            IOERR_SHORT_READ reads nothing, as from a file that became shorter.
    """

    folder: Path
    before: dict[str, bytes]
    steps: list[Step] = field(default_factory=list)
    fails: Callable[[Step], int] = lambda step: OK
    refuses: Callable[[Access], int] = lambda access: OK

    def mark(self, name: str) -> None:
        """Record an event, such as an acknowledgement."""
        self.steps.append(Step("mark", name))

    def marks(self, until: int) -> list[str]:
        """Return the marks before a step."""
        return [step.file for step in self.steps[:until] if step.kind == "mark"]

    @property
    def syncs(self) -> list[int]:
        """Return the positions of all syncs."""
        return [index for index, step in enumerate(self.steps) if step.kind == "sync"]

    def files(self, until: int, pick: random.Random | None = None) -> dict[str, bytes]:
        """
        Return the files on disk after a power failure just before a step.

        Args:
            until: the step.
            pick: chooses the unsynced writes that survive; None drops all of them.
        """
        images = {name: _Image(bytearray(data), bytearray(data)) for name, data in self.before.items()}
        for step in self.steps[:until]:
            if step.kind == "mark":
                continue
            image = images.setdefault(step.file, _Image(bytearray(), bytearray()))
            image.apply(step)
            if step.kind == "delete":
                del images[step.file]
        return {name: image.left(pick) for name, image in images.items()}

    def written(self, until: int) -> dict[str, bytes]:
        """Return the files after the process was killed just before a step: what it wrote is there, synced or not."""
        files = {name: bytearray(data) for name, data in self.before.items()}
        for step in self.steps[:until]:
            if step.kind == "delete":
                del files[step.file]
            elif step.kind != "mark":
                _change(files.setdefault(step.file, bytearray()), step)
        return {name: bytes(data) for name, data in files.items()}


@dataclass
class _Image:
    """A file's durable contents, its visible contents, and the changes between the two."""

    durable: bytearray
    seen: bytearray
    unsynced: list[Step] = field(default_factory=list)

    def apply(self, step: Step) -> None:
        if step.kind == "sync":
            self.durable = bytearray(self.seen)
            self.unsynced.clear()
        else:
            _change(self.seen, step)
            self.unsynced.append(step)

    def left(self, pick: random.Random | None) -> bytes:
        """Apply a random subset of the unsynced changes, in any order, and writes in part."""
        if pick is None:
            return bytes(self.durable)
        contents = bytearray(self.durable)
        for step in self.unsynced:
            fate = pick.choice(("lost", "kept", "torn"))
            if fate == "kept" or (fate == "torn" and step.kind != "write"):
                _change(contents, step)
            elif fate == "torn":
                sectors = range(0, len(step.data), SECTOR_BYTES)
                for start in pick.sample(sectors, pick.randint(0, len(sectors))):
                    piece = step.data[start : start + SECTOR_BYTES]
                    _change(contents, Step("write", step.file, step.offset + start, piece))
        return bytes(contents)


def _change(content: bytearray, step: Step) -> None:
    if step.kind == "truncate":
        del content[step.offset :]
    elif step.kind == "write":
        if len(content) < step.offset:
            content.extend(bytes(step.offset - len(content)))
        content[step.offset : step.offset + len(step.data)] = step.data


@contextmanager
def recording(folder: Path, *, accesses: bool = False) -> Iterator[Disk]:
    """
    Record SQLite's changes to the files in a folder; connections opened earlier are not recorded.

    Args:
        folder: the folder of the files.
        accesses: watch opens and reads too, which is slower.
    """
    library = _library()
    library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
    real = library.sqlite3_vfs_find(None)
    disk = Disk(folder, {path.name: path.read_bytes() for path in folder.glob("data.sqlite3*") if path.is_file()})
    shim = _Shim(disk, real.contents, accesses=accesses)
    assert library.sqlite3_vfs_register(ctypes.byref(shim.vfs), 1) == OK
    try:
        yield disk
    finally:
        library.sqlite3_vfs_register(real, 1)
        library.sqlite3_vfs_unregister(ctypes.byref(shim.vfs))
        _forever.append(shim)  # a connection that is still open calls its functions


_forever: list[object] = []


def _library() -> Any:
    """Load the SQLite library of Python's module."""
    try:
        names = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libsqlite3" in line}
    except OSError:
        names = set()
    if len(names) != 1:
        pytest.skip("Python's SQLite is not a shared library here, so its disk cannot be replaced")
    library = ctypes.CDLL(names.pop())
    library.sqlite3_libversion.restype = ctypes.c_char_p
    assert library.sqlite3_libversion().decode() == sqlite3.sqlite_version
    return library


class _Shim:
    """A VFS that delegates everything except opening and deleting, with files that delegate all but a few methods."""

    def __init__(self, disk: Disk, real: _Vfs, *, accesses: bool) -> None:
        self._disk = disk
        self._accesses = accesses
        self._real = real
        self._names: dict[int, str] = {}
        self._methods: dict[int, tuple[_Methods, _Methods]] = {}
        self._file_methods: dict[int, _Methods] = {}
        self.vfs = _Vfs.from_buffer_copy(real)
        self.vfs.name = b"recording"
        self.vfs.open = _Open(self._open)
        self.vfs.delete = _Delete(self._delete)
        self._write, self._truncate, self._sync = (
            _Write(self._on_write),
            _Truncate(self._on_truncate),
            _Sync(self._on_sync),
        )
        self._read, self._size, self._map = _Write(self._on_read), _Size(self._on_size), _Map(self._on_map)

    def _do(self, step: Step, make: Callable[[], int]) -> int:
        """Make a change unless it is to fail, and record it if it was made."""
        code = self._disk.fails(step) or make()
        if code == OK:
            self._disk.steps.append(step)
        return code

    def _open(self, vfs: int, name: int | None, file: int, flags: int, flags_out: int | None) -> int:
        place = ctypes.cast(file, ctypes.POINTER(_Pointer))
        path = Path(ctypes.string_at(name).decode()) if name else None
        if path is None or path.parent != self._disk.folder:
            return int(self._real.open(vfs, name, file, flags, flags_out))
        if refusal := self._refusal("open", path.name):
            place.contents.value = None
            return refusal
        code: int = self._real.open(vfs, name, file, flags, flags_out)
        if code != OK or not place.contents.value:
            return code
        address = place.contents.value
        if address not in self._methods:
            original = _Methods.from_address(address)
            patched = _Methods.from_buffer_copy(original)
            patched.write, patched.truncate, patched.sync = self._write, self._truncate, self._sync
            if self._accesses:
                patched.read, patched.size, patched.map = self._read, self._size, self._map
            self._methods[address] = original, patched
        original, patched = self._methods[address]
        self._names[file], self._file_methods[file] = path.name, original
        place.contents.value = ctypes.addressof(patched)
        return code

    def _delete(self, vfs: int, name: bytes, sync_folder: int) -> int:
        path = Path(name.decode())
        if path.parent != self._disk.folder or not path.exists():
            return int(self._real.delete(vfs, name, sync_folder))
        return self._do(Step("delete", path.name), lambda: self._real.delete(vfs, name, sync_folder))

    def _on_write(self, file: int, data: int, size: int, offset: int) -> int:
        step = Step("write", self._names[file], offset, ctypes.string_at(data, size))
        return self._do(step, lambda: self._file_methods[file].write(file, data, size, offset))

    def _on_truncate(self, file: int, size: int) -> int:
        return self._do(
            Step("truncate", self._names[file], size), lambda: self._file_methods[file].truncate(file, size)
        )

    def _on_sync(self, file: int, flags: int) -> int:
        return self._do(Step("sync", self._names[file]), lambda: self._file_methods[file].sync(file, flags))

    def _refusal(self, kind: str, file: str) -> int:
        return self._disk.refuses(Access(kind, file)) if self._accesses else OK

    def _on_read(self, file: int, data: int, size: int, offset: int) -> int:
        code = self._refusal("read", self._names[file])
        if code == IOERR_SHORT_READ:
            ctypes.memset(data, 0, size)  # SQLite requires zeros after a short read
        return code or self._file_methods[file].read(file, data, size, offset)

    def _on_size(self, file: int, size: int) -> int:
        return self._refusal("size", self._names[file]) or self._file_methods[file].size(file, size)

    def _on_map(self, file: int, region: int, size: int, extend: int, place: int) -> int:
        refusal = self._refusal("map", self._names[file])
        return refusal or self._file_methods[file].map(file, region, size, extend, place)
