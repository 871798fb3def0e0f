"""Access to the stopped process: memory, threads, calls, the user's settings.

The one file that knows how gdb and /proc are asked.  It must leave the session
as it found it: settings, selected thread and frame.
"""

import contextlib
import os
import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import _tm
import gdb

from . import calls, cores, maps, remote, undoing
from .errors import TmError

SIGTRAP_BIT = 1 << (5 - 1)
SIGSEGV_BIT = 1 << (11 - 1)

# What a session's settings must be while functions of the process are called.
_QUIET_SETTINGS = (
    ("confirm", "off"),
    ("pagination", "off"),
    ("language", "c"),
    ("print thread-events", "off"),
    ("unwindonsignal", "on"),
    ("scheduler-locking", "on"),
)


class ThreadState(NamedTuple):
    """A thread of the process, as the kernel tells."""

    tid: int
    pc: int
    sp: int
    system_call: int  # the kernel's number of the call it is in or returns from; -1: none


def selected() -> gdb.Inferior:
    """The selected inferior, which must have a process."""
    inferior = gdb.selected_inferior()
    if not inferior.is_valid() or inferior.pid == 0:
        raise TmError("The program is not being run: run it, attach to it, or open a core file.")
    return inferior


def has_process() -> bool:
    """True when the selected inferior is a live process (not a core file)."""
    return gdb.selected_inferior().pid != 0 and not is_core()


def is_core() -> bool:
    """True when the selected inferior is a core file."""
    connection = getattr(gdb.selected_inferior(), "connection", None)
    return connection is not None and connection.type == "core"


def is_remote() -> bool:
    """True when the process is reached through gdbserver."""
    connection = getattr(gdb.selected_inferior(), "connection", None)
    return connection is not None and "remote" in connection.type


def require_stopped() -> gdb.Inferior:
    """The selected inferior, a live process with every thread stopped."""
    inferior = selected()
    if is_core():
        raise TmError("This is a core file: tracing needs a live process.")
    if any(thread.is_running() for thread in inferior.threads()):
        raise TmError("The program is running: stop it first (Ctrl-C, or `interrupt`).")
    if gdb.selected_thread() is None:
        raise TmError("No thread is selected: choose one with `thread 1`.")
    return inferior


def require_architecture() -> None:
    """Refuses what the helper is not built for."""
    name = gdb.selected_inferior().architecture().name()
    if name != "i386:x86-64":
        raise TmError(f"tm traces x86-64 processes; this one is {name}.")


@contextlib.contextmanager
def quiet_session() -> Iterator[None]:
    """Settings for calls into the process; the user's come back whatever happens."""
    with undoing.undone() as undo:
        with undoing.interrupts_held():
            undo.callback(_end_calls)
            for name, value in _QUIET_SETTINGS:
                _set_for_now(name, value, undo)
            if gdb.selected_thread() is not None:
                undo.callback(_select, gdb.selected_thread(), gdb.selected_frame().level())
        yield


def _set_for_now(name: str, value: str, undo: contextlib.ExitStack) -> None:
    before = gdb.parameter(name)
    if isinstance(before, bool):
        before = "on" if before else "off"
    if before != value:
        undo.callback(gdb.execute, f"set {name} {before}", to_string=True)
        gdb.execute(f"set {name} {value}", to_string=True)


def _end_calls() -> None:
    global _area
    _area = None
    if is_remote():
        remote.let_go_of_signal()


def _select(thread: gdb.InferiorThread, level: int) -> None:
    if thread.is_valid():
        thread.switch()
        _select_frame(level)


def _select_frame(level: int) -> None:
    frame = gdb.newest_frame()
    while frame is not None and frame.level() < level:
        frame = frame.older()
    if frame is not None:
        frame.select()


# ---- memory ------------------------------------------------------------------


