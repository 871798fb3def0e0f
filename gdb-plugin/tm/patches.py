"""Redirecting functions: the plan, the relays, the jumps, and the way back.

A redirected function begins with `jmp relay`.  The relay, in a page within
reach, loads the address of the function's struct tm_patch and jumps to the
stub that it names; beside it lies the relocated prologue, through which
the helper calls the function itself.  While blocks are sampled, the jump may
lead to a short way between the two.  The plan is complete before anything in
the process changes.
"""

import contextlib
import zlib
from array import array
from typing import Dict, List, NamedTuple, Optional

import _tm

from . import inferior, maps, shortway
from .allocators import FUNCTIONS, THROWING, Shape, is_conventional, is_leaf
from .errors import TmError
from .helper import Helper, find_functions

_LAYOUT = _tm.layout
_PATCH_SIZE = _LAYOUT["sizeof"]["tm_patch"]
_REGION_SIZE = _LAYOUT["sizeof"]["tm_relay_region"]
_NO_ARGUMENT = _LAYOUT["NO_ARGUMENT"]

_ENTRY = _LAYOUT["offsets"]["tm_patch"]["entry"][0]

# Either is in a libgcc of gcc 13 or newer, which keeps what it is told in a tree of blocks
# from malloc: the one in a symbol table, the other among what the shared library exports.
ALLOCATING_REGISTRY = ("release_registered_frames", "__truncdfbf2")

# A relay's slot: up to 19 bytes that lead to the helper, then the relocated prologue, which
# is also entered at what stands right before it: a short way, or helper/arch/x86_64/keeping.S.
_SLOT = 192
_PROLOGUE = 32 + shortway.LONGEST
_PUSH_R11 = b"\x41\x53"
_POP_R11 = b"\x41\x5b"
_JUMP_BYTES = 5  # jmp rel32

_ENTRIES = {
    _LAYOUT["SHAPE_ALLOC"]: "tm_entry_alloc",
    _LAYOUT["SHAPE_FREE"]: "tm_entry_free",
    _LAYOUT["SHAPE_REALLOC"]: "tm_entry_realloc",
    _LAYOUT["SHAPE_STORE"]: "tm_entry_store",
    _LAYOUT["SHAPE_RESIZE"]: "tm_entry_resize",
    _LAYOUT["SHAPE_LOADER"]: "tm_entry_loader",
    _LAYOUT["SHAPE_MAP"]: "tm_entry_map",
    _LAYOUT["SHAPE_UNMAP"]: "tm_entry_unmap",
    _LAYOUT["SHAPE_REMAP"]: "tm_entry_remap",
}

LOADER_NOTICES = ("_dl_debug_state",)


class Function(NamedTuple):
    """A function to be redirected."""

    name: str
    address: int
    size: int
    module: maps.MappedFile
    shape: Shape
    domain: int


def allocator_functions(files: List[maps.MappedFile]) -> List[Function]:
    """The allocator functions of every object, one per address, and the loader's notice."""
    functions: Dict[int, Function] = {}
    wanted = dict(FUNCTIONS)
    if unwind_registry(files) is None:
        # An exception could not pass through a hook, so what throws is left alone; the malloc
        # that operator new calls is traced all the same.
        for name in THROWING:
            del wanted[name]
    for name in LOADER_NOTICES:
        wanted[name] = Shape("SHAPE_LOADER")
    for file in files:
        for name, address, size in find_functions(file, wanted):
            known = functions.get(address)
            # Of aliases the plainest name is shown: malloc rather than __libc_malloc.
            if known is None or (name.startswith("_"), len(name)) < (
                known.name.startswith("_"),
                len(known.name),
            ):
                functions[address] = Function(name, address, size, file, wanted[name], 0)
    return [functions[address] for address in sorted(functions)]


def unwind_registry(files: List[maps.MappedFile]) -> Optional[int]:
    """libgcc's __register_frame_info, through which it learns of unwind tables.

    None too where it would call malloc before the program is able to.
    """
    for file in files:
        found = {name: address for name, address, _ in
                 find_functions(file, ("__register_frame_info", *ALLOCATING_REGISTRY))}
        if "__register_frame_info" in found:
            ready = len(found) == 1 or inferior.has_thread_pointer()
            return found["__register_frame_info"] if ready else None
    return None


