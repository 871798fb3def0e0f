"""Calls that the plugin makes in a process: they end, whatever is called, and every
register is as before.
"""
import pathlib
import signal
import unittest

from gdbsession import FULL, LIMIT, TestCase, build, executable_pages_differ
from survivor import STRIKE, Survivor

CALL = """
import gdb
from tm import calls, errors, inferior
calls._PATIENCE = 0.5

def registers():
    return gdb.execute("info registers", to_string=True)

before = registers()
chosen = inferior.choose_caller()
with inferior.quiet_session():
    chosen.switch()
    try:
        print(inferior.call({address}, {arguments}))
    except errors.TmError as error:
        print(error)
gdb.execute("maint flush register-cache", to_string=True)
print("registers as before" if registers() == before else registers())
"""

# Calls no function: what is done before and after one is interrupted.
NOTHING = """
import sys
sys.path.insert(0, {folder!r})
import interrupting
from tm import inferior

def call_nothing():
    with inferior.quiet_session():
        pass

interrupting.interrupt_everywhere(call_nothing, *{around!r})
"""
AROUND = ("quiet_session", "_set_for_now", "undone", "interrupts_held", "_undo_all", "_end_calls",
          "_select", "_select_frame")


class Calls(TestCase):
    def setUp(self):
        self.program = self.enterContext(Survivor("2"))
        self.gdb = self.session()
        self.gdb.attach(self.program)

    def call(self, function, arguments="", thread=1):
        self.gdb.run(f"thread {thread}")
        address = self.gdb.evaluate(f"(long) {function}")
        text = self.gdb.python(CALL.format(address=address, arguments=arguments))
        first, last = text.rsplit("\n", 1)
        self.assertEqual(last, "registers as before")
        return first

    def finish(self):
        self.gdb.run("detach")
        self.gdb.close()
        self.assertEqual(executable_pages_differ(self.program.pid), [])
        self.program.check_alive(self)
        self.program.check_end(self)

    def test_result(self):
        for thread in (1, 2, 3):
            self.assertEqual(self.call("&llabs", "-42", thread), "42")
            self.assertEqual(self.call("&strnlen", f"{self.gdb.evaluate('(long) &rounds')}, 0",
                                       thread), "0")
        self.finish()

    def test_function_that_waits_for_ever(self):
        for thread in (1, 2):
            self.assertOneLine(self.call("&pause", "", thread), "waited for another thread in it")
        self.finish()

    def test_an_interrupt_at_any_line_leaves_the_session_as_it_was(self):
        for line in ("thread 2", "set language c++", "set print thread-events on",
                     "set confirm on"):
            self.gdb.run(line)
        text = self.gdb.python(NOTHING.format(folder=str(pathlib.Path(__file__).parent),
                                              around=AROUND))
        self.assertRegex(text, r"\Ainterrupted at [2-9]\d lines$")
        self.finish()

    def test_function_that_faults(self):
        before = self.program.dispositions()
        for thread in (1, 2):
            self.assertOneLine(self.call("16", "", thread), "got SIGSEGV in a function")
        self.assertEqual(self.program.dispositions(), before)
        self.finish()

    def test_function_that_hits_a_breakpoint(self):
        self.gdb.run("set breakpoint always-inserted on")
        self.gdb.run("break llabs")
        self.assertOneLine(self.call("&llabs", "-42"), "stopped in a function|got SIGTRAP")
        self.gdb.run("delete")
        self.finish()

    def test_program_that_is_killed_meanwhile(self):
        self.gdb.run("detach")
        for step in range(2, 90, 4 if FULL else 29):
            with self.subTest(step=step), Survivor("1") as program:
                gdb = self.session()
                self.assertEqual(gdb.python(STRIKE), "")
                gdb.attach(program)
                gdb.python(f"strike.arm({step}, {int(signal.SIGKILL)}, pid={program.pid})")
                text = gdb.run("tm start 10")
                self.assertOneLine(text, "ended while|cannot be (read|made)|[Nn]o such|Cannot")
                self.assertNotIn("Error occurred in Python", gdb.run("tm status"))
                gdb.run("continue")
                self.assertRegex(gdb.run("tm status"), "(?i)no process|not ")
                self.assertEqual(program.process.wait(LIMIT), -signal.SIGKILL)
                gdb.close()


class VectorRegisters(TestCase):
    def test_canary(self):
        """It goes the usual way, where calls may change them; its thread made no call."""
        gdb = self.session(build("everystep.c"))
        gdb.run("break checkpoint")
        gdb.run("run")
        for number in range(16):
            gdb.run(f"set $xmm{number}.v2_int64[0] = 0x1111111111111111 * {number} + 1")
            gdb.run(f"set $xmm{number}.v2_int64[1] = ~0x1111111111111111 * {number}")
        before = gdb.run("info registers vector float")
        self.assertIn("mm15 ", before)
        self.assertStarted(gdb.run("tm start 5"), 5)
        gdb.run("maint flush register-cache")
        self.assertEqual(gdb.run("info registers vector float"), before)
        gdb.run("tm clear")
        gdb.run("tm stop")
        gdb.run("maint flush register-cache")
        self.assertEqual(gdb.run("info registers vector float"), before)


if __name__ == "__main__":
    unittest.main()
