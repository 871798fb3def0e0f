"""Lets C++ exceptions pass through the helper's frames, where the program has libgcc.

libgcc is told of the helper's .eh_frame when the helper is loaded, and told to
forget it before the helper goes: by the same copy of libgcc, since another one
would abort the program.

Uses helper, inferior, stacks.  Inside quiet_session.
"""

from typing import Iterator, List, Tuple

from . import helper, inferior, maps, patches, stacks
from .errors import TmError
from .helper import Helper

_REGISTER, _DEREGISTER = "__register_frame_info", "__deregister_frame_info"
_LOOKUP = "_Unwind_Find_FDE"
_STATE_OFFSET, _SORTED = 32, 1  # of libgcc's struct object (unwind-dw2-fde.h)
_NEAR = 4096  # bytes of stack that what libgcc calls with its lock held does not exceed


def register(loaded: Helper, files: List[maps.MappedFile]) -> None:
    """Tells the first libgcc among the objects, unless one was told already."""
    place = loaded.symbol("tm_frame_deregister")
    if any(inferior.read(place, 8)):
        return
    for functions in _copies_of_libgcc(files):
        _refuse_while_locked(functions)
        begin = loaded.header["image_start"] + loaded.image()["eh_frame"][0]
        inferior.call(functions[_REGISTER].start, begin, loaded.symbol("tm_frame_object"))
        inferior.write(place, functions[_DEREGISTER].start.to_bytes(8, "little"))
        return


def deregister(loaded: Helper, files: List[maps.MappedFile]) -> None:
    """Tells the libgcc that was told, if it is still there."""
    place = loaded.symbol("tm_frame_deregister")
    address = int.from_bytes(inferior.read(place, 8), "little")
    if address == 0:
        return
    for functions in _copies_of_libgcc(files):
        if functions[_DEREGISTER].start == address:
            _refuse_while_locked(functions)
            _refuse_while_allocating(loaded, files)
            begin = loaded.header["image_start"] + loaded.image()["eh_frame"][0]
            inferior.call(address, begin)
    inferior.write(place, bytes(8))


def _copies_of_libgcc(files: List[maps.MappedFile]) -> Iterator[dict]:
    for file in files:
        functions = {
            name: range(address, address + max(size, 1))
            for name, address, size in _find(file)
        }
        if _REGISTER in functions and _DEREGISTER in functions:
            yield functions


def _find(file: maps.MappedFile) -> List[Tuple[str, int, int]]:
    return helper.find_functions(file, (_REGISTER, _DEREGISTER, _LOOKUP))


def _refuse_while_locked(functions: dict) -> None:
    """A call would wait for ever for a lock that a stopped thread holds."""
    thread = stacks.find_user(list(functions.values()), inferior.memory_map(), limit=_NEAR)
    if thread:
        raise TmError(
            f"Thread {thread} is throwing an exception at this moment: let the program run on a "
            "little, and try again."
        )


def _refuse_while_allocating(loaded: Helper, files: List[maps.MappedFile]) -> None:
    """Once an exception was thrown libgcc keeps a sorted table, which it now gives to free()."""
    state = inferior.read(loaded.symbol("tm_frame_object") + _STATE_OFFSET, 1)[0]
    if not state & _SORTED:
        return
    functions = [
        range(function.address, function.address + max(function.size, 1))
        for function in patches.allocator_functions(files)
    ]
    thread = stacks.find_user(functions, inferior.memory_map(), limit=_NEAR)
    if thread:
        raise TmError(
            f"Thread {thread} is in the allocator at this moment: let the program run on a "
            "little, and try again."
        )
