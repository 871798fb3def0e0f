"""Lets the stopped process run for a while and stops it again, so that it does not notice.

The stop is made with a signal that the program neither handles nor blocks and that
the kernel drops when nobody handles it (signal(7)); a debugger sees it all the same.
SIGINT and SIGSTOP would not do: a program may wait for the one, and whoever waits
for the program sees the other.  A silent catchpoint for the signal keeps gdb from
saying anything.  Under gdbserver only gdb's own interrupt, a SIGINT, reaches the
process.

A thread with all signals blocked keeps the time, because gdb is waiting for the
process then.  Must leave gdb's settings and breakpoints as they were, and must not
take a stop that somebody else made for its own.
"""

import contextlib
import os
import re
import signal
import threading
import time
from typing import Any, Callable, Iterator, List, NamedTuple, Optional

import gdb

from . import inferior, undoing
from .errors import TmError

# Dropped by the kernel when nobody handles them.
_HARMLESS = (signal.SIGURG, signal.SIGWINCH, signal.SIGCHLD)
_PATIENCE = 0.5  # seconds until a signal is sent again; who got it may have ended
_SETTINGS = ("print thread-events", "print inferior-events", "confirm", "pagination")


def _harmless_signal() -> signal.Signals:
    """One that stops the process for its debugger and does nothing else to it."""
    pid = inferior.selected().pid
    blocked: Optional[int] = None
    caught = 0
    for tid in os.listdir(f"/proc/{pid}/task"):
        status = inferior.task_status(pid, int(tid))
        mask = int(status.get("SigBlk", "0"), 16)
        blocked = mask if blocked is None else blocked & mask
        caught |= int(status.get("SigCgt", "0"), 16)
    for number in _HARMLESS:
        if not ((blocked or 0) | caught) >> number - 1 & 1:
            return number
    raise TmError("The program handles or blocks every signal that could stop it without its "
                  "noticing (%s)." % ", ".join(number.name for number in _HARMLESS))


def _check_group() -> None:
    """gdbserver interrupts a whole process group: nobody else may be in it."""
    pid = inferior.selected().pid
    status = inferior.task_status(pid, pid)
    if int(status.get("SigBlk", "0"), 16) >> signal.SIGINT - 1 & 1:
        raise TmError("The program blocks SIGINT, the only signal by which gdbserver can stop it.")
    children = inferior.target_file(f"/proc/{pid}/task/{pid}/children").split()
    if children:
        raise TmError("gdbserver stops a program with SIGINT to its process group, and so its "
                      "child %s too: it cannot be watched." % children[0].decode())


class Stop(NamedTuple):
    """Why the process stands still again."""

    is_ours: bool  # it was made by us
    is_users: bool = False  # it was Ctrl-C
    has_ended: bool = False  # there is no process any more


def _is_interrupt(event: Any) -> bool:
    return isinstance(event, gdb.SignalEvent) and event.stop_signal == "SIGINT"


