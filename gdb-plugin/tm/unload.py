"""Taking the helper out of the process again, when no thread needs it any more.

The order: look at every thread; libgcc forgets the helper's unwind tables; the
helper gives back all its memory but itself; then a stub outside of it unmaps
the relays and the image.  Until the helper was asked to give back its memory
a failure leaves it as it was.

Uses process, stacks, exceptions.
"""

from typing import Iterator, List

import _tm

from . import exceptions, frames, helper, inferior, maps, patches, process, restarts, stacks
from .errors import TmError


def unload() -> int:
    """Takes the idle helper out; returns how many bytes were given back."""
    inferior.require_stopped()
    found = process.find_helper()
    if found is None:
        raise TmError("There is no helper in the process: nothing to unload.")
    if found.is_tracing:
        raise TmError("Tracing is on: \"tm stop\" comes first.")
    with inferior.fast_reader() as read:
        memory = _tm.counters(read, found.address)["helper_memory"]
    listed = patches.PatchList(found)
    image = range(found.header["image_start"], found.header["image_end"])
    parts = [range(region["start"], region["start"] + region["size"])
             for region in listed.regions] + [image]
    mappings = inferior.memory_map()
    _refuse_while_used([*parts[:-1], range(image.start, found.address), *_stubs(listed)],
                       mappings)
    caller = inferior.choose_caller()
    with inferior.quiet_session():
        restarts.restart_system_calls()
        caller.switch()
        patches.restore(listed, keep=image)
        exceptions.deregister(found, list(maps.mapped_files(mappings)))
        found.call("tm_control_unmap", what="give back the helper's memory")
        system_call = helper.SystemCall()
        for part in parts:
            inferior.check(system_call(helper.SYS_MUNMAP, part.start, len(part)),
                           "unmap the helper")
        process.forget_process(inferior.selected().num)
        frames.forget_helper_symbols(inferior.selected().num)
    _check_gone(parts)
    return memory + sum(len(part) for part in parts[:-1])


def _stubs(listed: patches.PatchList) -> Iterator[range]:
    """What libtm-preload.so's stubs do between their first instruction and the function."""
    for patch in listed.patches:
        if not patch["length"]:
            yield range(patch["function"] + _tm.layout["STUB_LOAD"],
                        patch["function"] + _tm.layout["STUB_BYTES"])


def _refuse_while_used(code: List[range], mappings: List[maps.Mapping]) -> None:
    thread = stacks.find_user(code, mappings)
    if thread:
        raise TmError(
            f"Thread {thread} stands in the helper, or will come back to it: let the program run "
            "on a little, and try again."
        )


def _check_gone(parts: List[range]) -> None:
    for mapping in inferior.memory_map():
        for part in parts:
            if mapping.start < part.stop and part.start < mapping.end:
                raise TmError(f"The helper's memory at {part.start:#x} is still mapped.")
