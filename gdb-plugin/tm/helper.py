"""The helper inside the process: finding it, copying it in, calling its functions.

Uses `_tm` for the layout and the helper's ELF file, inferior for everything in
the process.
"""

import contextlib
import os
from typing import Dict, List, Optional

import _tm
import gdb

from . import inferior, maps
from .errors import TmError

_LAYOUT = _tm.layout
_MAGIC = int(_LAYOUT["MAGIC"]).to_bytes(8, "little")
_HEADER_SIZE = _LAYOUT["sizeof"]["tm_header"]
_PROT_READ, _PROT_WRITE, _PROT_EXEC = 1, 2, 4
_MAP_PRIVATE_ANONYMOUS, _MAP_FIXED = 0x22, 0x10

# The kernel's numbers of system calls, x86-64 (asm/unistd_64.h).
_SYS_MMAP, SYS_MUNMAP = 9, 11


def image_path() -> str:
    """The helper's file: beside the extension module."""
    path = os.path.join(os.path.dirname(os.path.abspath(_tm.__file__)), "tm-helper.so")
    if not os.path.exists(path):
        raise TmError(f"The helper {path} is missing: build it with `make`.")
    return path


class Helper:
    """A helper in the selected process, by the address of its header."""

    _images: Dict[str, dict] = {}

    def __init__(self, address: int):
        self.address = address
        self.header = self.read_header()

    def read_header(self) -> dict:
        """The header as it is now."""
        header = _tm.decode("tm_header", inferior.read(self.address, _HEADER_SIZE))
        if header["version"] != _LAYOUT["LAYOUT_VERSION"]:
            raise TmError(
                f"The helper in this process has layout version {header['version']}, this tm reads "
                f"version {_LAYOUT['LAYOUT_VERSION']}: use the tm that started it."
            )
        states = (_LAYOUT["STATE_IDLE"], _LAYOUT["STATE_TRACING"])
        if header["self"] != self.address or header["state"] not in states:
            raise TmError(f"The helper's header at {self.address:#x} is damaged.")
        return header

    @classmethod
    def image(cls) -> dict:
        """The helper's file, read and checked once."""
        path = image_path()
        key = f"{path} {os.stat(path).st_mtime_ns}"
        if key not in cls._images:
            cls._images[key] = _tm.helper_image(path)
            if cls._images[key]["relocations"]:
                raise TmError(f"{path} needs relocating: build it again with `make`.")
        return cls._images[key]

    def is_of_this_build(self) -> bool:
        """Whether the helper that is loaded was made from the file that this tm has."""
        try:
            build_id = self.image()["build_id"]
        except TmError:
            return False
        return self.header["helper_build_id"][: len(build_id)] == build_id

    def symbol(self, name: str) -> int:
        """The address of one of the helper's functions, whose file must be the loaded one."""
        image = self.image()
        if not self.is_of_this_build():
            raise TmError(
                "The helper in this process was built from other sources than this tm: "
                "use the tm that started it."
            )
        return self.header["image_start"] + image["symbols"][name]

    def call(self, name: str, *arguments: int, what: str) -> int:
        """Calls a function of the helper; a negative errno becomes one line about `what`."""
        return inferior.check(inferior.call(self.symbol(name), *arguments), what)

    def write_field(self, field: str, value: int) -> None:
        """Changes one integer of the header."""
        offset, size = _LAYOUT["offsets"]["tm_header"][field]
        inferior.write(self.address + offset, value.to_bytes(size, "little"))

    @property
    def is_tracing(self) -> bool:
        """True between start and stop."""
        return self.header["state"] == _LAYOUT["STATE_TRACING"]


def find(mappings: Optional[List[maps.Mapping]] = None) -> Optional[Helper]:
    """The helper that is in the process already, whoever put it there."""
    with inferior.fast_reader() as read:
        for mapping in mappings if mappings is not None else inferior.memory_map():
            if mapping.inode or not mapping.permissions.startswith("rw"):
                continue
            if mapping.end - mapping.start < _HEADER_SIZE:
                continue
            try:
                if read(mapping.start, 8) != _MAGIC:
                    continue
            except gdb.MemoryError:
                continue
            return Helper(mapping.start)
    return None


