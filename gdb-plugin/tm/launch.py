"""Arming: `tm start` before there is a process.

The start then happens when the loader says that all objects are mapped and
relocated, before the first constructor runs: at its notice function
(`_dl_debug_state`, the r_brk of <link.h>, in glibc and musl) with the state
RT_CONSISTENT.  The breakpoint there is an internal one; its condition does the
work and is false, so the program does not stop.
"""

from typing import Callable, Optional

import gdb

from .errors import TmError

_NOTICE = "_dl_debug_state"
_RT_CONSISTENT = 0


class _Armed:
    """What waits for the next run."""

    def __init__(self, limit: int, start: Callable):
        self.limit = limit
        self.start = start
        self.done = False
        self.breakpoint = gdb.Breakpoint(_NOTICE, internal=True)
        self.breakpoint.silent = True
        self.breakpoint.condition = "$_tm_start_when_armed()"

    def release(self) -> None:
        """Takes the breakpoint away again."""
        if self.breakpoint.is_valid():
            self.breakpoint.delete()


_armed: Optional[_Armed] = None


class _StartWhenArmed(gdb.Function):
    """Internal: the condition of the breakpoint of `tm start` before `run`."""

    def __init__(self) -> None:
        super().__init__("_tm_start_when_armed")

    def invoke(self) -> bool:
        """Starts tracing at the right notice; false, so that the program goes on."""
        if _armed is None or _armed.done or not _objects_are_consistent():
            return False
        _armed.done = True
        gdb.post_event(disarm)
        try:
            report = _armed.start(_armed.limit)
        except TmError as error:
            gdb.write(f"Tracing was not started: {error}\n", gdb.STDERR)
            return False
        gdb.write(f"{report}\n")
        return False


_StartWhenArmed()


def _objects_are_consistent() -> bool:
    """Whether r_state of the loader's struct r_debug (<link.h>) is RT_CONSISTENT."""
    try:
        # int r_version; struct link_map *r_map; ElfW(Addr) r_brk; enum r_state
        state = gdb.parse_and_eval("*(int *)((char *)&_r_debug + 24)")
    except gdb.error:
        return True
    return int(state) == _RT_CONSISTENT


def arm(limit: int, start: Callable) -> str:
    """Lets the next `run` be traced; start(limit) does it.  Returns what to tell the user."""
    global _armed
    program = gdb.current_progspace().filename
    if program is None:
        raise TmError("No program to run: use `file PROGRAM` first, or attach to a process.")
    disarm()
    _armed = _Armed(limit, start)
    frames = "1 frame" if limit == 1 else f"{limit} frames"
    return f"The next run will be traced with {frames}, from before its first constructor."


def disarm() -> bool:
    """Lets the next `run` go untraced.  False when it was not to be traced."""
    global _armed
    if _armed is None:
        return False
    _armed.release()
    _armed = None
    return True


def armed_limit() -> Optional[int]:
    """The number of frames that waits for the next run, or None."""
    return _armed.limit if _armed is not None and not _armed.done else None
