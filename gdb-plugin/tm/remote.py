"""What is different under gdbserver: files may be on another machine or in a container.

What this machine has under the same name is taken only where its build-id is
that of the object in the process; anything else is fetched through the
debugger's connection, once, and kept until gdb ends.

May use: gdb, `_tm` for build-ids.  Must never fail where a
file is not needed: what cannot be fetched keeps its name.
"""

import os
import struct
import tempfile
from typing import Callable, Dict, Iterable, Optional, Tuple

import _tm
import gdb

from . import maps
from .errors import TmError

_PT_NOTE, _NT_GNU_BUILD_ID = 4, 3
_MAX_HEADERS = 4096  # bytes of program headers that are looked at
_MAX_NOTES = 65536

_folder: Optional[tempfile.TemporaryDirectory] = None
_starts: Dict[int, Dict[str, int]] = {}  # process -> path -> where its first byte is
_chosen: Dict[Tuple[int, str], str] = {}  # process and path -> what is opened


def read_file(path: str) -> bytes:
    """The contents of a file as gdbserver sees it, those of /proc too."""
    copy = _fetch(path)
    try:
        with open(copy, "rb") as file:
            return file.read()
    finally:
        os.unlink(copy)


def _fetch(path: str) -> str:
    global _folder
    if _folder is None:
        _folder = tempfile.TemporaryDirectory(prefix="tm-")
    descriptor, copy = tempfile.mkstemp(dir=_folder.name)
    os.close(descriptor)
    try:
        gdb.execute(f"remote get {_quoted(path)} {_quoted(copy)}", to_string=True)
    except gdb.error as error:
        os.unlink(copy)
        raise TmError(f"Cannot read {path} on the remote target: {error}.") from error
    return copy


def _quoted(path: str) -> str:
    return '"%s"' % path.replace("\\", "\\\\").replace('"', '\\"')


def object_file(path: str, pid: int, mappings: Callable[[], Iterable[maps.Mapping]],
                read: Callable[[int, int], bytes]) -> str:
    """Where this machine has the object that the process has mapped under this path."""
    key = (pid, path)
    if key in _chosen and os.path.exists(_chosen[key]):
        return _chosen[key]
    if path not in _starts.get(pid, {}):
        _starts[pid] = {mapping.path: mapping.start for mapping in reversed(list(mappings()))
                        if mapping.offset == 0}
    start = _starts[pid].get(path)
    wanted = _build_id(start, read) if start is not None else b""
    _chosen[key] = _local(path, wanted) or _copy(path, pid) or path
    return _chosen[key]


def let_go_of_signal() -> None:
    """Keeps gdbserver from killing the program when it detaches.

    A call that gdb makes ends with a SIGSEGV on the stack, which gdb takes for
    itself.  But gdbserver goes by the last signal it has seen, and would send
    it on; unless it has been told that the program gets no SIGSEGV.  So it is
    told, and what gdb itself knows of the signal stays as the user wants it.
    A fault of the program's own happens again when it goes on.
    """
    passed = gdb.execute("info signals SIGSEGV", to_string=True).splitlines()[-1].split()[3:4]
    if passed != ["Yes"]:
        return
    gdb.execute("handle SIGSEGV nopass", to_string=True)
    try:
        gdb.execute("set remote program-signals-packet off", to_string=True)
        gdb.execute("handle SIGSEGV pass", to_string=True)
    finally:
        gdb.execute("set remote program-signals-packet auto", to_string=True)


def forget(pid: int) -> None:
    """The process has gone: its number and its paths may mean something else."""
    _starts.pop(pid, None)
    for key in [key for key in _chosen if key[0] == pid]:
        del _chosen[key]


def _local(path: str, build_id: bytes) -> Optional[str]:
    if not build_id:
        return None
    root = gdb.parameter("sysroot") or ""
    roots = [""] if root.startswith("target:") else [root.rstrip("/"), ""]
    for candidate in [root + path for root in roots]:
        try:
            if _tm.elf_segments(candidate)["build_id"] == build_id:
                return candidate
        except _tm.Error:
            continue
    return None


def _copy(path: str, pid: int) -> Optional[str]:
    for seen_by_server in (f"/proc/{pid}/root{path}", path):
        try:
            return _fetch(seen_by_server)
        except TmError:
            continue
    return None


def _build_id(start: int, read: Callable[[int, int], bytes]) -> bytes:
    """The build-id in the notes of an object in memory; b"" where it has none."""
    try:
        header = read(start, 64)
        if header[:5] != b"\x7fELF\x02":
            return b""
        (offset,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        if size < 56 or offset + size * count > _MAX_HEADERS:
            return b""
        table = read(start + offset, size * count)
        entries = [struct.unpack_from("<IIQQQQQQ", table, i * size) for i in range(count)]
        lowest = min((entry[3] for entry in entries if entry[0] == 1), default=0)
        for kind, _, _, address, _, length, _, _ in entries:
            if kind == _PT_NOTE and length <= _MAX_NOTES:
                found = _gnu_build_id(read(start + address - (lowest & ~(maps.PAGE - 1)), length))
                if found:
                    return found
    except gdb.MemoryError:
        pass
    return b""


def _gnu_build_id(notes: bytes) -> bytes:
    place = 0
    while place + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, place)
        name = notes[place + 12:place + 12 + name_size]
        data = place + 12 + (name_size + 3 & ~3)
        if kind == _NT_GNU_BUILD_ID and name == b"GNU\0":
            return notes[data:data + size]
        place = data + (size + 3 & ~3)
    return b""