def _keeps_registers(function: Function) -> bool:
    """Whether its callers may count on registers that it does not change: keeping.S."""
    is_ours = not function.module.path  # the canaries
    return (function.shape.shape != "SHAPE_LOADER" and not is_ours
            and not is_conventional(function.module.path))


# ---- the list in the process -------------------------------------------------


class PatchList:
    """The struct tm_patch array and the relay regions of a helper."""

    def __init__(self, helper: Helper):
        self.helper = helper
        header = helper.header
        count = min(header["patch_count"], _LAYOUT["MAX_PATCHES"])
        data = inferior.read(header["patches"], count * _PATCH_SIZE) if count else b""
        self.patches = [
            _tm.decode("tm_patch", data[i * _PATCH_SIZE:(i + 1) * _PATCH_SIZE])
            for i in range(count)
        ]
        count = min(header["relay_count"], _LAYOUT["MAX_RELAY_REGIONS"])
        data = inferior.read(header["relays"], count * _REGION_SIZE) if count else b""
        self.regions = [
            _tm.decode("tm_relay_region", data[i * _REGION_SIZE:(i + 1) * _REGION_SIZE])
            for i in range(count)
        ]

    def address_of(self, index: int) -> int:
        """Where patch number `index` is in the process."""
        return self.helper.header["patches"] + index * _PATCH_SIZE

    def store(self, first: int = 0) -> None:
        """Writes the patches from `first` on, then how many there are."""
        for patch in self.patches[first:]:
            if patch["length"] and not is_damaged(patch):
                patch["checksum"] = _checksum(patch)
        data = b"".join(_tm.encode("tm_patch", patch) for patch in self.patches[first:])
        if data:
            inferior.write(self.address_of(first), data)
        self.helper.write_field("patch_count", len(self.patches))

    def store_regions(self) -> None:
        """Writes the relay regions."""
        data = b"".join(_tm.encode("tm_relay_region", region) for region in self.regions)
        if data:
            inferior.write(self.helper.header["relays"], data)
        self.helper.write_field("relay_count", len(self.regions))

    def redirected(self) -> List[dict]:
        """The patches of allocator functions that are in place."""
        start, end = self.helper.header["image_start"], self.helper.header["image_end"]
        return [
            patch
            for patch in self.patches
            if patch["active"]
            and patch["shape"] != _LAYOUT["SHAPE_LOADER"]
            and not start <= patch["function"] < end
        ]


def _checksum(patch: dict) -> int:
    # What is in place, and the stub it leads to, change without a debugger's doing, too.
    return zlib.crc32(_tm.encode("tm_patch", dict(patch, active=0, checksum=0, entry=0)))


def is_damaged(patch: dict) -> bool:
    """Whether the program wrote into the list: what it says must not go into code."""
    return patch.get("checksum", 0) not in (0, _checksum(patch))


# ---- the plan ----------------------------------------------------------------


