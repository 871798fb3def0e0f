"""The debugger is killed, or interrupted by Ctrl-C, at every step of start, snapshot
and stop: the program lives, and the next session repairs or continues.
"""
import os
import random
import signal
import subprocess
import time
import unittest

from gdbsession import FULL, TestCase, executable_pages_differ
from survivor import STRIKE, Survivor


class Killed(TestCase):
    """gdb dies of SIGKILL, in the middle of a call too."""

    SETTINGS = ("scheduler-locking", "unwindonsignal", "print thread-events", "confirm", "language")

    def session_at(self, program):
        gdb = self.session()
        self.assertEqual(gdb.python(STRIKE), "")
        gdb.attach(program)
        return gdb

    def steps(self, *before):
        """How many steps the last of the command lines takes after the others."""
        with Survivor("2") as program:
            gdb = self.session_at(program)
            for line in before:
                gdb.python("strike.arm(0, 0)")
                gdb.run(line)
            count = int(gdb.python("print(strike.count)"))
            gdb.run("tm stop")
            gdb.run("detach")
            gdb.close()
            program.check_end(self)
        self.assertGreater(count, 20)
        return count

    def kill_at(self, program, step, *commands):
        """One gdb killed in the last of the commands, and one that repairs."""
        gdb = self.session_at(program)
        gdb.run(f"thread {random.choice((1, 2, 3))}")
        for line in commands[:-1]:
            gdb.run(line)
        gdb.python(f"strike.arm({step}, {int(signal.SIGKILL)})")
        gdb.send(commands[-1])
        if step == 0:
            time.sleep(random.random() * 0.1)
            gdb.process.kill()
        try:
            gdb.process.wait(15)
        except subprocess.TimeoutExpired:
            gdb.process.kill()  # fewer steps than were counted: it dies at its prompt
        self.assertEqual(gdb.process.wait(60), -signal.SIGKILL, "gdb was not struck")
        program.check_alive(self)
        gdb.close()
        gdb = self.session()
        gdb.attach(program)
        status = gdb.json("tm status -json")
        if not status["tracing"]:
            if random.random() < 0.5:
                text = gdb.run("tm stop")  # takes back what a killed start has redirected
                self.assertRegex(text, r"\ATracing stopped: |\AThe process is not being traced")
            self.assertStarted(gdb.run("tm start 5"), 5)
        self.assertRegex(gdb.run("tm snapshot"), r"\ASnapshot 1: \d+ block")
        self.assertRegex(gdb.run("tm stop"), r"\ATracing stopped: \d+ functions? restored")
        self.assertEqual(executable_pages_differ(program.pid), [])
        gdb.run("detach")
        gdb.close()
        program.check_alive(self)
        program.check_end(self)

    def kill_at_many(self, count, *commands):
        steps = self.steps(*commands)
        random.seed(17)
        for number in range(count):
            step = 1 + (steps - 1) * number // max(1, count - 1)
            with self.subTest(command=commands[-1], step=step, steps=steps), \
                    Survivor("2") as program:
                self.kill_at(program, step, *commands)

    def test_in_the_first_start(self):
        self.kill_at_many(30 if FULL else 5, "tm start 10")

    def test_in_a_later_start(self):
        self.kill_at_many(15 if FULL else 2, "tm start 10", "tm stop", "tm start 10")

    def test_in_stop(self):
        self.kill_at_many(15 if FULL else 3, "tm start 10", "tm stop")

    def test_at_any_moment(self):
        random.seed(os.getpid())
        for number in range(30 if FULL else 3):
            with self.subTest(number=number), Survivor("2") as program:
                self.kill_at(program, 0, "tm start 10")