def read(address: int, length: int) -> bytes:
    """Bytes of the process, breakpoints not shown; gdb.MemoryError where there are none."""
    if length == 0:  # which newer gdbs refuse
        return b""
    return bytes(gdb.selected_inferior().read_memory(address, length))


def write(address: int, data: bytes) -> None:
    """Writes to the process; protection does not matter."""
    gdb.selected_inferior().write_memory(address, data)


@contextlib.contextmanager
def fast_reader() -> Iterator:
    """A read(address, length) for many reads of data: the kernel's own file where possible."""
    path = f"/proc/{gdb.selected_inferior().pid}/mem"
    if is_core() or is_remote() or not os.access(path, os.R_OK):
        yield read
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise TmError(f"The memory of the process cannot be read: {error.strerror}.") from error

    def read_directly(address: int, length: int) -> bytes:
        try:
            data = os.pread(descriptor, length, address)
        except (OSError, OverflowError):
            data = b""
        if len(data) != length:
            raise gdb.MemoryError(f"Cannot access memory at address {address:#x}")
        return data

    try:
        yield read_directly
    finally:
        os.close(descriptor)


def target_file(path: str) -> bytes:
    """The contents of a file as the target sees it (/proc of a process under gdbserver too)."""
    if not is_remote():
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise TmError(f"Cannot read {path}: {error.strerror}.") from error
    return remote.read_file(path)


def memory_map() -> List[maps.Mapping]:
    """The mappings of the process (or what a core holds of them), lowest first."""
    if is_core():
        return cores.memory_map()
    pid = gdb.selected_inferior().pid
    return maps.parse(target_file(f"/proc/{pid}/maps").decode("utf-8", "surrogateescape"))


def entry_point() -> int:
    """The program's entry point at run time (AT_ENTRY of the auxiliary vector)."""
    vector = target_file(f"/proc/{gdb.selected_inferior().pid}/auxv")
    for offset in range(0, len(vector) - 15, 16):
        kind = int.from_bytes(vector[offset:offset + 8], "little")
        if kind == 9:
            return int.from_bytes(vector[offset + 8:offset + 16], "little")
    raise TmError("The process has no entry point in its auxiliary vector.")


def object_file(path: str) -> str:
    """Where the debugger can read a file that the process has mapped."""
    if is_remote():
        return remote.object_file(path, gdb.selected_inferior().pid, memory_map, read)
    pid = gdb.selected_inferior().pid
    for place in (f"/proc/{pid}/root{path}", path):
        if os.path.exists(place):
            return place
    place = mapped_files().get(path)
    return place if place and os.access(place, os.R_OK) else path


def mapped_files() -> Dict[str, str]:
    """Path -> what is mapped, whatever the name leads to by now (proc(5); root may open it)."""
    if not has_process() or is_remote():
        return {}
    folder = f"/proc/{gdb.selected_inferior().pid}/map_files"
    return {mapping.path: f"{folder}/{mapping.start:x}-{mapping.end:x}"
            for mapping in reversed(memory_map()) if mapping.inode}


# ---- threads -----------------------------------------------------------------


def task_status(pid: int, tid: int) -> Dict[str, str]:
    """What the kernel tells of a thread: the lines of its status file (proc(5)) by name."""
    text = target_file(f"/proc/{pid}/task/{tid}/status").decode("utf-8", "replace")
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def choose_caller() -> gdb.InferiorThread:
    """The thread that is made to call functions; the selected one where it can.

    A thread under seccomp may not map memory.  A call that gdb makes itself
    returns through SIGSEGV (its dummy frame is on a stack that is not
    executable), so there neither SIGSEGV nor SIGTRAP may be blocked or
    ignored: the kernel would reset the program's handler.
    """
    inferior = gdb.selected_inferior()
    threads = [thread for thread in inferior.threads() if thread.is_valid()]
    current = gdb.selected_thread()
    threads.sort(key=lambda thread: thread.num != current.num)
    reasons, second_best = [], None
    has_room = _is_native() and _spare_code() is not None
    for thread in threads:
        tid = thread.ptid[1] or inferior.pid
        status = task_status(inferior.pid, tid)
        outlives = has_room and _calls_outlive(tid, status)
        reason = _why_not(tid, status, outlives)
        if reason is not None:
            reasons.append(reason)
        elif outlives:
            return thread
        else:
            second_best = second_best or thread
    if second_best is not None:
        return second_best
    raise TmError(
        f"No thread of the program can be made to call a function "
        f"({reasons[0] if reasons else 'it has none'}): let it run on a little and try again."
    )


