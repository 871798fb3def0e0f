"""Other ways to be debugged: several inferiors, exec, non-stop mode.

May use gdbsession.
"""
import re
import tempfile
import time
import unittest

from gdbsession import LIMIT, TestCase, build

TRACING = r"(?m)^Tracing {} frames?: \d+ functions in 1 module redirected, helper at 0x"


class SeveralInferiors(TestCase):
    def two(self, first, second):
        gdb = self.session(build(first))
        gdb.run(f"add-inferior -exec '{build(second)}'")
        gdb.run("set schedule-multiple off")
        return gdb

    def blocks(self, gdb):
        return gdb.json("tm status -json")["blocks"]

    def test_each_has_its_own_state(self):
        gdb = self.two("exec.c", "again.c")
        gdb.run("tbreak checkpoint")
        gdb.run("run")
        self.assertStarted(gdb.run("tm start 3"), 3)
        gdb.run("inferior 2")
        self.assertFalse(gdb.json("tm status -json")["tracing"])
        gdb.run("set startup-with-shell off")
        gdb.run("tbreak main")
        gdb.run("run </dev/null")
        self.assertFalse(gdb.json("tm status -json")["tracing"])
        self.assertStarted(gdb.run("tm start 7"), 7)
        self.assertEqual(gdb.json("tm status -json")["traceback_limit"], 7)
        gdb.run("inferior 1")
        self.assertEqual(gdb.json("tm status -json")["traceback_limit"], 3)
        self.assertOneLine(gdb.run("tm start 9"), r"^Already tracing, with a limit of 3 frames")
        self.assertNotIn("\n", gdb.run("tm stop"))
        self.assertRegex(gdb.run("tm unload"), r"\AHelper unloaded: ")
        gdb.run("inferior 2")
        self.assertTrue(gdb.json("tm status -json")["tracing"])
        self.assertIn("tm-helper.so", gdb.run("info files"))
        gdb.run("kill inferiors 1")
        self.assertTrue(gdb.json("tm status -json")["tracing"])

    def test_each_is_armed_by_itself(self):
        gdb = self.two("exec.c", "reports.c")
        gdb.run("tm start 4")
        gdb.run("inferior 2")
        self.assertEqual(gdb.run("tm status"), "Not tracing: there is no process.")
        gdb.run("tm start 6")
        gdb.run("tbreak checkpoint")
        self.assertRegex(gdb.run("run"), TRACING.format(6))
        gdb.run("inferior 1")
        self.assertIn("4 frames", gdb.run("tm status"))
        gdb.run("tbreak checkpoint")
        self.assertRegex(gdb.run("run"), TRACING.format(4))
        self.assertEqual(gdb.json("tm status -json")["traceback_limit"], 4)
        gdb.run("inferior 2")
        self.assertEqual(gdb.json("tm status -json")["traceback_limit"], 6)


class Exec(TestCase):
    def setUp(self):
        self.gdb = self.session(build("exec.c"))
        self.gdb.run("break checkpoint")

    def total(self):
        return self.gdb.json("tm top -json -limit 0")["total_size"]

    def test_the_traces_are_gone(self):
        self.gdb.run("run 2")
        self.assertStarted(self.gdb.run("tm start 3"), 3)
        pid = self.gdb.inferior_pid()
        lines = [line for line in self.gdb.run("continue").splitlines() if "traces" in line]
        self.assertEqual(lines, [f"Process {pid} is now {build('exec.c')}: its traces are gone, "
                                 "and it is not traced (see \"show tm follow-exec\")."])
        self.assertEqual(self.gdb.run("tm status"), "Not tracing.")
        self.assertNotIn("tm-helper.so", self.gdb.run("info files"))
        self.assertStarted(self.gdb.run("tm start 2"), 2)
        self.gdb.run("tm stop")
        self.assertNotIn("traces", self.gdb.run("continue"), "they were gone before")
        self.assertIn("exited normally", self.gdb.run("continue"))

    def test_tracing_follows(self):
        self.gdb.run("set tm follow-exec on")
        self.gdb.run("tm start 3")
        self.assertRegex(self.gdb.run("run 2"), TRACING.format(3))
        self.assertEqual(self.total(), 3 * 1002)
        program = re.escape(build("exec.c"))
        for times in (1, 0):
            text = self.gdb.run("continue")
            self.assertRegex(text, rf"(?m)^Process \d+ is now {program}: its traces are gone\.$")
            self.assertRegex(text, TRACING.format(3))
            self.assertEqual(self.total(), (times + 1) * (1000 + times))
            self.assertIn("exec.c", self.gdb.run("tm traceback kept"))
        self.assertNotIn("\n", self.gdb.run("tm stop"))
        self.assertIn("exited normally", self.gdb.run("continue"))

    def test_a_static_program(self):
        """It is traced from its entry point on, where there is no thread pointer yet."""
        gdb = self.session(build("exec.c", "exec-static", "-O2 -g -static"))
        gdb.run("set tm follow-exec on")
        gdb.run("break checkpoint")
        gdb.run("tm start 2")
        for line, size in (("run 1", 2002), ("continue", 1000)):
            self.assertRegex(gdb.run(line), TRACING.format(2))
            groups = gdb.json("tm top -json -limit 0")["statistics"]
            self.assertIn(size, [each["size"] for each in groups if each["function"] == "main"])
        self.assertNotIn("\n", gdb.run("tm stop"))
        self.assertIn("exited normally", gdb.run("continue"))

    def test_a_process_that_was_attached_to(self):
        process = self.program("sh", "-c", 'read line; exec "$1"', "sh", build("exec.c"))
        process.wait_for_state("S")
        gdb = self.session()
        gdb.run("set tm follow-exec on")
        gdb.run("set breakpoint pending on")
        gdb.attach(process)
        self.assertStarted(gdb.run("tm start 5"), 5)
        gdb.run("break checkpoint")
        process.write("go\n")
        self.assertRegex(gdb.run("continue"), TRACING.format(5))
        self.assertEqual(gdb.json("tm top -json -limit 0")["total_size"], 1000)
        gdb.run("detach")
        self.assertEqual(process.finish(), (0, "end\n"))


