"""What a program has made of its signals stays, and what a debugger does to system
calls is not seen; user's breakpoints, watchpoints and catchpoints stay in force.
"""
import math
import os
import re
import signal
import socket
import subprocess
import time
import unittest

from gdbsession import FULL, Program, TestCase, build, executable_pages_differ
from survivor import Survivor


class Dispositions(TestCase):
    """SIGSEGV and SIGTRAP blocked, ignored, handled; a timer; a stopped process."""

    def trace(self, program, rounds=3 if FULL else 1):
        """Attach, start, snapshot, stop, detach: nothing of the program's is changed."""
        before = program.dispositions()
        for attempt in range(100):  # a new thread begins with all signals blocked
            if len({line.split(" ")[-1] for line in before if "blocks" in line}) == 1:
                break
            time.sleep(0.05)
            before = program.dispositions()
        for number in range(rounds):
            with self.subTest(number=number):
                gdb = self.session()
                gdb.attach(program)
                self.assertStarted(gdb.run("tm start 10"), 10)
                gdb.run("handle SIGALRM nostop noprint pass")
                gdb.run_until_interrupted(program, 0.1)
                self.assertEqual(program.dispositions(), before)
                self.assertRegex(gdb.run("tm snapshot"), r"\ASnapshot 1: \d+ block")
                self.assertIn("Tracing stopped", gdb.run("tm stop"))
                self.assertEqual(program.dispositions(), before)
                gdb.run("detach")
                gdb.close()
        self.assertEqual(executable_pages_differ(program.pid), [])
        program.check_alive(self)
        self.assertEqual(program.dispositions(), before)
        program.check_end(self)

    def test_faults_blocked(self):
        program = self.enterContext(Survivor("2", "block"))
        self.assertIn(f"{program.pid} blocks 0x410", program.dispositions())
        self.trace(program)

    def test_faults_ignored(self):
        self.trace(self.enterContext(Survivor("2", "ignore")))

    def test_faults_handled(self):
        self.trace(self.enterContext(Survivor("2", "handle")))

    def test_timer_every_millisecond(self):
        program = self.enterContext(Survivor("2", "timer"))
        for attempt in range(1000):
            if program.ask()["ticks"]:
                break
        else:
            self.fail("the timer does not tick")
        self.trace(program)

    def test_everything_at_once(self):
        self.trace(self.enterContext(Survivor("3", "block", "ignore", "timer")))

    def test_stopped_process(self):
        program = self.enterContext(Survivor("2"))
        os.kill(program.pid, signal.SIGSTOP)
        program.wait_for_state("T")
        gdb = self.session()
        gdb.attach(program)
        self.assertStarted(gdb.run("tm start 10"), 10)
        self.assertRegex(gdb.run("tm snapshot"), r"\ASnapshot 1: \d+ block")
        self.assertIn("Tracing stopped", gdb.run("tm stop"))
        gdb.run("detach")
        gdb.close()
        os.kill(program.pid, signal.SIGCONT)
        program.check_alive(self)
        program.check_end(self)

    def test_signal_that_comes_during_a_call_is_handled_afterwards(self):
        program = self.enterContext(Survivor("1", "timer"))
        gdb = self.session()
        gdb.attach(program)
        gdb.run("handle SIGALRM nostop noprint pass")
        for number in range(20):
            self.assertStarted(gdb.run("tm start 10"), 10)
            self.assertIn("Tracing stopped", gdb.run("tm stop"))
        first = program_ticks(gdb)
        gdb.run_until_interrupted(program, 0.2)
        self.assertGreater(program_ticks(gdb), first)
        gdb.run("detach")
        gdb.close()
        program.check_alive(self)
        program.check_end(self)


def program_ticks(gdb):
    return gdb.evaluate("(long) ticks")


