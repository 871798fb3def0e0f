"""The short way through a relay while blocks are sampled: most calls go on at once.

It decides what the stubs of helper/arch/x86_64/sampled.S decide, in the same few
instructions, and runs on into the relocated prologue; what must not be let pass goes to
the relay's beginning with all as it was.  May use _tm.  Must not import gdb.
"""

from typing import NamedTuple, Optional, Tuple

import _tm

_LAYOUT = _tm.layout

_LEFT = b"\x25" + _LAYOUT["WORD_LEFT"].to_bytes(4, "little")  # %fs:TM_WORD_LEFT
# By the register of the size: cmpq $1, SIZE; sbbq SIZE, %fs:TM_WORD_LEFT; and adcq for that.
_DOWN = {register: b"\x48\x83" + compare + b"\x01\x64\x48\x19" + place + _LEFT
         for register, compare, place in (("rdi", b"\xff", b"\x3c"), ("rsi", b"\xfe", b"\x34"),
                                          ("rax", b"\xf8", b"\x04"))}
_UP = {register: code.replace(b"\x64\x48\x19", b"\x64\x48\x11")
       for register, code in _DOWN.items()}
_PRODUCT = b"\x48\x89\xf8\x48\x0f\xaf\xc6"  # movq %rdi, %rax; imulq %rsi, %rax
_JUMP, _JUMP_NOT_EQUAL, _JUMP_NOT_ABOVE = b"\xeb", b"\x75", b"\x76"  # and a byte of distance
_JUMP_BYTES = 2

LONGEST = 64  # bytes


class Ways(NamedTuple):
    """What a tracing's short ways look at."""

    filter: int  # address
    words: bool  # whether what is left is counted in the threads' own words


def make(patch: dict, ways: Ways, end: int) -> Optional[Tuple[int, bytes]]:
    """The code that ends right before `end` of a relay, and how much of it is before its entry.

    None where there is no short way: a function may call another one that is sampled, or
    its callers rely on registers.
    """
    arguments = tuple(patch[name] for name in ("size_argument", "count_argument",
                                               "block_argument"))
    none = _LAYOUT["NO_ARGUMENT"]
    is_free = patch["shape"] == _LAYOUT["SHAPE_FREE"] and arguments == (none, none, 0)
    if patch["keeps_registers"] or not is_free and not (ways.words and patch["is_leaf"]):
        return None
    if is_free:
        return 0, _look_up(ways.filter, end - _JUMP_BYTES)
    if patch["shape"] == _LAYOUT["SHAPE_ALLOC"] and arguments == (0, none, none):
        return _count_down("rdi", b"", end)
    if patch["shape"] == _LAYOUT["SHAPE_ALLOC"] and arguments == (1, 0, none):
        return _count_down("rax", _PRODUCT, end)
    if patch["shape"] == _LAYOUT["SHAPE_REALLOC"] and arguments == (1, none, 0):
        jump = end - len(_DOWN["rsi"]) - 2 * _JUMP_BYTES
        return _count_down("rsi", _look_up(ways.filter, jump), end)
    return None


def _jump(kind: bytes, at: int, target: int) -> bytes:
    return kind + (target - at - _JUMP_BYTES).to_bytes(1, "little", signed=True)


def _look_up(place: int, jump: int) -> bytes:
    # movl %edi, %eax; shrl $10, %eax; movabsq $filter, %r10; cmpb $0, (%r10,%rax); jne
    return (b"\x89\xf8\xc1\xe8\x0a\x49\xba" + place.to_bytes(8, "little")
            + b"\x41\x80\x3c\x02\x00" + _jump(_JUMP_NOT_EQUAL, jump, 0))


def _count_down(register: str, first: bytes, end: int) -> Tuple[int, bytes]:
    code = first + _DOWN[register]
    entry = end - len(code) - _JUMP_BYTES
    undo = entry - len(_UP[register]) - _JUMP_BYTES
    before = _UP[register] + _jump(_JUMP, entry - _JUMP_BYTES, 0)
    return len(before), before + code + _jump(_JUMP_NOT_ABOVE, end - _JUMP_BYTES, undo)
