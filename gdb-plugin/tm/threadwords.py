"""The word that glibc keeps free in each thread's control block, and whether tm may use it.

Where another libc has its own things there, or a thread has something in it, tm does
without.  Uses helper, inferior.  Inside quiet_session.
"""

import os
from array import array
from typing import Dict, Iterable, List, Optional

import _tm

from . import inferior, maps
from .helper import Helper, find_functions

_LAYOUT = _tm.layout
_PLACE = _LAYOUT["WORD_LEFT"]
_SELF = 16  # where glibc's control block has its own address a second time; musl's has not


def claim(loaded: Helper, files: List[maps.MappedFile]) -> bool:
    """Decides for the next `start` whether the words are tm's; then they are zero."""
    found = _read(inferior.thread_pointers())
    if loaded.read_header()["thread_words"]:
        wipe(loaded)
    elif any(found.values()):
        return False
    ours = _is_glibc(files) and None not in found.values()
    loaded.write_field("thread_words", int(ours))
    return ours


def wipe(loaded: Helper) -> None:
    """Puts zeros into the words, if they are tm's.

    Of threads that have ended as well: others may get their stacks.
    """
    if not loaded.read_header()["thread_words"]:
        return
    found = _read({*inferior.thread_pointers(), *_known_pointers(loaded)})
    for pointer, word in found.items():
        if word:
            inferior.write(pointer + _PLACE, bytes(8))


def _is_glibc(files: List[maps.MappedFile]) -> bool:
    return any(find_functions(file, ("gnu_get_libc_version",)) for file in files
               if os.path.basename(file.path).startswith(("libc.so", "libc-2.")))


def _known_pointers(loaded: Helper) -> List[int]:
    """The thread pointers that the helper has met."""
    size = _LAYOUT["sizeof"]["tm_thread_entry"]
    place = _LAYOUT["offsets"]["tm_thread_entry"]["thread_pointer"][0]
    with inferior.fast_reader() as read:
        try:
            entries = array("Q", read(loaded.read_header()["thread_entries"],
                                      size * _LAYOUT["MAX_THREADS"]))
        except inferior.gdb.MemoryError:
            return []  # the header was overwritten
    return [pointer for pointer in entries[place // 8::size // 8] if pointer > 1]


def _read(pointers: Iterable[int]) -> Dict[int, Optional[int]]:
    """By thread pointer the word; None where no control block of glibc is."""
    found: Dict[int, Optional[int]] = {}
    with inferior.fast_reader() as read:
        for pointer in pointers:
            own = pointer.to_bytes(8, "little")
            try:
                block = read(pointer, _PLACE + 8)
            except inferior.gdb.MemoryError:
                block = b""
            is_known = block.startswith(own) and block[_SELF:].startswith(own)
            found[pointer] = int.from_bytes(block[_PLACE:], "little") if is_known else None
    return found