class Waiting(TestCase):
    """Attaching ends many system calls with EINTR; the program does not see it."""

    def wait_in(self, name, wake, result, *arguments, stdin=None):
        options = {} if stdin is None else {"stdin": stdin}
        program = self.enterContext(Program(build("waiting.c"), name, *arguments, **options))
        program.wait_for("ready")
        program.wait_for_state("S")
        for number in range(2 if FULL else 1):
            gdb = self.session()
            gdb.attach(program)
            self.assertStarted(gdb.run("tm start 10"), 10)
            gdb.send("continue")
            program.wait_for_state("S")
            time.sleep(0.05)
            os.kill(program.pid, signal.SIGINT)
            gdb.wait()
            self.assertIn("Tracing stopped", gdb.run("tm stop"))
            gdb.run("detach")
            gdb.close()
        program.wait_for_state("S")
        wake(program)
        status, output = program.finish()
        self.assertEqual((status, output.splitlines()[-1]), (0, f"{name}: {result}, no error"))

    def write(self, program):
        program.write("x")

    def test_epoll_wait(self):
        self.wait_in("epoll", self.write, 1)

    def test_poll(self):
        self.wait_in("poll", self.write, 1)

    def test_ppoll_with_a_mask(self):
        self.wait_in("ppoll", self.write, 1)

    def test_select(self):
        self.wait_in("select", self.write, 1)

    def test_nanosleep(self):
        """It sleeps for longer than a debugger's visit takes, on this machine and now."""
        begin = time.monotonic()
        self.wait_in("poll", self.write, 1)
        seconds = math.ceil(2 + 4 * (time.monotonic() - begin))
        self.wait_in("nanosleep", lambda program: None, 1, seconds)

    def test_sigtimedwait(self):
        self.wait_in("sigtimedwait", lambda program: os.kill(program.pid, signal.SIGUSR1), 1)

    def test_semtimedop(self):
        def wake(program):
            program.wait_for("set ")
            number = re.search(r"set (\d+)", program.output.decode()).group(1)
            subprocess.run(["/usr/bin/python3", "-c", "import ctypes, sys;"
                            "ctypes.CDLL(None).semctl(int(sys.argv[1]), 0, 16, 1)", number],
                           check=True)

        self.wait_in("semtimedop", wake, 0)

    def test_vfork_in_progress(self):
        """The kernel does not let a parent stop before its child of vfork is gone."""
        program = self.enterContext(Program(build("waiting.c"), "long_vfork"))
        program.wait_for("ready")
        program.wait_for_state("D")
        gdb = self.session()
        gdb.send(f"attach {program.pid}")
        program.wait_for_tracer()
        self.write(program)
        self.assertIn("in_long_vfork", gdb.wait() + gdb.run("backtrace"))
        self.assertStarted(gdb.run("tm start 10"), 10)
        self.assertIn("Tracing stopped", gdb.run("tm stop"))
        gdb.run("detach")
        self.assertIn("long_vfork: 1, no error", program.finish()[1])

    def test_recv_with_a_timeout(self):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.wait_in("recv", lambda program: ours.sendall(b"x"), 1, stdin=theirs)


