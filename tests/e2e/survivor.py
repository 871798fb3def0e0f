"""A program that must survive, and a debugger that is struck at a chosen step.

survivor.c says on request how it is; STRIKE is Python for inside gdb that counts
the plugin's writes, calls and ptrace requests, and at the k-th kills gdb or
presses Ctrl-C.

May use gdbsession.  Must never be needed by the plugin itself: the steps are
counted from outside.
"""
import os
import re
import signal
import time

from gdbsession import LIMIT, Program, build

STRIKE = """
import os, signal
from tm import calls, inferior

class Strike:
    names = ((inferior, "write"), (inferior, "call"), (inferior, "system_call"),
             (inferior, "set_register"), (calls, "ptrace"))
    def __init__(self):
        self.arm(0, 0)
        for module, name in self.names:
            setattr(module, name, self.counted(getattr(module, name)))
        read = inferior.fast_reader
        def counted_reader():
            inner = read()
            class Reader:
                def __enter__(reader):
                    return self.counted(inner.__enter__())
                def __exit__(reader, *error):
                    return inner.__exit__(*error)
            return Reader()
        self.readers = read, counted_reader

    def count_reads(self):
        inferior.fast_reader = self.readers[1]

    def counted(self, function):
        def wrapped(*arguments):
            blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
            if not blocked or self.inside:
                self.count += 1
            if self.count == self.at:
                self.at = 0
                os.kill(self.pid, self.number)
            return function(*arguments)
        return wrapped

    def arm(self, at, number, inside=True, pid=0):
        # inside: steps in the middle of a call count too
        self.count, self.at, self.number, self.inside = 0, at, number, inside
        self.pid = pid or os.getpid()

strike = Strike()
"""


class Survivor(Program):
    """survivor.c, and what it says."""

    def __init__(self, *arguments):
        super().__init__(build("survivor.c"), *arguments)
        self.wait_for("ready")

    def ask(self, timeout=LIMIT):
        """{rounds, ticks, errors, interrupted} as of now."""
        before = len(self.output)
        self.write("?")
        while not self.output[before:].endswith(b".\n"):
            if self.read(timeout) in (None, b""):
                raise AssertionError(f"no answer; it printed {self.output[-200:]!r}, its state is "
                                     + self.state())
        words = re.findall(r"(\w+) (\d+)", self.output[before:].decode())
        return {name: int(value) for name, value in words}

    def check_alive(self, test):
        """It answers, goes on, and found nothing wrong."""
        first, end = self.ask(), time.monotonic() + LIMIT
        while True:
            now = self.ask()
            if now["rounds"] > first["rounds"] + 20 or time.monotonic() > end:
                break
            time.sleep(0.002)
        test.assertGreater(now["rounds"], first["rounds"] + 20, "the threads stand still")
        test.assertEqual((now["errors"], now["interrupted"]), (0, 0))

    def check_end(self, test):
        """It ends as it would have without a debugger."""
        self.write("q")
        status, output = self.finish()
        test.assertEqual((status, output.splitlines()[-1]),
                         (42, "end: errors 0, interrupted 0"))

    def dispositions(self):
        """What each signal does, and each thread's mask: the lines of proc(5)."""
        with open(f"/proc/{self.pid}/status") as status:
            found = re.findall(r"^(Sig(?:Ign|Cgt):.*)", status.read(), re.MULTILINE)
        for tid in sorted(os.listdir(f"/proc/{self.pid}/task")):
            with open(f"/proc/{self.pid}/task/{tid}/status") as status:
                blocked = int(re.search(r"SigBlk:\t(\w+)", status.read()).group(1), 16)
                # A handler that is running blocks its own signal.
                found.append(f"{tid} blocks {blocked & ~(1 << signal.SIGALRM - 1):#x}")
        return found


__all__ = ["STRIKE", "Survivor"]
