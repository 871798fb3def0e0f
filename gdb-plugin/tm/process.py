"""Tracing of the selected process: what the commands and the Python API stand on.

Each function works on gdb's selected inferior and raises TmError with one
clear line.  `start` goes by the order of injection: look at everything, plan
everything, only then touch the process; whatever fails is rolled back.
"""

import contextlib
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import _tm

from . import (domains, frames, helper, inferior, inject, launch, maps, model, objects, patches,
               progress, restarts, sampling, threadwords)
from .errors import TmError
from .sampling import EVERYTHING, Sampling

MAX_FRAMES = _tm.layout["MAX_FRAMES"]


class StartReport(NamedTuple):
    """What `tm start` tells."""

    limit: int
    functions: int
    modules: int
    helper_address: int
    milliseconds: int
    warnings: List[str]
    sampling: Sampling = EVERYTHING

    def __str__(self) -> str:
        return (
            f"Tracing {_count(self.limit, 'frame')}{self.sampling.aside}: "
            f"{_count(self.functions, 'function')} in "
            f"{_count(self.modules, 'module')} redirected, helper at {self.helper_address:#x} "
            f"({self.milliseconds} ms)."
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class StopReport(NamedTuple):
    """What `tm stop` tells."""

    functions: int


has_process = inferior.has_process


class _Known(NamedTuple):
    """What was seen last in an inferior."""

    pid: int
    address: int  # of the header
    limit: int  # frames, while tracing; 0: idle
    sampling: Sampling


_known: Dict[int, _Known] = {}  # by the inferior's number


def _remember(found: helper.Helper, limit: int, chosen: Sampling = EVERYTHING) -> None:
    target = inferior.selected()
    _known[target.num] = _Known(target.pid, found.address, limit, chosen)


def _has_helper(known: _Known) -> bool:
    with inferior.fast_reader() as read:
        try:
            return int.from_bytes(read(known.address, 8), "little") == _tm.layout["MAGIC"]
        except inferior.gdb.MemoryError:
            return False


def find_helper() -> Optional[helper.Helper]:
    """The helper of the selected process or core, if there is one."""
    target = inferior.selected()
    known = _known.get(target.num)
    if known is not None:
        if known.pid == target.pid and _has_helper(known):
            return helper.Helper(known.address)
        forget_process(target.num)
    found = helper.find()
    if found is not None:
        generation = _read_generation(found) if found.is_tracing else {"limit": 0}
        _remember(found, generation["limit"], _sampling_of(generation))
        # Somebody else's: gdb can walk through its frames only when it knows them.
        if found.is_of_this_build():
            frames.add_helper_symbols(found.header["image_start"])
    return found


def _tracing_helper() -> helper.Helper:
    found = find_helper()
    if found is None or not found.is_tracing:
        raise TmError(f"{why_not_traced()}.")
    return found


def why_not_traced() -> str:
    """What to say when there are no traces to read, without the full stop."""
    if not inferior.is_core():
        return "The process is not being traced: use \"tm start\" first"
    if find_helper() is not None:
        return "This core has no trace table: tracing had been stopped when it was written"
    return ("This core has no trace table: the process was not being traced, or the core was "
            "written without its anonymous memory")


def forget_process(number: int) -> None:
    """The process of the inferior with this number has gone, or became another program."""
    _known.pop(number, None)


def may_be_traced() -> bool:
    """False when a look at the process would certainly find nothing.  Costs nothing."""
    return inferior.gdb.selected_inferior().num in _known


def lost_to_exec() -> Optional[Tuple[int, Sampling]]:
    """Limit and sampling of a tracing that went when the process became another program."""
    target = inferior.gdb.selected_inferior()
    known = _known.get(target.num)
    if known is None or known.pid != target.pid or _has_helper(known):
        return None
    forget_process(target.num)
    return (known.limit, known.sampling) if known.limit else None


def start_again(limit: int, chosen: Sampling) -> None:
    """Lets the program that an exec just put in the process be traced like a new one."""
    launch.rearm(limit, chosen, start)


def is_tracing() -> bool:
    """True when the selected process is traced, by whomever, or left a core with traces."""
    if inferior.gdb.selected_inferior().pid == 0:
        return False
    found = find_helper()
    return found is not None and found.is_tracing


def needs_repair() -> bool:
    """True when a debugger died in the middle of `start`: redirected, but not traced."""
    found = find_helper() if has_process() else None
    if found is None or found.is_tracing:
        return False
    return bool(patches.PatchList(found).redirected())


# ---- start -------------------------------------------------------------------


def check_choice(limit: int, chosen: Sampling) -> None:
    """Refuses what the helper would."""
    if not 1 <= limit <= MAX_FRAMES:
        raise TmError(f"NFRAME must be from 1 to {MAX_FRAMES}, not {limit}.")
    sampling.check(chosen)


def start(limit: int, chosen: Sampling = EVERYTHING, is_launch: bool = False) -> StartReport:
    """Starts tracing with tracebacks of at most limit frames (1 to 1000).

    is_launch: gdb itself has stopped the new process, for a breakpoint's
    condition, in the middle of which breakpoints must not be set anew.
    """
    begun = time.monotonic()
    check_choice(limit, chosen)
    if not is_launch:
        inferior.require_stopped()
    inferior.require_architecture()
    inferior.refuse_strict_seccomp()
    helper.Helper.image()
    found = find_helper()
    if found is not None and found.is_tracing:
        generation = _read_generation(found)
        raise TmError(
            f"Already tracing, with a limit of {_count(generation['limit'], 'frame')}: "
            "\"tm stop\" comes first."
        )
    mappings = inferior.memory_map()
    files = list(maps.mapped_files(mappings))
    functions = domains.all_functions(files)
    if not any(function.shape.shape != "SHAPE_LOADER" for function in functions):
        raise TmError(
            "No allocator function was found in the program or its libraries: one that was linked "
            "statically and stripped has no names to find it by."
        )
    caller = inferior.choose_caller()
    with inferior.quiet_session():
        restarts.restart_system_calls()
        caller.switch()
        plan = inject.plan_all(functions, mappings, found)
        started = inject.Injection(found, files, functions)
        with contextlib.ExitStack() as undo:
            undo.callback(started.roll_back)
            started.start(limit, chosen)
            undo.pop_all()
        if not is_launch:
            frames.add_helper_symbols(started.helper.header["image_start"])
    _remember(started.helper, limit, chosen)
    redirected = started.patches.redirected()
    return StartReport(
        limit,
        len(redirected),
        len({patch["module"] for patch in redirected}),
        started.helper.header["image_start"],
        round((time.monotonic() - begun) * 1000),
        [f"Not redirected: {line}." for line in plan.refused],
        chosen,
    )


def arm(limit: int, chosen: Sampling = EVERYTHING) -> str:
    """No process yet: the next `run` is traced from before the first constructor."""
    check_choice(limit, chosen)
    helper.Helper.image()
    return launch.arm(limit, chosen, start)


def redirect_more(functions: List[patches.Function]) -> None:
    """While tracing: redirects further functions, of a new domain or a new module."""
    inferior.require_stopped()
    found = _tracing_helper()
    mappings = inferior.memory_map()
    caller = inferior.choose_caller()
    with inferior.quiet_session():
        caller.switch()
        plan = inject.plan_all(functions, mappings, found)
        if plan.refused:
            raise TmError(f"Not redirected: {plan.refused[0]}.")
        added = inject.Injection(found, list(maps.mapped_files(mappings)), functions)
        with contextlib.ExitStack() as undo:
            undo.callback(added.undo_added)
            added.add()
            found.call("tm_control_route", what="lead the functions to their stubs")
            undo.pop_all()


# ---- stop, clear, peak -------------------------------------------------------


def stop() -> StopReport:
    """Restores every patched byte and forgets the traces."""
    if not has_process() and launch.disarm():
        return StopReport(0)
    inferior.require_stopped()
    found = find_helper() if needs_repair() else _tracing_helper()
    caller = inferior.choose_caller()
    with inferior.quiet_session():
        restarts.restart_system_calls()
        caller.switch()
        objects.be_quiet_where_filtered(found)
        own = range(found.header["image_start"], found.header["image_end"])
        listed = patches.PatchList(found)
        active = [i for i, patch in enumerate(listed.patches) if patch["active"]]
        try:
            count = patches.restore(listed, keep=own)
            threadwords.wipe(found)
            found.call("tm_control_stop", what="stop tracing")
        except KeyboardInterrupt:
            if found.read_header()["state"] == _tm.layout["STATE_TRACING"]:
                patches.activate_again(listed, active)
            raise
    _remember(found, 0)
    return StopReport(count)


def clear() -> None:
    """Forgets the traces, keeps tracing."""
    _control("tm_control_clear", "clear the traces")


def reset_peak() -> None:
    """Sets the peak to the current traced size."""
    _control("tm_control_reset_peak", "reset the peak")


def _control(name: str, what: str) -> None:
    inferior.require_stopped()
    found = _tracing_helper()
    caller = inferior.choose_caller()
    with inferior.quiet_session():
        restarts.restart_system_calls()
        caller.switch()
        objects.be_quiet_where_filtered(found)
        found.call(name, what=what)


# ---- reading -----------------------------------------------------------------


def _read_generation(found: helper.Helper) -> dict:
    size = _tm.layout["sizeof"]["tm_generation"]
    return _tm.decode("tm_generation", inferior.read(found.header["generation"], size))


def _sampling_of(generation: dict) -> Sampling:
    return Sampling(generation.get("sample_period", 0), generation.get("min_size", 0))


def status() -> dict:
    """The keys of the JSON document of `tm status`, and start_time, helper_address, pid, armed,
    sampling (of what is armed, too)."""
    armed = launch.armed()
    result = {
        "tracing": False,
        "traceback_limit": None,
        "current": 0,
        "peak": 0,
        "blocks": 0,
        "tracebacks": 0,
        "helper_memory": 0,
        "dropped": 0,
        "untracked_frees": 0,
        "redirected": [],
        "start_time": None,
        "helper_address": None,
        "pid": None,
        "armed": armed[0] if armed else None,
        "sampling": armed[1] if armed else EVERYTHING,
        "sample_period": 0,
        "min_size": 0,
        "recorded": 0,
        "size_error": 0,
        "count_error": 0,
    }
    if inferior.gdb.selected_inferior().pid == 0:
        return result
    result["pid"] = inferior.gdb.selected_inferior().pid
    found = find_helper()
    if found is None:
        return result
    with inferior.fast_reader() as read:
        counters = _tm.counters(read, found.address)
    result["helper_address"] = found.header["image_start"]
    result["helper_memory"] = counters["helper_memory"]
    if not found.is_tracing:
        return result
    result.update(
        {key: counters[key] for key in counters if key in result}, tracing=True,
        traceback_limit=counters["limit"], sampling=_sampling_of(counters),
    )
    if result["sampling"] != EVERYTHING:
        result["untracked_frees"] = None
    paths = _module_paths(found)
    result["redirected"] = [
        {
            "module": paths.get(patch["module"]),
            "function": patch["name"].split(b"\0", 1)[0].decode("utf-8", "replace"),
            "address": f"{patch['function']:#x}",
            "domain": patch["domain"],
        }
        for patch in patches.PatchList(found).redirected()
    ]
    return result


def _module_paths(found: helper.Helper) -> Dict[int, str]:
    """Start of each object -> its path."""
    if inferior.is_core():
        return {
            module.start: module.path
            for module in frames.modules_of_process(found.header["modules"])
        }
    return {file.start: file.path for file in maps.mapped_files(inferior.memory_map())}


def take_snapshot() -> model.Snapshot:
    """A snapshot of the traced process (or of the core of one)."""
    return read_snapshot()()


def read_snapshot() -> Callable[[], model.Snapshot]:
    """Reads the traces of the stopped process (or core) now, and looks up names later.

    What it returns makes the snapshot; the process may run while it does.
    """
    found = _tracing_helper()
    with inferior.fast_reader() as read:
        image = _tm.snapshot(progress.reader("Reading the traces", read), found.address)
    resolve = frames.resolver(image)
    pid = inferior.selected().pid
    origin = "core" if inferior.is_core() else f"live {pid}"

    def make() -> model.Snapshot:
        snapshot = model.Snapshot.from_image(image, resolve)
        snapshot.origin = origin
        return snapshot

    return make


def find_block(address: int) -> Optional[model.Block]:
    """The traced block that holds address, with the traceback that allocated it."""
    found = _tracing_helper()
    with inferior.fast_reader() as read:
        block = _tm.find_block(read, found.address, address)
    if block is None:
        return None
    start_, size, domain, addresses, truncated = block
    return frames.block(start_, size, domain, addresses, truncated, found.header)