class UsersPoints(TestCase):
    """Breakpoints on and near malloc, watchpoints, catchpoints."""

    def run_to(self, *lines, mode="write"):
        gdb = self.session(build("waiting.c"))
        for line in ("break main", f"run {mode}", "delete", *lines):
            gdb.run(line)
        return gdb

    def finish(self, gdb):
        self.assertIn("exited normally", gdb.run("continue"))

    def test_breakpoint_on_malloc(self):
        gdb = self.run_to("break *malloc")
        self.assertStarted(gdb.run("tm start 10"), 10)
        self.assertRegex(gdb.run("continue"), r"Breakpoint \d+(\.\d+)?, ")
        self.assertRegex(gdb.run("tm snapshot"), r"\ASnapshot 1: ")
        self.assertIn("Tracing stopped", gdb.run("tm stop"))
        self.assertIn("breakpoint already hit", gdb.run("info breakpoints"))
        gdb.run("delete")
        self.finish(gdb)

    def test_breakpoint_behind_the_prologue_of_malloc(self):
        gdb = self.run_to("break malloc")
        text = gdb.run("tm start 10")
        if "Tracing" not in text:
            self.assertOneLine(text, r"\ABreakpoint \d+ stands inside the first instructions of "
                               r"malloc, .*delete \d+")
            self.assertEqual(executable_pages_differ(gdb.inferior_pid()), [])
            gdb.run("delete")
            self.assertStarted(gdb.run("tm start 10"), 10)
        gdb.run("delete")
        gdb.run("tm stop")
        self.finish(gdb)

    def test_breakpoint_inside_the_first_instructions(self):
        gdb = self.run_to("break *(char *)malloc+1")
        self.assertOneLine(gdb.run("tm start 10"), r"\ABreakpoint \d+ stands inside the first "
                           r"instructions of malloc, .*delete \d+")
        self.assertEqual(executable_pages_differ(gdb.inferior_pid()), [])
        gdb.run("delete")
        self.finish(gdb)

    def test_watchpoints(self):
        for kind in ("can-use-hw-watchpoints 1", "can-use-hw-watchpoints 0"):
            with self.subTest(kind):
                gdb = self.run_to(f"set {kind}", "watch result")
                self.assertStarted(gdb.run("tm start 10"), 10)
                self.assertIn("atchpoint", gdb.run("continue", 120))
                self.assertRegex(gdb.run("tm snapshot"), r"\ASnapshot \d: ")
                self.assertIn("Tracing stopped", gdb.run("tm stop"))
                self.assertIn("atchpoint", gdb.run("info breakpoints"))
                gdb.run("delete")
                self.finish(gdb)

    def test_catch_syscall(self):
        """At the entry of a system call a thread cannot be used: the call would be lost."""
        gdb = self.run_to("catch syscall write")
        self.assertIn("call to syscall", gdb.run("continue"))
        text = gdb.run("tm start 10")
        self.assertOneLine(text, "in the middle of a system call.*try again")
        self.assertEqual(executable_pages_differ(gdb.inferior_pid()), [])
        self.assertIn("returned from syscall", gdb.run("continue"))
        self.assertStarted(gdb.run("tm start 10"), 10)
        self.assertIn("call to syscall", gdb.run("continue"))
        self.assertRegex(gdb.run("tm snapshot"), r"\ASnapshot \d: ")
        self.assertOneLine(gdb.run("tm stop"), "in the middle of a system call.*try again")
        gdb.run("delete")
        gdb.run("stepi")
        self.assertIn("Tracing stopped", gdb.run("tm stop"))
        self.finish(gdb)

    def test_catch_exec(self):
        """The system call ends only when the thread goes on, and writes its result then."""
        program = build("waiting.c", name="waiting-static", flags="-O2 -g -static")
        gdb = self.session("--args", "/usr/bin/env", program, "write")
        gdb.run("catch exec")
        self.assertIn("exec'd", gdb.run("run"))
        self.assertStarted(gdb.run("tm start 10"), 10)
        gdb.run("delete")
        gdb.run("break in_write")
        self.assertAtBreakpoint(gdb.run("continue"))
        self.assertRegex(gdb.run("tm snapshot"), r"\ASnapshot \d: ")
        self.assertIn("Tracing stopped", gdb.run("tm stop"))
        self.finish(gdb)

    def test_vfork(self):
        gdb = self.run_to("catch vfork", mode="vfork")
        self.assertIn("vforked process", gdb.run("continue"))
        text = gdb.run("tm start 10")
        self.assertOneLine(text, "in the middle of a system call.*try again")
        gdb.run("delete")
        gdb.run("break waitpid")
        self.assertAtBreakpoint(gdb.run("continue"))
        gdb.run("delete")
        self.assertStarted(gdb.run("tm start 10"), 10)
        self.finish(gdb)


class ShadowStack(TestCase):
    """A processor with one is pretended: no call may be moved, everything else may."""

    PRETEND = """
import _tm
from tm import inferior
plan, status = _tm.plan, inferior.task_status
moves = {moves}
_tm.plan = lambda *arguments: dict(plan(*arguments), moves_call=moves)
inferior.task_status = lambda *which: dict(status(*which), x86_Thread_features="shstk wrss")
"""

    def start(self, moves):
        gdb = self.session(build("waiting.c"))
        gdb.run("break main")
        gdb.run("run write")
        self.assertEqual(gdb.python(self.PRETEND.format(moves=moves)), "")
        text = gdb.run("tm start 10")
        return text, executable_pages_differ(gdb.inferior_pid())

    def test_a_moved_call_is_refused(self):
        text, different = self.start(moves=True)
        self.assertOneLine(text, r"\ANo allocator function can be redirected \(\w+: the "
                           "processor's shadow stack forbids to move the call")
        self.assertEqual(different, [])

    def test_the_rest_is_redirected(self):
        self.assertStarted(self.start(moves=False)[0], 10)


if __name__ == "__main__":
    unittest.main()