class Runner:
    """Runs the selected process in slices of time; made by slices()."""

    def __init__(self) -> None:
        self.is_remote = inferior.is_remote()
        self.signal = signal.SIGINT if self.is_remote else _harmless_signal()
        self.inferior = gdb.selected_inferior()
        self.pid = self.inferior.pid
        self.catchpoint = 0
        self._stop_event: Any = None
        self._exited = False
        self._is_running = False
        self._sent = 0.0  # when the process was told to stop; 0: it was not

    # ---- gdb's events

    def on_stop(self, event: Any) -> None:
        self._stop_event = event

    def on_exited(self, event: Any) -> None:
        if event.inferior.num == self.inferior.num:
            self._exited = True

    def _is_for_our_signal(self) -> bool:
        """Whether the process stopped at the catchpoint."""
        event = self._stop_event
        if isinstance(event, gdb.BreakpointEvent):
            return any(each.number == self.catchpoint for each in event.breakpoints)
        return isinstance(event, gdb.SignalEvent) and event.stop_signal == self.signal.name

    def _is_sent_by_us(self) -> bool:
        if self.is_remote:
            return self._sent > 0
        sender = int(gdb.parse_and_eval("$_siginfo._sifields._kill.si_pid"))
        return sender in (os.getpid(), 0)  # 0: of another pid namespace (pid_namespaces(7))

    # ---- stopping

    def send(self) -> None:
        """Tells the process to stop; may be called from any thread."""
        self._sent = self._sent or time.monotonic()
        if self.is_remote:
            gdb.post_event(self._interrupt)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, self.signal)

    def _interrupt(self) -> None:
        if self._is_running:  # asking gdb's threads would ask the server, which waits
            gdb.execute("interrupt")

    def _keep_time(self, seconds: float, begun: threading.Event, ready: threading.Event,
                   stopped: threading.Event) -> None:
        if stopped.wait(seconds):
            return
        if begun.wait(_PATIENCE):  # else Ctrl-C came before its first instruction
            ready.wait()
        while not stopped.is_set():
            self.send()
            stopped.wait(_PATIENCE)

    # ---- running

    def run(self, seconds: float, meanwhile: Callable[[float], None]) -> Stop:
        """Lets the process run for so long, then stops it; or less, when it stops by itself.

        meanwhile(t) is called while it runs, with the time.monotonic() of its
        being let go; the process is not stopped while that works.  Where that
        raises KeyboardInterrupt, the stop counts as the user's.
        """
        end = time.monotonic() + seconds
        work: List[Callable[[float], None]] = [meanwhile]
        while True:
            interrupted = self._run_once(max(0.0, end - time.monotonic()), work)
            if work:  # it stopped at once
                work.pop()(time.monotonic())
            if self._exited or self._stop_event is None or self.inferior.pid == 0:
                return Stop(False, has_ended=True)
            if self.inferior.pid != self.pid:
                return Stop(False)
            if not self._is_for_our_signal():
                return Stop(False, is_users=_is_interrupt(self._stop_event))
            if self._is_sent_by_us():
                gdb.execute("queue-signal 0", to_string=True)
                return Stop(not interrupted, is_users=interrupted)
            if self.is_remote:
                return Stop(False, is_users=True)
            # Somebody else's, which the program gets as it would without us.

    def _run_once(self, seconds: float, work: List[Callable[[float], None]]) -> bool:
        begun, ready, stopped = threading.Event(), threading.Event(), threading.Event()
        interrupted = False

        def do_work() -> None:
            nonlocal interrupted
            done = False
            try:
                try:
                    begun.set()
                    if not stopped.is_set():
                        todo, work[:] = list(work), []
                        for each in todo:
                            each(time.monotonic())
                    done = True
                finally:
                    ready.set()
            except KeyboardInterrupt:  # maybe right before it was ready
                done = False
            finally:
                if not done:
                    interrupted = True
                    ready.set()
                    self.send()

        self._stop_event, self._sent, self._is_running = None, 0.0, True
        keeper = threading.Thread(target=self._keep_time, args=(seconds, begun, ready, stopped),
                                  daemon=True)  # a gdb that is told to end does not wait for it
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            keeper.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            gdb.post_event(do_work)
            gdb.execute("continue")
        finally:
            self._is_running = False
            stopped.set()
            begun.set()
            ready.set()
            keeper.join()
        return interrupted

    def sent_at(self) -> float:
        """The time.monotonic() at which the process was told to stop, before its last stop."""
        return self._sent


@contextlib.contextmanager
def slices() -> Iterator[Runner]:
    """For the time of a watch: the settings, the catchpoint, gdb's events."""
    inferior.require_stopped()
    if gdb.parameter("non-stop"):
        raise TmError("In non-stop mode the threads do not stop and run together: use all-stop "
                      "mode (\"set non-stop off\" before the program is run).")
    if inferior.is_remote():
        _check_group()
    runner = Runner()
    with undoing.undone() as undo:
        with undoing.interrupts_held():
            _prepare(runner, undo)
        yield runner


def _prepare(runner: Runner, undo: contextlib.ExitStack) -> None:
    for name in _SETTINGS:
        before = gdb.parameter(name)
        if before:
            gdb.execute(f"set {name} off", to_string=True)
            undo.callback(gdb.execute, f"set {name} on", to_string=True)
    undo.callback(gdb.set_convenience_variable, "bpnum", gdb.convenience_variable("bpnum"))
    text = gdb.execute(f"catch signal {runner.signal.name}", to_string=True)
    runner.catchpoint = int(re.search(r"Catchpoint (\d+)", text).group(1))
    undo.callback(_delete, runner.catchpoint)
    gdb.execute(f"commands {runner.catchpoint}\nsilent\nend", to_string=True)
    for registry, listener in ((gdb.events.stop, runner.on_stop),
                               (gdb.events.exited, runner.on_exited)):
        registry.connect(listener)
        undo.callback(registry.disconnect, listener)


def _delete(number: int) -> None:
    with contextlib.suppress(gdb.error):  # the user's own commands may have taken it
        gdb.execute(f"delete {number}", to_string=True)