class Plan:
    """Patches to make, complete and checked, while nothing has been touched."""

    def __init__(self, mappings: List[maps.Mapping], patches: Optional[PatchList] = None):
        self.mappings = mappings
        self.has_shadow_stack = inferior.has_shadow_stack()
        self.regions: List[dict] = [dict(region) for region in patches.regions] if patches else []
        self.known = {patch["function"]: i for i, patch in enumerate(patches.patches)} if (
            patches
        ) else {}
        self.existing = patches.patches if patches else []
        self.first_new_region = len(self.regions)
        self.new: List[dict] = []  # struct tm_patch and "relocated", to be appended
        self.again: List[int] = []  # indexes of patches that were restored and come back
        self.refused: List[str] = []  # one line per function that cannot be redirected

    def add(self, function: Function) -> None:
        """Plans one function; what cannot be is noted in `refused`."""
        index = self.known.get(function.address)
        if index is not None:
            patch = self.existing[index]
            if not patch["length"] and not patch["original"]:
                return  # a stub that stands in for nothing
            now = inferior.read(patch["address"], patch["length"])
            if now == patch["saved"][: patch["length"]]:
                self.again.append(index)
                return
            if patch["active"] and now == patch["written"][: patch["length"]]:
                return
        slot = self._take_slot(function.module)
        if slot is None:
            self.refused.append(f"{function.name}: no free memory within 2 GiB of it")
            return
        try:
            self.new.append(self._plan(function, slot))
        except _tm.PlanError as error:
            self.refused.append(f"{function.name}: {error}")

    def _plan(self, function: Function, slot: int) -> dict:
        length = function.size or 64
        readable = maps.stack_top(self.mappings, function.address) - function.address
        code = inferior.read(function.address, min(max(length, 64), readable))
        plan = _tm.plan(code, function.address, function.size, slot + _PROLOGUE, slot)
        if plan["moves_call"] and self.has_shadow_stack:
            raise _tm.PlanError(
                "the processor's shadow stack forbids to move the call it begins with"
            )
        if len(plan["relocated"]) > _SLOT - _PROLOGUE:
            raise _tm.PlanError("its relocated prologue is too long")
        offset, length = plan["offset"], plan["length"]
        shape = function.shape
        return {
            "function": function.address,
            "address": function.address + offset,
            "relay": slot,
            "original": slot + _PROLOGUE,
            "saved": code[offset:offset + length],
            "written": plan["written"],
            "length": length,
            "active": 0,
            "shape": _LAYOUT[shape.shape],
            "size_argument": _NO_ARGUMENT if shape.size is None else shape.size,
            "count_argument": _NO_ARGUMENT if shape.count is None else shape.count,
            "block_argument": _NO_ARGUMENT if shape.block is None else shape.block,
            "original_length": len(plan["relocated"]),
            "points": len(plan["points"]),
            "point_from": bytes(point[0] for point in plan["points"]),
            "point_to": bytes(point[1] for point in plan["points"]),
            "domain": function.domain,
            "name": function.name.encode()[:47],
            "module": function.module.start,
            "is_leaf": int(is_leaf(function.name, function.module.path)),
            "keeps_registers": int(_keeps_registers(function)),
            "relocated": plan["relocated"],
        }

    def _take_slot(self, module: maps.MappedFile) -> Optional[int]:
        reach = (1 << 31) - (1 << 20)
        for region in self.regions:
            low, high = min(region["start"], module.start), max(
                region["start"] + region["size"], module.end
            )
            if region["used"] + _SLOT <= region["size"] and high - low < reach:
                region["used"] += _SLOT
                return region["start"] + region["used"] - _SLOT
        if len(self.regions) >= _LAYOUT["MAX_RELAY_REGIONS"]:
            return None
        size = 16 * maps.PAGE  # room for what is added later
        taken = [
            maps.Mapping(region["start"], region["start"] + region["size"], "r-xp", 0, 0, "")
            for region in self.regions
        ]
        start = maps.free_gap_below(
            sorted(self.mappings + taken), module.start, module.end, size
        )
        if start is None:
            return None
        self.regions.append({"start": start, "size": size, "used": _SLOT})
        return start

    def check_breakpoints(self) -> None:
        """Refuses when a breakpoint of the user stands inside bytes that would change."""
        places = inferior.user_breakpoints()
        for patch in self.new + [self.existing[index] for index in self.again]:
            for offset in range(1, patch["length"]):
                number = places.get(patch["address"] + offset)
                if number is not None:
                    name = _text(patch["name"])
                    raise TmError(
                        f"Breakpoint {number} stands inside the first instructions of {name}, "
                        f"which must be redirected: delete it (`delete {number}`) or put it on "
                        f"*{patch['function']:#x}, then try again."
                    )


def _text(name: bytes) -> str:
    return name.split(b"\0", 1)[0].decode("utf-8", "replace")


# ---- into the process --------------------------------------------------------


