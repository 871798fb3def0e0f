"""What the helper is told about the objects of the process, where it cannot see for itself.

Unwind tables of objects without .eh_frame_hdr (gcc -static makes none), and the
memory map where a seccomp filter may forbid reading it, or there is no /proc.

Uses helper and inferior.  Inside inferior.quiet_session.
"""

import struct
import time
from typing import List, Optional

import _tm

from . import helper, inferior, maps

_PT_GNU_EH_FRAME = 0x6474E550
_SHF_ALLOC = 2


def tell(loaded: helper.Helper, files: List[maps.MappedFile]) -> None:
    """Before tracing starts: what the helper needs to know to read the list of modules."""
    for file in files:
        address = _eh_frame_without_header(inferior.object_file(file.path))
        if address is not None:
            loaded.call("tm_control_tell_eh_frame", file.start,
                        helper.load_bias(file) + address, what="note an unwind table")


def be_quiet_where_filtered(loaded: helper.Helper) -> None:
    """Before anything runs in the helper: whether a system call may get the process killed.

    That holds for good, since nobody gets rid of a filter.
    """
    if not loaded.header["quiet"] and inferior.is_filtered():
        loaded.write_field("quiet", 1)
        loaded.header = loaded.read_header()


def tell_modules(loaded: helper.Helper) -> None:
    """The memory map, for a helper that could not or must not read it."""
    header = loaded.read_header()
    if header["modules"] and not header["quiet"]:
        return
    pid = inferior.selected().pid
    if header["quiet"]:  # what the helper could not ask the kernel for
        loaded.write_field("pid", pid)
        loaded.write_field("start_time", time.time_ns())
    text = inferior.target_file(f"/proc/{pid}/maps")
    address = loaded.call("tm_control_map_text", len(text), what="map memory for its modules")
    inferior.write(address, text)
    loaded.call("tm_control_tell_modules", address, len(text), what="list its modules")


def _eh_frame_without_header(path: str) -> Optional[int]:
    """The address in the file of .eh_frame, when no program header leads to a table over it."""
    try:
        if any(kind == _PT_GNU_EH_FRAME for kind, *_ in _tm.elf_segments(path)["segments"]):
            return None
        with open(path, "rb") as file:
            return _find_section(file, b".eh_frame")
    except (OSError, struct.error, _tm.Error):
        return None


def _find_section(file, wanted: bytes) -> Optional[int]:
    """The address of a section of an ELF64 file (gabi, "Sections"); None without."""
    start, = struct.unpack("<Q", _read(file, 0x28, 8))
    size, count, of_names = struct.unpack("<HHH", _read(file, 0x3A, 6))
    if size < 64 or not of_names < count:
        return None
    headers = [struct.unpack("<IIQQQQ", _read(file, start + i * size, 40)) for i in range(count)]
    names = _read(file, headers[of_names][4], headers[of_names][5])
    for name, _, flags, address, _, length in headers:
        if flags & _SHF_ALLOC and length and names[name:].split(b"\0", 1)[0] == wanted:
            return address
    return None


def _read(file, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