class Interrupted(Killed):
    """Ctrl-C at each step; the same session goes on."""

    test_in_the_first_start = test_in_a_later_start = test_in_stop = test_at_any_moment = None

    def state(self, gdb):
        return [gdb.run(f"show {name}") for name in self.SETTINGS] + [
            gdb.run("thread"), gdb.run("frame").split("\n")[0], gdb.run("info breakpoints")]

    def assert_as_before(self, gdb, before, started):
        """What the user sees; a thread that a start has moved stays where it was moved to."""
        now = self.state(gdb)
        if started:
            now, before = ([*state[:6], *state[7:]] for state in (now, before))
        self.assertEqual(now, before)

    def interrupt_at(self, gdb, step, line, inside=False):
        gdb.python(f"strike.arm({step}, {int(signal.SIGINT)}, {inside})")
        return gdb.run(line)

    def interrupt_many(self, count, line, settled, inside=False):
        """Interrupts LINE at COUNT of its steps; settled() checks what is left."""
        program = self.enterContext(Survivor("2"))
        gdb = self.session_at(program)
        gdb.run("set scheduler-locking step")
        gdb.run("thread 2")
        self.assertStarted(gdb.run("tm start 10"), 10)
        if line == "tm start 10":
            gdb.run("tm stop")
        self.interrupt_at(gdb, 0, line, inside)
        steps = int(gdb.python("print(strike.count)"))
        if line == "tm start 10":
            gdb.run("tm stop")
        elif line == "tm stop":
            gdb.run("tm start 10")
        interrupted = 0
        for number in range(count):
            step = 1 + (steps - 1) * number // max(1, count - 1)
            with self.subTest(line=line, step=step, steps=steps):
                before = self.state(gdb)
                self.interrupt_at(gdb, step, line, inside)
                gdb.python("strike.arm(0, 0)")
                tracing = gdb.json("tm status -json")["tracing"]
                self.assert_as_before(gdb, before, line == "tm start 10" and tracing)
                interrupted += settled(gdb, program, tracing)
                self.assert_as_before(gdb, before, True)
                gdb.run_until_interrupted(program, 0.02)
                gdb.run("thread 2")
        self.assertGreater(interrupted, count // 2 if not inside else 0, "Ctrl-C did nothing")
        if gdb.json("tm status -json")["tracing"]:
            gdb.run("tm stop")
        gdb.run("detach")
        gdb.close()
        self.assertEqual(executable_pages_differ(program.pid), [])
        program.check_alive(self)
        program.check_end(self)

    def test_start_is_rolled_back(self, inside=False):
        def settled(gdb, program, tracing):
            if tracing:  # the command was all but over
                gdb.run("tm stop")
            self.assertEqual(executable_pages_differ(program.pid), [])
            self.assertStarted(gdb.run("tm start 10"), 10)
            self.assertIn("Tracing stopped", gdb.run("tm stop"))
            return not tracing

        self.interrupt_many(60 if FULL else 8, "tm start 10", settled, inside)

    def test_first_start_is_rolled_back(self):
        count, steps = 40 if FULL else 4, self.steps("tm start 10")
        for number in range(count):
            step = 1 + (steps - 1) * number // (count - 1)
            with self.subTest(step=step, steps=steps), Survivor("2") as program:
                gdb = self.session_at(program)
                before = self.state(gdb)
                self.interrupt_at(gdb, step, "tm start 10", inside=True)
                gdb.python("strike.arm(0, 0)")
                tracing = gdb.json("tm status -json")["tracing"]
                self.assert_as_before(gdb, before, tracing)
                if tracing:
                    gdb.run("tm stop")  # it was all but over
                self.assertEqual(executable_pages_differ(program.pid), [])
                gdb.run_until_interrupted(program, 0.02)
                self.assertStarted(gdb.run("tm start 10"), 10)
                self.assertIn("Tracing stopped", gdb.run("tm stop"))
                gdb.run("detach")
                gdb.close()
                program.check_end(self)

    def test_start_in_the_middle_of_a_call(self):
        self.test_start_is_rolled_back(inside=True)

    def test_stop_is_rolled_back(self):
        def settled(gdb, program, tracing):
            if tracing:
                self.assertRegex(gdb.run("tm snapshot"), r"\ASnapshot \w+: \d+ block")
                self.assertNotEqual(executable_pages_differ(program.pid), [])
            else:
                self.assertEqual(executable_pages_differ(program.pid), [])
                self.assertStarted(gdb.run("tm start 10"), 10)
            return tracing

        self.interrupt_many(40 if FULL else 6, "tm stop", settled)

    def test_snapshot_leaves_nothing(self):
        program = self.enterContext(Survivor("2"))
        gdb = self.session_at(program)
        gdb.python("strike.count_reads()")
        self.assertStarted(gdb.run("tm start 10"), 10)
        gdb.run_until_interrupted(program, 0.3)
        self.interrupt_at(gdb, 0, "tm snapshot first")
        steps = int(gdb.python("print(strike.count)"))
        self.assertGreater(steps, 10)
        count = 40 if FULL else 8
        for number in range(count):
            step = 1 + (steps - 1) * number // (count - 1)
            with self.subTest(step=step, steps=steps):
                before = self.state(gdb)
                self.interrupt_at(gdb, step, "tm snapshot another")
                self.assertNotIn("another", gdb.run("tm snapshots"))
                self.assertEqual(self.state(gdb), before)
        gdb.python("strike.arm(0, 0)")
        self.assertRegex(gdb.run("tm snapshot last"), r"\ASnapshot last: \d+ block")
        gdb.run("tm stop")
        gdb.run("detach")
        program.check_end(self)


if __name__ == "__main__":
    unittest.main()