def _why_not(tid: int, status: Dict[str, str], outlives: bool) -> Optional[str]:
    """Why a thread cannot be made to call functions; None when it can."""
    if status.get("Seccomp", "0").strip() == "1":
        return "strict seccomp forbids it to map memory"
    if _is_native() and calls.is_in_system_call(tid):
        return "it is in the middle of a system call"
    if outlives:
        return None
    hidden = int(status.get("SigBlk", "0"), 16) | int(status.get("SigIgn", "0"), 16)
    if hidden & SIGSEGV_BIT:
        return "SIGSEGV is blocked or ignored"
    if hidden & SIGTRAP_BIT:
        return "SIGTRAP is blocked or ignored"
    return None


def _is_native() -> bool:
    """True when this gdb traces the process itself, with ptrace(2)."""
    connection = getattr(gdb.selected_inferior(), "connection", None)
    return connection is not None and connection.type == "native"


def _calls_outlive(tid: int, status: Dict[str, str]) -> bool:
    """True when a thread can make calls that outlive this gdb; a filter may forbid them."""
    unfiltered = status.get("Seccomp", "0").strip() == "0"
    return unfiltered and calls.may_signal(gdb.selected_inferior().pid, tid)


def _seccomp_modes() -> List[str]:
    """Of each thread: 0 none, 1 strict, 2 a filter (seccomp(2))."""
    pid = gdb.selected_inferior().pid
    modes = []
    for thread in gdb.selected_inferior().threads():
        if thread.is_valid():
            status = target_file(f"/proc/{pid}/task/{thread.ptid[1] or pid}/status")
            mode = status.partition(b"\nSeccomp:\t")[2][:1].decode("ascii")
            modes.append(mode or "0")
    return modes


def is_filtered() -> bool:
    """True when a system call may get a thread of the program killed."""
    return any(mode != "0" for mode in _seccomp_modes())


def refuse_strict_seccomp() -> None:
    """A thread that may only read and write cannot keep records either."""
    if "1" in _seccomp_modes():
        raise TmError(
            "A thread of the program is under strict seccomp, which forbids it to map memory: "
            "the program can only be traced up to there."
        )


def has_shadow_stack() -> bool:
    """True when the processor checks the program's return addresses against its own copy."""
    pid = gdb.selected_inferior().pid
    return "shstk" in task_status(pid, pid).get("x86_Thread_features", "").split()


def thread_states() -> List[ThreadState]:
    """Where every thread stands.  Cheap natively: /proc/PID/task/TID/syscall (proc(5))."""
    inferior = gdb.selected_inferior()
    states = []
    for thread in inferior.threads():
        tid = thread.ptid[1] or inferior.pid
        state = None if is_remote() else _state_from_proc(inferior.pid, tid)
        states.append(state or _state_from_gdb(thread, tid))
    return states


def _state_from_proc(pid: int, tid: int) -> Optional[ThreadState]:
    try:
        with open(f"/proc/{pid}/task/{tid}/syscall", encoding="ascii") as file:
            fields = file.read().split()
    except OSError:
        return None
    if len(fields) < 3:
        return None
    return ThreadState(tid, int(fields[-1], 16), int(fields[-2], 16), int(fields[0]))


