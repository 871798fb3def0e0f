"""The short ways that calls go while blocks are sampled, of redirected functions and of
libtm-preload.so: registers, results, and threads that stand in the middle of one.

May use gdbsession.  Must never import gdb or the plugin.
"""
import itertools
import subprocess
import unittest

from gdbsession import FULL, TestCase, build
from test_preload import LIBRARY

FUNCTIONS = ("malloc", "calloc", "realloc", "free")
STEPS = 11  # to the function's own code
TRACED = {"LD_PRELOAD": str(LIBRARY), "TM_TRACE": "3", "TM_SAMPLE": "1KiB"}
CHANGES = (("tm clear",), ("tm stop", "tm start 3"), ("tm stop",),
           ("tm stop", "tm start 3 -sample 1KiB -min-size 10"))


class ShortWays(TestCase):
    def setUp(self):
        self.program = build("shortways.c", flags="-O1 -g -fno-builtin")

    def in_first_round(self, environment):
        gdb = self.session(self.program)
        for name, value in environment.items():
            gdb.run(f"set environment {name} {value}")
        gdb.run("break one_round")
        self.assertAtBreakpoint(gdb.run("run"))
        gdb.run("delete")
        return gdb

    def change(self, gdb, function, steps, lines):
        """Stops in a call, some instructions further, and lets the rest of the round go."""
        gdb.run(f"tbreak *{function}")
        gdb.run("continue")
        if steps:
            gdb.run(f"stepi {steps}")
        for line in lines:
            self.assertRegex(gdb.run(line), "^(Traces of|Tracing) ")
        gdb.run("tbreak one_round")
        self.assertIn("Temporary breakpoint", gdb.run("continue"))
        if gdb.json("tm status -json")["tracing"]:
            self.assertEqual(gdb.json("tm status -json")["blocks"], 0)

    def test_of_redirected_functions(self):
        gdb = self.in_first_round({})
        changes = itertools.cycle(CHANGES)
        for function, steps in itertools.product(FUNCTIONS, range(STEPS)):
            for lines in CHANGES if FULL else (next(changes),):
                with self.subTest(function=function, steps=steps, lines=lines):
                    self.assertRegex(gdb.run("tm start 3 -sample 1KiB"), "^Tracing 3 frames")
                    self.change(gdb, function, steps, lines)
                    if gdb.json("tm status -json")["tracing"]:
                        gdb.run("tm stop")
        self.assertIn("wrong: 0\n", gdb.run("continue"))

    def test_of_the_preloaded_library(self):
        gdb = self.in_first_round(TRACED)
        for function, steps in itertools.product(FUNCTIONS, range(STEPS)):
            with self.subTest(function=function, steps=steps):
                self.change(gdb, function, steps, ("tm clear",))
        for function, steps in itertools.product(FUNCTIONS if FULL else ("malloc", "free"),
                                                 range(STEPS) if FULL else (2, 4)):
            for lines in CHANGES[1:] if FULL else CHANGES[1:2]:
                with self.subTest(function=function, steps=steps, lines=lines):
                    gdb = self.in_first_round(TRACED)
                    self.change(gdb, function, steps, lines)
                    self.assertIn("wrong: 0\n", gdb.run("continue"))

    def test_the_helper_stays_for_who_stands_there(self):
        gdb = self.in_first_round(TRACED)
        gdb.run("tbreak *free")
        gdb.run("continue")
        gdb.run("stepi 4")  # the filter's address is in a register
        gdb.run("tm stop")
        self.assertOneLine(gdb.run("tm unload"), "^Thread .* stands in the helper, ")
        gdb.run("tbreak one_round")
        gdb.run("continue")
        self.assertRegex(gdb.run("tm unload"), "^Helper unloaded: ")
        self.assertIn("wrong: 0\n", gdb.run("continue"))

    def test_nothing_changes_for_the_program(self):
        for sample in ("1KiB", "1MiB"):
            done = subprocess.run([self.program], env=dict(TRACED, TM_SAMPLE=sample),
                                  stdout=subprocess.PIPE, text=True, check=True)
            self.assertEqual(done.stdout, "wrong: 0\n")

    def test_a_block_is_sampled_once(self):
        """Though the library's stub and the function behind it are both in the list."""
        gdb = self.session(build("threadwords.c", flags="-O2 -g -pthread"))
        for name, value in TRACED.items():
            gdb.run(f"set environment {name} {value}")
        gdb.run("break checkpoint")
        self.assertAtBreakpoint(gdb.run("run again"))
        gdb.run("tm stop")
        gdb.run("tm start 3 -sample 4KiB")
        gdb.run("continue")
        # 10,100, with a standard deviation of 191
        self.assertAlmostEqual(gdb.json("tm status -json")["blocks"], 10100, delta=1300)


if __name__ == "__main__":
    unittest.main()
