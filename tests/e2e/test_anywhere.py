"""Tracing begins wherever the program was stopped, and the program never notices.

Inside the allocator with its lock held, inside free, in the loader during dlopen,
in a signal handler that interrupted malloc, in blocking system calls, with many
threads: `tm start 10` works, the blocks kept afterwards are all there, and the
program ends with the output it has without a debugger.
"""
import os
import re
import signal
import subprocess
import tempfile
import unittest

from gdbsession import ROOT, TestCase, build, executable_pages_differ

KEPT, KEPT_SIZE = 7, 1234


class Anywhere(TestCase):
    def setUp(self):
        self.binary = build("anywhere.c", flags="-O2 -g -pthread", libs="-ldl")
        source = (ROOT / "tests" / "e2e" / "anywhere.c").read_text().splitlines()
        self.keep_line = 1 + next(number for number, text in enumerate(source)
                                  if "/* line: keep */" in text)

    def launch(self, mode, *breakpoints):
        """A gdb whose program was run up to the last of the breakpoints, one after another."""
        self.output = self.enterContext(tempfile.NamedTemporaryFile("r"))
        gdb = self.session(self.binary)
        gdb.run("break main")
        self.assertAtBreakpoint(gdb.run(f"run {mode} </dev/null >{self.output.name} 2>&1"))
        for each in breakpoints:
            gdb.run("delete")
            gdb.run(f"break {each}")
            text = gdb.run("continue")
            self.assertAtBreakpoint(text)
        gdb.run("delete")
        return gdb

    def check_and_stop(self, gdb, pid):
        """Runs on to the checkpoint, where the kept blocks must all be there; then `tm stop`."""
        gdb.run("break checkpoint")
        self.assertAtBreakpoint(gdb.run("continue"))
        gdb.run("delete")
        top = gdb.json("tm top lineno -json -limit 1000")
        kept = [each for each in top["statistics"] if each["lineno"] == self.keep_line
                and each["filename"].endswith("anywhere.c")]
        self.assertEqual([(each["size"], each["count"]) for each in kept],
                         [(KEPT * KEPT_SIZE, KEPT)])
        self.assertNotIn("\n", gdb.run("tm stop"))
        self.assertEqual(executable_pages_differ(pid), [])

    def start_and_finish(self, gdb, mode, handled=0):
        self.assertStarted(gdb.run("tm start 10"), 10)
        self.check_and_stop(gdb, gdb.inferior_pid())
        self.assertIn("exited normally", gdb.run("continue"))
        alone = subprocess.run([self.binary, mode], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, text=True).stdout
        self.assertEqual(self.output.read(),
                         alone.replace("0 handled", f"{handled} handled"))

    def test_in_int_malloc_with_the_arena_lock_held(self):
        gdb = self.launch("churn", "churn", "_int_malloc")
        self.assertEqual(gdb.evaluate("main_arena.mutex"), 1, "the lock is not held here")
        self.start_and_finish(gdb, "churn")

    def test_in_int_malloc_some_instructions_further(self):
        gdb = self.launch("churn", "churn", "_int_malloc")
        gdb.run("stepi 23")
        self.start_and_finish(gdb, "churn")

    def test_in_free(self):
        gdb = self.launch("churn", "churn", "_int_free")
        self.start_and_finish(gdb, "churn")

    def test_at_every_instruction_of_the_patched_bytes(self):
        for function in ("malloc", "free"):
            for steps in range(4):
                with self.subTest(function=function, steps=steps):
                    gdb = self.launch("churn", "churn", f"*{function}")
                    if steps:
                        gdb.run(f"stepi {steps}")
                    self.start_and_finish(gdb, "churn")

    def test_in_the_loader_during_dlopen(self):
        for place in ("_dl_map_object_from_fd", "_dl_relocate_object", "_dl_close_worker"):
            with self.subTest(place=place):
                gdb = self.launch("dlopen", "open_libraries", place)
                self.start_and_finish(gdb, "dlopen")

    def test_in_a_signal_handler_that_interrupted_malloc(self):
        gdb = self.launch("churn", "churn", "_int_malloc")
        gdb.run("break handler")
        text = gdb.run("signal SIGUSR1")
        self.assertIn("handler", text)
        gdb.run("delete")
        self.assertIn("_int_malloc", gdb.run("backtrace"))
        self.start_and_finish(gdb, "churn", handled=1)

    def in_system_call(self, mode, wake, expected):
        program = self.program(self.binary, mode)
        program.wait_for("ready")
        program.wait_for_state("S")
        gdb = self.session()
        gdb.attach(program)
        self.assertStarted(gdb.run("tm start 10"), 10)
        gdb.run("handle SIGUSR1 nostop noprint pass")
        gdb.run("break checkpoint")
        gdb.send("continue")
        # A signal that came earlier could go to any thread, not to the one that waits for it.
        program.wait_for_state("S")
        wake(program)
        self.assertAtBreakpoint(gdb.wait())
        gdb.run("delete")
        self.assertRegex(gdb.run("tm top lineno"),
                         rf"anywhere\.c:{self.keep_line}: size=8638 B, count=7, average=1234 B")
        gdb.run("tm stop")
        self.assertEqual(executable_pages_differ(program.pid), [])
        gdb.run("detach")
        status, output = program.finish()
        self.assertEqual((status, output), (0, "ready\n" + expected))

    def test_in_read(self):
        self.in_system_call("read", lambda program: program.write("hello\n"),
                            "read: sum 6, 0 handled, 0 interrupted\n")

    def test_in_epoll_wait_which_is_not_interrupted(self):
        self.in_system_call("epoll", lambda program: program.write("hello\n"),
                            "epoll: sum 1, 0 handled, 0 interrupted\n")

    def test_with_100_threads(self):
        self.in_system_call("100", lambda program: os.kill(program.pid, signal.SIGUSR1),
                            "100: sum 100, 1 handled, 0 interrupted\n")


class Settings(TestCase):
    NAMES = ("scheduler-locking", "unwindonsignal", "print thread-events", "confirm",
             "pagination", "breakpoint pending", "language", "width", "height")

    def state(self, gdb):
        settings = {name: gdb.run(f"show {name}") for name in self.NAMES}
        place = [gdb.run(line) for line in ("thread", "frame", "info breakpoints",
                                            "show convenience")]
        place[1] = place[1].split("\n")[0]
        place[3] = re.findall(r"^\$[a-z]\w* = .*", place[3], re.MULTILINE)  # the user's own
        return settings, place

    def test_the_users_session_is_as_before(self):
        program = self.program(build("anywhere.c", libs="-ldl"), "3")
        program.wait_for("ready")
        gdb = self.session()
        gdb.attach(program)
        for line in ("thread 2", "up", "set scheduler-locking step", "set unwindonsignal off",
                     "break checkpoint", "set $mine = 42", "set language c"):
            gdb.run(line)
        before = self.state(gdb)
        self.assertStarted(gdb.run("tm start 10"), 10)
        self.assertEqual(self.state(gdb), before)
        gdb.run("tm snapshot")
        gdb.run("tm stop")
        self.assertEqual(self.state(gdb), before)
        self.assertEqual(gdb.evaluate("$mine"), 42)


if __name__ == "__main__":
    unittest.main()
