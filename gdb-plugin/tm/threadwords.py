"""The words that glibc keeps free in each thread's control block, and whether tm may use them.

Where another libc has its own things there, or a thread has something in them, tm does
without.  Uses helper, inferior.  Inside quiet_session.
"""

import os
from typing import Dict, List, Optional

import _tm

from . import inferior, maps
from .helper import Helper, find_functions

_WORDS = range(_tm.layout["WORD_LEFT"], _tm.layout["WORD_SECOND"] + 8)
_SELF = 16  # where glibc's control block has its own address a second time; musl's has not


def claim(loaded: Helper, files: List[maps.MappedFile]) -> None:
    """Decides for the next `start` whether the words are tm's; then they are zero."""
    found = _read()
    if loaded.read_header()["thread_words"]:
        _wipe(found)
    elif any(words and any(words) for words in found.values()):
        return
    loaded.write_field("thread_words", int(_is_glibc(files) and None not in found.values()))


def wipe(loaded: Helper) -> None:
    """Puts zeros into the words, if they are tm's."""
    if loaded.read_header()["thread_words"]:
        _wipe(_read())


def _is_glibc(files: List[maps.MappedFile]) -> bool:
    return any(find_functions(file, ("gnu_get_libc_version",)) for file in files
               if os.path.basename(file.path).startswith(("libc.so", "libc-2.")))


def _read() -> Dict[int, Optional[bytes]]:
    """By thread pointer the words; None where no control block of glibc is."""
    found: Dict[int, Optional[bytes]] = {}
    with inferior.fast_reader() as read:
        for pointer in inferior.thread_pointers():
            own = pointer.to_bytes(8, "little")
            try:
                block = read(pointer, _WORDS.stop)
            except inferior.gdb.MemoryError:
                block = b""
            is_known = block.startswith(own) and block[_SELF:].startswith(own)
            found[pointer] = block[_WORDS.start:] if is_known else None
    return found


def _wipe(found: Dict[int, Optional[bytes]]) -> None:
    for pointer, words in found.items():
        if words and any(words):
            inferior.write(pointer + _WORDS.start, bytes(len(words)))