class Fork(TestCase):
    def setUp(self):
        self.gdb = self.session(build("forks.c"))
        self.gdb.run("break checkpoint")
        self.gdb.run("run")
        self.assertStarted(self.gdb.run("tm start 3"), 3)

    def check(self, size):
        """The selected process has the block from before the fork and its own."""
        self.assertEqual(self.gdb.json("tm status -json")["current"], size)
        self.assertIn("forks.c", self.gdb.run("tm traceback kept[0]"))
        self.assertNotIn("\n", self.gdb.run("tm stop"))
        self.assertRegex(self.gdb.run("tm unload"), r"\AHelper unloaded: ")

    def test_the_parent_is_followed(self):
        self.assertAtBreakpoint(self.gdb.run("continue"))
        self.check(100 + 200)
        self.assertIn("exited normally", self.gdb.run("continue"))

    def test_the_child_is_followed(self):
        self.gdb.run("set follow-fork-mode child")
        self.assertAtBreakpoint(self.gdb.run("continue"))
        self.check(100 + 300)
        self.assertIn("exited normally", self.gdb.run("continue"))

    def test_both_are_kept(self):
        self.gdb.run("set detach-on-fork off")
        self.assertIn("checkpoint ()", self.gdb.run("continue"))
        self.gdb.run("delete")  # gdb 13 warns of breakpoints with locations in two inferiors
        self.check(100 + 200)
        self.gdb.run("inferior 2")
        self.gdb.run("tbreak checkpoint")
        self.assertIn("checkpoint ()", self.gdb.run("continue"))
        self.check(100 + 300)
        self.assertIn("exited normally", self.gdb.run("continue"))


class ForkMidway(TestCase):
    """By a signal handler that interrupted malloc: both go on in it, the child without records."""

    def check(self, options):
        output = self.enterContext(tempfile.NamedTemporaryFile("r"))
        gdb = self.session(build("midway.c"))
        gdb.run("break checkpoint")
        gdb.run(f"run >{output.name}")
        gdb.run(f"tm start 3{options}")
        gdb.run("catch syscall mmap")
        self.assertIn("call to syscall mmap", gdb.run("continue"))
        gdb.run("delete")
        gdb.run("handle SIGUSR1 nostop noprint pass")
        self.assertIn("exited normally", gdb.run("signal SIGUSR1"))
        self.assertEqual(output.read(), "the child's status: 0x700\n")

    def test_every_block_recorded(self):
        self.check("")

    def test_sampled(self):
        self.check(" -sample 1KiB")


class NonStop(TestCase):
    def setUp(self):
        self.gdb = self.session(build("cores.c"), settings=["set non-stop on"])
        self.gdb.run("break checkpoint")
        self.gdb.run("run")

    def stop_all(self):
        self.gdb.run("interrupt -a")
        end = time.monotonic() + LIMIT
        while "(running)" in self.gdb.run("info threads"):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)

    def test_some_threads_are_running(self):
        for command in ("tm start", "tm status", "tm unload"):
            self.assertOneLine(self.gdb.run(command), r"^3 threads of the process still run: stop "
                               r'all of them first, with "interrupt -a"\.$')
        self.stop_all()
        self.assertStarted(self.gdb.run("tm start 5"), 5)

    def test_all_threads_are_stopped(self):
        self.stop_all()
        self.assertStarted(self.gdb.run("tm start 5"), 5)
        self.gdb.run("tbreak puts")
        self.gdb.run("thread 1")
        self.assertIn("hit Temporary breakpoint", self.gdb.run("continue"))
        status = self.gdb.json("tm status -json")
        self.assertEqual((status["blocks"], status["peak"]), (0, 5000))
        self.gdb.run("thread 3")
        self.assertRegex(self.gdb.run("tm snapshot"), r"\ASnapshot 1: 0 blocks, ")
        self.assertNotIn("\n", self.gdb.run("tm stop"))
        self.assertRegex(self.gdb.run("tm unload"), r"\AHelper unloaded: ")
        self.assertIn("* 3 ", self.gdb.run("info threads"))


if __name__ == "__main__":
    unittest.main()