def map_regions(helper: Helper, plan: Plan, patches: PatchList) -> None:
    """Maps the plan's new relay regions.  Inside quiet_session."""
    for region in plan.regions[plan.first_new_region:]:
        result = helper.call(
            "tm_control_map", region["start"], region["size"], what="map memory for relays"
        )
        if result & (1 << 64) - 1 != region["start"]:
            raise TmError("The process mapped memory for relays elsewhere than asked.")
    patches.regions = plan.regions
    patches.store_regions()


def write_relays(helper: Helper, plan: Plan, patches: PatchList) -> List[int]:
    """Writes relays and the list of patches; no jump yet.  Returns the indexes to activate."""
    first = len(patches.patches)
    if first + len(plan.new) > _LAYOUT["MAX_PATCHES"]:
        raise TmError(f"More than {_LAYOUT['MAX_PATCHES']} functions would have to be redirected.")
    for number, patch in enumerate(plan.new, first):
        # Until the helper chooses another one: helper/route.h.
        entry = _ENTRIES[patch["shape"]]
        before, after = b"", b""
        if patch["keeps_registers"]:
            entry = entry.replace("entry", "keeping")
            before, after = _PUSH_R11, _POP_R11
        patch["entry"] = helper.symbol(entry)
        relay = (
            before
            + b"\x49\xbb" + patches.address_of(number).to_bytes(8, "little")  # movabs $patch, %r11
            + b"\x41\xff\xa3" + _ENTRY.to_bytes(4, "little")  # jmp *entry(%r11)
        )
        code = relay.ljust(_PROLOGUE - len(after), b"\xcc") + after + patch["relocated"]
        inferior.write(patch["relay"], code)
        if inferior.read(patch["relay"], len(code)) != code:
            raise TmError("The relays could not be written into the process.")
        patches.patches.append({key: patch[key] for key in patch if key != "relocated"})
    patches.store(first)
    return list(range(first, len(patches.patches))) + plan.again


def activate(patches: PatchList, indexes: List[int],
             ways: Optional[shortway.Ways] = None) -> None:
    """Writes the jumps, and reads each back.  The list says so before the bytes do.

    ways: of a tracing that samples; where there is one, functions go their short way.
    """
    for index in indexes:
        patch = patches.patches[index]
        patch["active"] = 1
        if patch["length"] and not is_damaged(patch):
            _lead(patch, _write_short_way(patch, ways) if ways else patch["relay"])
    _write_jumps(patches, indexes)


def _write_jumps(patches: PatchList, indexes: List[int]) -> None:
    patches.store(min(indexes, default=len(patches.patches)))
    for index in indexes:
        patch = patches.patches[index]
        written = patch["written"][: patch["length"]]
        inferior.write(patch["address"], written)
        if inferior.read(patch["address"], patch["length"]) != written:
            raise TmError(f"{_text(patch['name'])} could not be redirected.")


def _lead(patch: dict, place: int) -> None:
    patch["checksum"] = 0  # of what was
    distance = place - patch["address"] - _JUMP_BYTES
    patch["written"] = (patch["written"][:1] + distance.to_bytes(4, "little", signed=True)
                        + patch["written"][_JUMP_BYTES:])


def _write_short_way(patch: dict, ways: shortway.Ways) -> int:
    """Returns where it is entered; the relay where there is none."""
    made = shortway.make(patch, ways, _PROLOGUE)
    if made is None:
        return patch["relay"]
    before, code = made
    start = patch["original"] - len(code)
    inferior.write(start, code)
    if inferior.read(start, len(code)) != code:
        raise TmError("The relays could not be written into the process.")
    return start + before


def activate_again(patches: PatchList, indexes: List[int]) -> None:
    """Takes back a restore() that was interrupted."""
    def has_own_bytes(patch: dict) -> bool:
        return inferior.read(patch["address"], patch["length"]) == patch["saved"][:patch["length"]]

    again = [index for index in indexes if has_own_bytes(patches.patches[index])]
    for index in again:
        patches.patches[index]["active"] = 1
    _write_jumps(patches, again)


