"""Which threads stand in a piece of code, or will come back to it.

A thread can come to an address again only if its program counter is there or
its stack holds that address: as a return address, or as the program counter
that a signal interrupted.  So each stack is read from its pointer to its end,
and with it the stacks that signal frames on it lead back to.  A word left over
from an earlier call counts too: this may say yes for a no, never no for a yes.

Uses inferior to read.  Must never change anything.
"""

from array import array
from typing import Iterator, List, Optional, Sequence

from . import inferior, maps

# struct sigcontext (asm/sigcontext.h): rsp, rip, eflags, then cs, gs, fs, ss in one word.
_USER_CODE = 0x33
_BEFORE_CS = 3  # words from rsp to cs
_FLAGS_ALWAYS_SET, _FLAGS_END = 2, 1 << 22


def find_user(
    code: Sequence[range], mappings: List[maps.Mapping], limit: Optional[int] = None
) -> int:
    """The kernel's number of a thread that stands in `code` or will come back; 0: none does.

    limit: how many bytes of each stack to look at.
    """
    low = min(part.start for part in code)
    high = max(part.stop for part in code)
    with inferior.fast_reader() as read:
        for state in inferior.thread_states():
            if any(state.pc in part for part in code):
                return state.tid
            for words in _stacks(state.sp, mappings, read, limit):
                for word in words:
                    if low <= word < high and any(word in part for part in code):
                        return state.tid
    return 0


def _stacks(pointer: int, mappings, read, limit: Optional[int]) -> Iterator[array]:
    """The words in use of a thread's stack, and of those that its signal frames interrupted."""
    waiting, seen = [pointer], set()
    while waiting:
        pointer = waiting.pop()
        end = maps.stack_top(mappings, pointer)
        if end == 0 or end in seen:
            continue
        seen.add(end)
        start = (pointer + 7) & ~7
        length = (end - start) & ~7
        try:
            words = array("Q", read(start, min(length, limit or length)))
        except inferior.gdb.MemoryError:
            continue
        yield words
        waiting.extend(_interrupted_pointers(words))


def _interrupted_pointers(words: array) -> List[int]:
    """Stack pointers that signal frames on a stack keep."""
    return [
        words[place - _BEFORE_CS]
        for place, word in enumerate(words)
        if word & 0xFFFF == _USER_CODE
        and place >= _BEFORE_CS
        and words[place - 1] & _FLAGS_ALWAYS_SET
        and words[place - 1] < _FLAGS_END
    ]