def _state_from_gdb(thread: gdb.InferiorThread, tid: int) -> ThreadState:
    current = gdb.selected_thread()
    thread.switch()
    try:
        frame = gdb.newest_frame()
        mask = (1 << 64) - 1
        try:
            system_call = int(frame.read_register("orig_rax"))
        except ValueError:
            system_call = -1  # a target that does not tell
        return ThreadState(tid, int(frame.read_register("rip")) & mask,
                           int(frame.read_register("rsp")) & mask, system_call)
    finally:
        if current is not None:
            current.switch()


def call_chains(depth: int) -> Iterator[Tuple[int, List[int]]]:
    """Each thread, and where it stands and will come back to, as gdb unwinds its inner frames.

    Inside quiet_session.
    """
    current = gdb.selected_thread()
    inferior = gdb.selected_inferior()
    try:
        for thread in inferior.threads():
            thread.switch()
            chain: List[int] = []
            with contextlib.suppress(gdb.error):  # a broken stack ends here
                frame = gdb.newest_frame()
                while frame is not None and len(chain) < depth:
                    chain.append(frame.pc() - bool(chain))
                    frame = frame.older()
            yield thread.ptid[1] or inferior.pid, chain
    finally:
        current.switch()


def set_register(tid: int, name: str, value: int) -> None:
    """Changes a register of a thread's innermost frame.  Inside quiet_session."""
    with thread_selected(tid):
        gdb.execute(f"set var ${name} = {value}", to_string=True)


def has_thread_pointer() -> bool:
    """Whether the program has set one: it has not at the entry point of a static program."""
    return int(gdb.newest_frame().read_register("fs_base")) != 0


def thread_pointers() -> List[int]:
    """Every thread's; 0 where it has none or the target does not tell.  Inside quiet_session."""
    current = gdb.selected_thread()
    pointers = []
    try:
        for thread in gdb.selected_inferior().threads():
            thread.switch()
            try:
                pointers.append(int(gdb.parse_and_eval("$fs_base")) & (1 << 64) - 1)
            except gdb.error:  # void: there is no such register
                pointers.append(0)
    finally:
        current.switch()
    return pointers


@contextlib.contextmanager
def with_thread_pointer(place: int) -> Iterator[None]:
    """While the program has set no thread pointer yet, lets it be the address `place`.

    The first word there must be its own address, as in every thread control
    block (tls.pdf, 3.4.6).
    """
    if has_thread_pointer():
        yield
        return
    gdb.newest_frame().select()
    before = read(place, 8)
    write(place, place.to_bytes(8, "little"))
    gdb.execute(f"set var $fs_base = {place}", to_string=True)
    try:
        yield
    finally:
        gdb.execute("set var $fs_base = 0", to_string=True)
        write(place, before)


@contextlib.contextmanager
def thread_selected(tid: int) -> Iterator[gdb.Frame]:
    """The thread's innermost frame, selected; inside quiet_session."""
    current = gdb.selected_thread()
    pid = gdb.selected_inferior().pid
    for thread in gdb.selected_inferior().threads():
        if (thread.ptid[1] or pid) == tid:
            thread.switch()
            frame = gdb.newest_frame()
            frame.select()
            try:
                yield frame
            finally:
                current.switch()
            return
    raise TmError(f"Thread {tid} has gone.")


# ---- calls -------------------------------------------------------------------


def call(address: int, *arguments: int) -> int:
    """Calls a function of the process with integer arguments; inside quiet_session.

    Returns its result as a signed 64-bit number.
    """
    caller = _caller()
    if caller is not None:
        return _signed(caller.call(address, *arguments))
    types = ", ".join("unsigned long" for _ in arguments) or "void"
    values = ", ".join(f"{argument & (1 << 64) - 1:#x}UL" for argument in arguments)
    return int(gdb.parse_and_eval(f"((long (*)({types})) {address:#x})({values})"))