def restore(patches: PatchList, keep: range = range(0), only: Optional[List[int]] = None) -> int:
    """Puts functions' own bytes back; returns how many allocator functions were redirected.

    keep: addresses of functions that stay redirected (the canaries).  only:
    indexes of the patches to restore; by default all.  Bytes that are neither
    ours nor the function's own are left alone: they are another module's by
    now, or somebody else's, which is told in one line at the end.
    """
    count = 0
    foreign = []
    damaged = [index for index, patch in enumerate(patches.patches) if is_damaged(patch)]
    if damaged:
        raise TmError(
            f"Entry {damaged[0]} of the list of redirected functions was overwritten by the "
            "program: nothing can be restored by it, tracing goes on."
        )
    for index, patch in enumerate(patches.patches):
        if not patch["active"] or patch["function"] in keep:
            continue
        if only is not None and index not in only:
            continue
        length = patch["length"]
        try:
            now = inferior.read(patch["address"], length)
        except inferior.gdb.MemoryError:
            now = b""  # its module has been unloaded
        if now == patch["written"][:length]:
            inferior.write(patch["address"], patch["saved"][:length])
            count += patch["shape"] != _LAYOUT["SHAPE_LOADER"]
        elif now != patch["saved"][:length] and _is_still_there(patch):
            foreign.append(_text(patch["name"]))
            continue
        patch["active"] = 0
    patches.store()
    if foreign:
        raise TmError(
            f"The first bytes of {', '.join(foreign)} were changed by somebody else meanwhile: "
            "they are left as they are."
        )
    return count


def _is_still_there(patch: dict) -> bool:
    """Whether the function that was redirected is at its address, not another module."""
    for file in maps.mapped_files(inferior.memory_map()):
        if file.start <= patch["function"] < file.end:
            found = find_functions(file, (_text(patch["name"]),))
            return any(address == patch["function"] for _, address, _ in found)
    return False


# ---- threads that stand inside -----------------------------------------------


class MovedThread(NamedTuple):
    """A thread or signal frame whose program counter was moved."""

    tid: int  # 0: a signal frame, at `place` in memory
    place: int
    before: int


def move_threads(patches: PatchList, indexes: List[int], mappings) -> List[MovedThread]:
    """Moves what stands strictly inside bytes that will change to the relocated prologue.

    Both the threads themselves and the frames that signals interrupted, whose
    program counter waits on a stack.  Returns what was moved, for undoing.
    """
    targets: Dict[int, int] = {}
    for index in indexes:
        patch = patches.patches[index]
        for point in range(1, patch["points"]):
            inside = patch["address"] + patch["point_from"][point]
            targets[inside] = patch["original"] + patch["point_to"][point]
    moved: List[MovedThread] = []
    with contextlib.ExitStack() as undo:
        undo.callback(undo_moves, moved)
        for state in inferior.thread_states():
            if state.pc in targets:
                inferior.set_register(state.tid, "rip", targets[state.pc])
                moved.append(MovedThread(state.tid, 0, state.pc))
            for place, pc in _interrupted_frames(state.sp, targets, mappings):
                inferior.write(place, targets[pc].to_bytes(8, "little"))
                moved.append(MovedThread(0, place, pc))
        undo.pop_all()
    return moved


def undo_moves(moved: List[MovedThread]) -> None:
    """Puts program counters back where they were."""
    for move in reversed(moved):
        if move.tid:
            inferior.set_register(move.tid, "rip", move.before)
        else:
            inferior.write(move.place, move.before.to_bytes(8, "little"))


def _interrupted_frames(sp: int, targets: Dict[int, int], mappings):
    """(place, pc) of saved program counters on a stack that are in targets.

    A signal frame's struct sigcontext holds rip, then eflags, then cs with the
    user code selector 0x33 (asm/sigcontext.h), which no other data has there.
    """
    end = maps.stack_top(mappings, sp)
    start = (sp + 7) & ~7
    length = min(end - start, 8 << 20) & ~7
    if length <= 0:
        return
    with inferior.fast_reader() as read:
        words = array("Q", read(start, length))
    if targets.keys().isdisjoint(words):
        return
    for position, word in enumerate(words):
        if word in targets and position + 2 < len(words):
            if words[position + 2] & 0xFFFF == 0x33:
                yield start + position * 8, word
