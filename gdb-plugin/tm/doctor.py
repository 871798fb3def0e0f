"""What `tm start` needs, checked one by one, and what to do where it lacks.

Looks only: nothing in the process or in gdb is changed, no function of the
process is called.  A check that needs what an earlier one found missing is
left out.
"""

import os
import re
import sys
from typing import Callable, Dict, List, NamedTuple, Optional

import _tm
import gdb

from . import domains, helper, inferior, maps, patches, process
from .errors import TmError

OK, NOTE, PROBLEM = "ok", "note", "problem"

_OLDEST_GDB = 12
_WIPEONFORK = (4, 14)
# What start maps at least: the image, the relays, and the first tables of a generation.
_FIRST_TABLES = 4 << 20
_ROOM_TO_GROW = 256 << 20


class Check(NamedTuple):
    """One requirement: what was found, and the remedy where something is wrong."""

    name: str
    result: str
    text: str
    remedy: Optional[str] = None

    def __str__(self) -> str:
        remedy = f": {self.remedy}" if self.remedy else ""
        return f"{self.result:<8} {self.name:<12} {self.text}{remedy}."


def examine() -> List[Check]:
    """All the checks that make sense for the selected inferior."""
    checks = [_guard("gdb", _gdb), _guard("extension", _extension), _guard("helper", _helper_file),
              _guard("process", _process)]
    if not inferior.has_process():
        return checks
    checks.append(_guard("architecture", _architecture))
    checks.append(_guard("stopped", _stopped))
    if checks[-1].result == PROBLEM:
        return checks
    mappings: List[maps.Mapping] = []
    checks.append(_guard("memory map", lambda: _memory_map(mappings)))
    checks.append(_guard("caller", _caller))
    if mappings:
        files = list(maps.mapped_files(mappings))
        found: List[patches.Function] = []
        checks.append(_guard("allocators", lambda: _allocators(files, found)))
        if checks[-1].result == OK:
            plan = patches.Plan(mappings, _patch_list())
            checks.append(_guard("redirection", lambda: _redirection(plan, found)))
            checks.append(_guard("breakpoints", lambda: _breakpoints(plan)))
    checks += [_guard("memory limit", _memory_limit), _guard("kernel", _kernel),
               _guard("symbols", _symbols), _guard("tracing", _tracing)]
    return checks


def _guard(name: str, check: Callable) -> Check:
    """What a check finds; a refusal is its finding too."""
    try:
        result, text, *remedy = check()
    except (TmError, _tm.Error) as error:
        result, text, remedy = PROBLEM, str(error).rstrip("."), []
    return Check(name, result, text, *remedy)


# ---- the debugger ------------------------------------------------------------


def _gdb() -> tuple:
    text = f"{gdb.VERSION} with Python {sys.version_info[0]}.{sys.version_info[1]}"
    major = gdb.VERSION.split(".")[0]
    if major.isdigit() and int(major) < _OLDEST_GDB:
        return PROBLEM, text, f"use gdb {_OLDEST_GDB} or newer"
    return OK, text


def _extension() -> tuple:
    return OK, os.path.abspath(_tm.__file__)


def _helper_file() -> tuple:
    image = helper.Helper.image()
    return OK, f"{helper.image_path()}, {_kib(image['size'])}"


def _process() -> tuple:
    target = gdb.selected_inferior()
    if inferior.is_core():
        return PROBLEM, "a core file", "it can be read, but only a live process can be traced"
    if target.pid == 0:
        return PROBLEM, "there is none", "`run` the program, or `attach` to a process"
    how = "under gdbserver" if inferior.is_remote() else "traced by this gdb"
    return OK, f"{target.pid}, {how}"


def _architecture() -> tuple:
    inferior.require_architecture()
    return OK, gdb.selected_inferior().architecture().name()


def _stopped() -> tuple:
    threads = gdb.selected_inferior().threads()
    running = [thread.num for thread in threads if thread.is_running()]
    if running:
        return (PROBLEM, f"{_count(len(running), 'thread')} of {len(threads)} running",
                "stop them with `interrupt -a` or Ctrl-C")
    return OK, f"{_count(len(threads), 'thread')}, all stopped"


# ---- the process -------------------------------------------------------------


def _memory_map(mappings: List[maps.Mapping]) -> tuple:
    mappings += inferior.memory_map()
    return OK, f"{_count(len(mappings), 'mapping')}"


