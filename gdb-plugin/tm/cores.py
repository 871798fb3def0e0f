"""What a core file holds: which file it is, and the memory in it.

May use: gdb, `_tm` for the ELF program headers.  Must never need the process
that left the core, nor its files.
"""

import re
from typing import List

import _tm
import gdb

from . import maps
from .errors import TmError

_PT_LOAD = 1
_EXECUTABLE, _WRITABLE, _READABLE = 1, 2, 4
_CORE_FILE = re.compile(r"^Local core dump file:\n\s*`(.*)', file type ", re.MULTILINE)


def path() -> str:
    """The core file of the selected inferior."""
    found = _CORE_FILE.search(gdb.execute("info files", to_string=True))
    if found is None:
        raise TmError("gdb does not tell which file the core is: open it with `core-file FILE`.")
    return found.group(1)


def memory_map() -> List[maps.Mapping]:
    """The memory that the core holds, lowest address first; files are not named."""
    try:
        segments = _tm.elf_segments(path())["segments"]
    except _tm.Error as error:
        raise TmError(f"The core file cannot be read: {error}") from error
    return sorted(
        maps.Mapping(address, address + file_size, _permissions(flags), 0, 0, "")
        for kind, address, _, file_size, _, flags in segments
        if kind == _PT_LOAD and file_size
    )


def _permissions(flags: int) -> str:
    return "".join(
        letter if flags & bit else "-"
        for letter, bit in (("r", _READABLE), ("w", _WRITABLE), ("x", _EXECUTABLE))
    ) + "p"