def system_call(number: int, *arguments: int) -> Optional[int]:
    """Makes a system call in the process; inside quiet_session.

    None where that takes code of the process.
    """
    caller = _caller()
    return None if caller is None else _signed(caller.system_call(number, *arguments))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _caller() -> Optional[calls.Caller]:
    """The selected thread as one whose calls outlive this gdb, where that can be."""
    pid = gdb.selected_inferior().pid
    tid = gdb.selected_thread().ptid[1] or pid
    if not _is_native():
        return None
    status = task_status(pid, tid)
    if not _calls_outlive(tid, status):
        return None
    global _area
    _area = _area or _spare_code()
    if _area is None:
        return None
    used = int(status.get("SigBlk", "0"), 16) | int(status.get("SigCgt", "0"), 16)
    return calls.Caller(pid, tid, *_area, ~used, write)


# Where calls put their code; the same as long as every thread stays stopped, so found once in a
# quiet_session.
_area: Optional[Tuple[int, bytes]] = None


def _spare_code() -> Optional[Tuple[int, bytes]]:
    """Room for calls.SIZE bytes of code that nothing uses, and the bytes that are there.

    It is what lies behind an object's code in its last page, the kernel's own too.
    """
    standing = [state.pc for state in thread_states()]
    for mapping in memory_map():
        if "x" not in mapping.permissions or "p" not in mapping.permissions:
            continue
        for start, spare in _ends_of_code(mapping):
            now = read(start, calls.SIZE)
            # A debugger that was killed may have left its code there, even a thread in it.
            if now != spare and not calls.is_code(now):
                continue
            if not any(start <= pc < start + calls.SIZE for pc in standing):
                return start, spare
    return None


def _ends_of_code(mapping: maps.Mapping) -> Iterator[Tuple[int, bytes]]:
    """Where there may be room behind code, and what the file has there."""
    if mapping.path == "[vdso]":  # padded with zeros to whole pages
        yield (mapping.end - calls.SIZE) & ~15, bytes(calls.SIZE)
    if not mapping.inode:
        return
    path = object_file(mapping.path)
    for offset in _ends_in_file(path):
        start = (mapping.start + offset - mapping.offset + 15) & ~15
        if mapping.start <= start <= mapping.end - calls.SIZE:
            with open(path, "rb") as file:
                file.seek(start - mapping.start + mapping.offset)
                yield start, file.read(calls.SIZE).ljust(calls.SIZE, b"\0")


_ends: Dict[str, List[int]] = {}


def _ends_in_file(path: str) -> List[int]:
    """Where in an object's file its executable segments end."""
    try:
        stat = os.stat(path)
        key = f"{path} {stat.st_ino} {stat.st_mtime_ns}"
        if key not in _ends:
            _ends[key] = [
                offset + filesz
                for kind, _, offset, filesz, memsz, flags in _tm.elf_segments(path)["segments"]
                if kind == 1 and flags & 1 and filesz == memsz
            ]
        return _ends[key]
    except (OSError, _tm.Error):
        return []


_ERRNO = {1: "operation not permitted", 12: "out of memory", 17: "address in use"}


def check(result: int, what: str) -> int:
    """A result that is not a negative errno; else the clear line."""
    if -4095 <= result < 0:
        reason = _ERRNO.get(-result) or os.strerror(-result)
        raise TmError(f"The process could not {what}: {reason}.")
    return result


def user_breakpoints() -> Dict[int, int]:
    """Address -> number of the user's breakpoints that stand in the process."""
    places: Dict[int, int] = {}
    for breakpoint in gdb.breakpoints() or ():
        if hasattr(breakpoint, "locations"):
            try:
                locations = breakpoint.locations or ()
            except RuntimeError:
                continue
            for location in locations:
                if location.address is not None:
                    places[location.address] = breakpoint.number
    if not places and not hasattr(gdb.Breakpoint, "locations"):
        listing = gdb.execute("info breakpoints", to_string=True)
        for number, address in re.findall(r"^(\d+)(?:\.\d+)?\s.*?(0x[0-9a-f]+)", listing, re.M):
            places[int(address, 16)] = int(number)
    return places
