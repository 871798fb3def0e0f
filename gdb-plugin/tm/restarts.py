"""System calls that return EINTR when a debugger stops their thread, made again.

Most calls the kernel makes again by itself; for some it returns EINTR, which a
program that was not stopped before may not expect (signal(7), "Interruption of
system calls and library functions by stop signals").  They can be made again as
if nothing had happened, but for their timeouts, which begin anew.

May use: tm.inferior, inside its quiet_session.  Must never let a program that is
stopped again and again wait for ever.
"""

import time
from typing import Dict, NamedTuple, Optional, Tuple

import gdb

from . import inferior

# asm/unistd_64.h: read, write, their vector forms, accept, send and receive: on a socket with a
# timeout (SO_RCVTIMEO of socket(7)), else the kernel makes them again.
_SOCKET_CALLS = frozenset((0, 1, 19, 20, 43, 44, 45, 46, 47, 288, 299))
# epoll_wait, epoll_pwait: the timeout in milliseconds is the fourth argument, negative: none.
_EPOLL_CALLS = frozenset((232, 281))
# rt_sigtimedwait, io_getevents, semtimedop, epoll_pwait2: where the address of a timeout is.
_TIMED_CALLS = {128: "rdx", 208: "r8", 220: "r10", 441: "r10"}
_SEMOP = 65
_ALL = _SOCKET_CALLS | _EPOLL_CALLS | set(_TIMED_CALLS) | {_SEMOP}

_EINTR = -4
_ERESTARTNOHAND = -514  # the kernel makes the call again, unless a signal handler runs
_MASK64 = (1 << 64) - 1


def restart_system_calls() -> None:
    """Where stopping made a system call return EINTR, lets the kernel make it again.

    So the program does not notice that it was stopped.  Inside quiet_session.
    """
    Restarts().restart()


def may_be_needed() -> bool:
    """Whether a thread is in such a call.  Costs little."""
    return any(state.system_call in _ALL for state in inferior.thread_states())


class _Wait(NamedTuple):
    """A call that was made again."""

    place: Tuple[int, int, int]  # its number, and where the thread stood
    timeout: int  # milliseconds, as it was left; 0: not known
    since: float


class Restarts:
    """The calls of a process that is stopped again and again.

    The timeout of an epoll_wait is made shorter by the time it has waited; it ends
    late by the time from its beginning to the first stop at most.  Another call with
    a timeout is made again once; if it still waits at the next stop, it returns EINTR,
    as it does at any stop of a debugger.
    """

    def __init__(self) -> None:
        self._waits: Dict[int, _Wait] = {}  # by thread

    def restart(self) -> None:
        """Inside quiet_session, just before the process runs again."""
        before, self._waits = self._waits, {}
        now = time.monotonic()
        for state in inferior.thread_states():
            if state.system_call not in _ALL:
                continue
            with inferior.thread_selected(state.tid) as frame:
                if _register(frame, "rax") != _EINTR & _MASK64:
                    continue
                place = (state.system_call, state.sp, state.pc)
                last = before.get(state.tid)
                if last is not None and last.place != place:
                    last = None
                wait = _Wait(place, 0, now)
                if state.system_call in _EPOLL_CALLS:
                    wait = _shorten(frame, wait, last)
                elif last is not None and _has_timeout(frame, state.system_call):
                    continue
                self._waits[state.tid] = wait
                _set("rax", _ERESTARTNOHAND)


def _has_timeout(frame: gdb.Frame, number: int) -> bool:
    if number in _TIMED_CALLS:
        return _register(frame, _TIMED_CALLS[number]) != 0
    return number in _SOCKET_CALLS


def _shorten(frame: gdb.Frame, wait: _Wait, last: Optional[_Wait]) -> _Wait:
    """Makes the timeout of an epoll_wait shorter; one millisecond less tells a call that was
    made again from the program's next one, which begins with the whole time."""
    timeout = _register(frame, "r10") & 0xffffffff
    if not 1 < timeout < 1 << 31:
        return wait
    left = timeout - 1
    if last is not None and timeout == last.timeout:
        left = max(1, timeout - round(1000 * (wait.since - last.since)))
    _set("r10", left)
    return wait._replace(timeout=left)


def _register(frame: gdb.Frame, name: str) -> int:
    return int(frame.read_register(name)) & _MASK64


def _set(name: str, value: int) -> None:
    gdb.execute(f"set var ${name} = {value}", to_string=True)