def _caller() -> tuple:
    inferior.refuse_strict_seccomp()
    thread = inferior.choose_caller()
    return OK, f"thread {thread.num} can call functions"


def _patch_list() -> Optional[patches.PatchList]:
    try:
        found = process.find_helper()
    except TmError:
        return None  # the check of an earlier helper tells
    return patches.PatchList(found) if found is not None else None


def _allocators(files: List[maps.MappedFile], found: List[patches.Function]) -> tuple:
    found += domains.all_functions(files)
    counts: Dict[str, int] = {}
    for function in found:
        if function.shape.shape != "SHAPE_LOADER":
            name = os.path.basename(function.module.path)
            counts[name] = counts.get(name, 0) + 1
    if not counts:
        return (PROBLEM, "none in the program or its libraries",
                "let it run until its libraries are loaded, or name its own functions with "
                "`tm domain add`")
    return OK, ", ".join(f"{_count(count, 'function')} in {name}"
                         for name, count in counts.items())


def _redirection(plan: patches.Plan, functions: List[patches.Function]) -> tuple:
    for function in functions:
        plan.add(function)
    regions = plan.regions[plan.first_new_region:]
    own = [function for function in functions if function.shape.shape != "SHAPE_LOADER"]
    names = [line.split(":")[0] for line in plan.refused]
    text = _count(sum(function.name not in names for function in own), "function")
    if regions:
        places = ", ".join(f"{region['start']:#x}" for region in regions)
        text += f", relays at {places}"
    if not plan.refused:
        return OK, text
    result = NOTE if plan.new or plan.again or len(plan.refused) < len(functions) else PROBLEM
    return (result, f"{text}; not {'; '.join(plan.refused)}",
            "their blocks are traced where they call another one" if result == NOTE else
            "the program cannot be traced")


def _breakpoints(plan: patches.Plan) -> tuple:
    plan.check_breakpoints()
    return OK, "none inside bytes that must change"


_LIMIT = re.compile(r"^Max address space\s+(\S+)", re.MULTILINE)
_SIZE = re.compile(r"^VmSize:\s+(\d+) kB", re.MULTILINE)


def _memory_limit() -> tuple:
    pid = gdb.selected_inferior().pid
    limit = _LIMIT.search(inferior.target_file(f"/proc/{pid}/limits").decode())
    size = _SIZE.search(inferior.target_file(f"/proc/{pid}/status").decode("utf-8", "replace"))
    if limit is None or size is None or limit.group(1) == "unlimited":
        return OK, "the address space is unlimited"
    left = int(limit.group(1)) - int(size.group(1)) * 1024
    need = helper.Helper.image()["size"] + _FIRST_TABLES
    text = f"{_kib(max(left, 0))} of address space left of {_kib(int(limit.group(1)))}"
    remedy = f"raise it, with `shell prlimit --pid {pid} --as=unlimited`"
    if left < need:
        return PROBLEM, f"{text}, {_kib(need)} needed", remedy
    if left < _ROOM_TO_GROW:
        return NOTE, f"{text}, records are dropped when it is used up", remedy
    return OK, text


def _kernel() -> tuple:
    release = inferior.target_file("/proc/sys/kernel/osrelease").decode().strip()
    numbers = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    if numbers < _WIPEONFORK:
        return (NOTE, f"Linux {release} has no MADV_WIPEONFORK",
                "a child of fork may lose records, and counts them; 4.14 has it")
    return OK, f"Linux {release}"


def _symbols() -> tuple:
    program = gdb.current_progspace().filename
    if program is None:
        return NOTE, "gdb has no program file", "name it with `file PROGRAM`"
    name = os.path.basename(program)
    main = gdb.lookup_global_symbol("main") or gdb.lookup_static_symbol("main")
    if main is None:
        return (NOTE, f"{name} has no debug information for its main function",
                "compile it with -g, or install its debug package, to see lines")
    return OK, f"{name} has debug information"


def _tracing() -> tuple:
    found = process.find_helper()
    if found is None:
        return OK, "no helper in the process yet"
    place = f"at {found.header['image_start']:#x}, layout version {found.header['version']}"
    found.symbol("tm_control_start")  # refuses a helper of another build
    if found.is_tracing:
        return NOTE, f"the process is being traced already, helper {place}", "`tm stop` comes first"
    return OK, f"an idle helper {place}, will be used again"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _kib(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 10 << 20 else f"{size >> 10} KiB"