# ---- copying it in -----------------------------------------------------------


class SystemCall:
    """Makes system calls in the process: libc's functions would set errno.

    Where a stub is needed, it stands shortly behind the program's entry point,
    where no thread comes again, and its bytes are put back at once.
    """

    # System V function arguments to system call arguments (syscall(2)); syscall; ret.
    _STUB = bytes.fromhex("4889f8 4889f7 4889d6 4889ca 4d89c2 4d89c8 4c8b4c2408 0f05 c3")

    def __init__(self) -> None:
        self.address = inferior.entry_point() + 16

    def __call__(self, number: int, *arguments: int) -> int:
        padded = list(arguments) + [0] * (6 - len(arguments))
        result = inferior.system_call(number, *padded)
        if result is not None:
            return result
        saved = inferior.read(self.address, len(self._STUB))
        inferior.write(self.address, self._STUB)
        try:
            return inferior.call(self.address, number, *padded)
        finally:
            inferior.write(self.address, saved)


def load_bias(file: maps.MappedFile) -> int:
    """Run-time address minus the address in the file."""
    return file.start - _lowest_address(file.path)


_lowest: Dict[str, int] = {}


def _lowest_address(path: str) -> int:
    readable = inferior.object_file(path)
    stat = os.stat(readable)
    key = f"{path} {stat.st_ino} {stat.st_mtime_ns}"
    if key not in _lowest:
        segments = _tm.elf_segments(readable)["segments"]
        loads = [vaddr for kind, vaddr, *_ in segments if kind == 1]
        _lowest[key] = min(loads, default=0) & ~(maps.PAGE - 1)
    return _lowest[key]


def find_functions(file: maps.MappedFile, names) -> List[tuple]:
    """(name, run-time address, size) of the functions an object defines."""
    try:
        found = _tm.functions(inferior.object_file(file.path), list(names))
    except _tm.Error:
        return []
    if not found:
        return []
    bias = load_bias(file)
    return [(name, bias + address, size) for name, address, size, _ in found]


def load() -> Helper:
    """Copies the helper in and makes its header valid.  Inside quiet_session."""
    image = Helper.image()
    system_call = SystemCall()
    size = (image["size"] + maps.PAGE - 1) & ~(maps.PAGE - 1)
    base = inferior.check(
        system_call(
            _SYS_MMAP, 0, size, _PROT_READ | _PROT_EXEC, _MAP_PRIVATE_ANONYMOUS, (1 << 64) - 1, 0
        ),
        "map memory for the helper",
    )
    with contextlib.ExitStack() as undo:
        undo.callback(system_call, SYS_MUNMAP, base, size)
        loaded = _fill(image, base, size, system_call)
        undo.pop_all()
    return loaded


def _fill(image: dict, base: int, size: int, system_call: SystemCall) -> Helper:
    # Not by mprotect(2): a filter that lets an allocator live need not permit that.
    writable = next(offset for offset, _, _, flags in image["segments"] if flags & 2)
    inferior.check(
        system_call(
            _SYS_MMAP, base + writable, size - writable, _PROT_READ | _PROT_WRITE,
            _MAP_PRIVATE_ANONYMOUS | _MAP_FIXED, (1 << 64) - 1, 0
        ),
        "map the helper's own memory",
    )
    for offset, data, _, _ in image["segments"]:
        inferior.write(base + offset, data)
        if inferior.read(base + offset, len(data)) != data:
            raise TmError("The helper could not be copied into the process.")
    header = base + writable
    # First, because a header that is valid must say which helper it belongs to.
    offset, length = _LAYOUT["offsets"]["tm_header"]["helper_build_id"]
    inferior.write(header + offset, image["build_id"].ljust(length, b"\0")[:length])
    if inferior.is_filtered():
        offset, length = _LAYOUT["offsets"]["tm_header"]["quiet"]
        inferior.write(header + offset, (1).to_bytes(length, "little"))
    result = inferior.call(base + image["symbols"]["tm_control_init"])
    inferior.check(result, "run the helper")
    return Helper(header)
