"""Lets C++ exceptions pass through the helper's frames, where the program has libgcc.

libgcc is told of the helper's .eh_frame when the helper is loaded, and told to
forget it before the helper goes: by the same copy of libgcc, since another one
would abort the program.

Uses helper, inferior, stacks.  Inside quiet_session.
"""

from typing import Iterator, List, NoReturn, Tuple

from . import helper, inferior, maps, patches, stacks
from .errors import TmError
from .helper import Helper

_REGISTER, _DEREGISTER = "__register_frame_info", "__deregister_frame_info"
_LOOKUP = "_Unwind_Find_FDE"
_STATE_OFFSET, _SORTED = 32, 1  # of libgcc's struct object (unwind-dw2-fde.h)
_DEPTH = 64  # frames in which a thread's call of an allocator function is looked for
_NEAR = 4096  # bytes of stack that what libgcc calls with its lock held does not exceed


def register(loaded: Helper, files: List[maps.MappedFile]) -> None:
    """Tells the first libgcc among the objects, unless one was told already."""
    place = loaded.symbol("tm_frame_deregister")
    if any(inferior.read(place, 8)):
        return
    for functions in _copies_of_libgcc(files):
        if any(name in functions for name in patches.ALLOCATING_REGISTRY):
            if not inferior.has_thread_pointer():
                return  # what throws is not redirected then
            _refuse_while_allocating(files)
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
            # Once an exception was thrown libgcc has a sorted table, which it now gives to free().
            if inferior.read(loaded.symbol("tm_frame_object") + _STATE_OFFSET, 1)[0] & _SORTED:
                thread = stacks.find_user(_allocator(files), inferior.memory_map(), limit=_NEAR)
                if thread:
                    _refuse_in_allocator(thread)
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
    return helper.find_functions(
        file, (_REGISTER, _DEREGISTER, _LOOKUP, *patches.ALLOCATING_REGISTRY)
    )


def _refuse_while_locked(functions: dict) -> None:
    """A call would wait for ever for a lock that a stopped thread holds."""
    code = [functions[name] for name in (_REGISTER, _DEREGISTER, _LOOKUP) if name in functions]
    thread = stacks.find_user(code, inferior.memory_map(), limit=_NEAR)
    if thread:
        raise TmError(
            f"Thread {thread} is throwing an exception at this moment: let the program run on a "
            "little, and try again."
        )


def _refuse_while_allocating(files: List[maps.MappedFile]) -> None:
    """This happens at every start: what a thread's stack still holds of a call must not count."""
    code = _allocator(files)
    for thread, chain in inferior.call_chains(_DEPTH):
        if any(address in part for address in chain for part in code):
            _refuse_in_allocator(thread)


def _allocator(files: List[maps.MappedFile]) -> List[range]:
    """The functions that libgcc may be about to call, and a thread may be in the middle of."""
    return [
        range(function.address, function.address + max(function.size, 1))
        for function in patches.allocator_functions(files)
    ]


def _refuse_in_allocator(thread: int) -> NoReturn:
    raise TmError(
        f"Thread {thread} is in the allocator at this moment: let the program run on a "
        "little, and try again."
    )
