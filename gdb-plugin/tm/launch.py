"""Arming: `tm start` before there is a process.

The start then happens when the loader says that all objects are mapped and
relocated, before the first constructor runs: at its notice function
(`_dl_debug_state`, the r_brk of <link.h>, in glibc and musl) with the state
RT_CONSISTENT; in a program without a loader, at its entry point.  The
breakpoint there is an internal one; its condition does the work and is false,
so the program does not stop.
"""

from typing import Callable, Dict, Optional, Tuple

import _tm
import gdb

from . import frames, inferior
from .errors import TmError
from .sampling import Sampling

_RT_CONSISTENT = 0


class _Armed:
    """What waits for the next run."""

    def __init__(self, limit: int, chosen: Sampling, start: Callable):
        self.limit = limit
        self.sampling = chosen
        self.start = start
        self.done = False
        self.helper_address = 0
        self.breakpoint: Optional[gdb.Breakpoint] = None

    def place(self) -> None:
        """Sets the breakpoint as soon as the new process has its place for it."""
        if self.breakpoint is not None or self.done or not inferior.has_process():
            return
        address = _notice_address()
        if address is not None:
            self.breakpoint = gdb.Breakpoint(f"*{address:#x}", internal=True)
            self.breakpoint.silent = True
            self.breakpoint.condition = "$_tm_start_when_armed()"

    def release(self) -> None:
        """Takes the breakpoint away again."""
        if self.breakpoint is not None and self.breakpoint.is_valid():
            self.breakpoint.delete()
        self.breakpoint = None


_armed: Dict[int, _Armed] = {}  # by the inferior's number


def _mine() -> Optional[_Armed]:
    return _armed.get(gdb.selected_inferior().num)


def _notice_address() -> Optional[int]:
    program = gdb.current_progspace().filename
    if program is None or _tm.elf_segments(program)["interp"] is None:
        return inferior.entry_point()
    try:
        return int(gdb.parse_and_eval("(unsigned long) &_dl_debug_state"))
    except gdb.error:
        return None  # the loader's symbols come with one of the next objects


class _StartWhenArmed(gdb.Function):
    """Internal: the condition of the breakpoint of `tm start` before `run`."""

    def __init__(self) -> None:
        super().__init__("_tm_start_when_armed")

    def invoke(self) -> bool:
        """Starts tracing at the right notice; false, so that the program goes on."""
        armed = _mine()
        if armed is None or armed.done or not _objects_are_consistent():
            return False
        armed.done = True
        try:
            report = armed.start(armed.limit, armed.sampling, is_launch=True)
        except TmError as error:
            gdb.write(f"Tracing was not started: {error}\n", gdb.STDERR)
            return False
        armed.helper_address = report.helper_address
        for text in report.warnings:
            gdb.write(f"warning: {text}\n", gdb.STDERR)
        gdb.write(f"{report}\n")
        return False


def _objects_are_consistent() -> bool:
    """Whether r_state of the loader's struct r_debug (<link.h>) is RT_CONSISTENT."""
    try:
        # int r_version; struct link_map *r_map; ElfW(Addr) r_brk; enum r_state
        state = gdb.parse_and_eval("*(int *)((char *)&_r_debug + 24)")
    except gdb.error:
        return True  # musl gives its notice once, when all is done
    return int(state) == _RT_CONSISTENT


def arm(limit: int, chosen: Sampling, start: Callable) -> str:
    """Lets the next `run` be traced; start(limit, chosen, is_launch) does it.  Returns what to
    say."""
    if gdb.current_progspace().filename is None:
        raise TmError("No program to run: use `file PROGRAM` first, or attach to a process.")
    rearm(limit, chosen, start)
    frames = "1 frame" if limit == 1 else f"{limit} frames"
    return (f"The next run will be traced with {frames}{chosen.aside}, from before its first "
            "constructor.")


def rearm(limit: int, chosen: Sampling, start: Callable) -> None:
    """The same for a program whose process is there, but has not begun to run it."""
    disarm()
    armed = _armed[gdb.selected_inferior().num] = _Armed(limit, chosen, start)
    armed.place()


def disarm() -> bool:
    """Lets the next `run` go untraced.  False when it was not to be traced."""
    armed = _armed.pop(gdb.selected_inferior().num, None)
    if armed is not None:
        armed.release()
    return armed is not None


def armed() -> Optional[Tuple[int, Sampling]]:
    """The number of frames and the sampling that wait for the next run, or None."""
    mine = _mine()
    return (mine.limit, mine.sampling) if mine is not None and not mine.done else None


def _on_new_objfile(_event) -> None:
    armed = _mine()
    if armed is not None:
        armed.place()


def _on_stop(_event) -> None:
    """What must not happen while the breakpoint's condition runs: new symbols set it anew."""
    armed = _mine()
    if armed is not None and armed.done:
        disarm()
        if armed.helper_address:
            frames.add_helper_symbols(armed.helper_address)


def _on_exited(event) -> None:
    armed = _armed.get(event.inferior.num)
    if armed is not None and armed.done:
        armed.release()
        del _armed[event.inferior.num]


_LISTENERS = (
    (gdb.events.new_objfile, _on_new_objfile),
    (gdb.events.stop, _on_stop),
    (gdb.events.exited, _on_exited),
)


def register() -> None:
    """Defines the condition's function and listens for new processes."""
    _StartWhenArmed()
    for registry, listener in _LISTENERS:
        registry.connect(listener)


def unregister() -> None:
    """Lets go of gdb's events, before the plugin is loaded anew."""
    for armed in _armed.values():
        armed.release()
    _armed.clear()
    for registry, listener in _LISTENERS:
        registry.disconnect(listener)
