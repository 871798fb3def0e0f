"""The commands of GDB/MI, and the convenience functions of expressions and conditions.

May use gdbsession.  Must never import gdb: the tests see what a person, or a
program in his place, sees.
"""
import contextlib
import os
import re
import subprocess
import tempfile
import unittest

from gdbsession import CALM, PLUGIN, ROOT, TestCase, build


class Functions(TestCase):
    def setUp(self):
        self.gdb = self.session(build("tests/e2e/reports.c"))

    def start(self):
        self.gdb.run("break checkpoint")
        self.gdb.run("run")
        self.assertStarted(self.gdb.run("tm start 5"), 5)
        self.gdb.run("continue")

    def test_figures(self):
        self.start()
        for expression, figure in (
                ("$_tm_count()", 21), ("$_tm_current()", 21000), ("$_tm_peak()", 21000),
                ("$_tm_size(leaks[3])", 1000), ("$_tm_size((char *) leaks[3] + 999)", 1000),
                ("$_tm_size((long) leaks[3])", 1000), ("$_tm_size(main)", 0),
                ("$_tm_size(leaks)", 0), ("$_tm_traced(leaks[3])", 1), ("$_tm_traced(0)", 0),
                ("$_tm_traced(leaks[39])", 0)):
            self.assertEqual(self.gdb.evaluate(expression), figure, expression)

    def test_they_are_conditions(self):
        self.start()
        self.gdb.run("delete")
        self.gdb.run("break checkpoint if $_tm_count() == 41 && $_tm_size(text) == 77")
        self.assertAtBreakpoint(self.gdb.run("continue"))
        self.assertEqual(self.gdb.evaluate("$_tm_current()"), 40077)

    def test_errors_are_one_line(self):
        self.assertOneLine(self.gdb.run("print $_tm_count()"), r"^There is no process: use \"run\"")
        self.gdb.run("starti")
        self.assertOneLine(self.gdb.run("print $_tm_current()"),
                           r"^The process is not being traced: use \"tm start\" first\.$")
        self.gdb.run("kill")
        self.start()
        self.assertOneLine(self.gdb.run("print $_tm_size()"), r"^\$_tm_size takes one argument")
        self.assertOneLine(self.gdb.run("print $_tm_peak(1)"), r"^\$_tm_peak takes no arguments\.$")
        self.assertOneLine(self.gdb.run("print $_tm_size(1.5)"), "type double is no integer")

    def test_help(self):
        for name in ("size", "count", "current", "peak", "traced"):
            self.assertRegex(self.gdb.run(f"help function _tm_{name}"), rf"^\$_tm_{name} \(")


class Machine:
    """gdb -i=mi; `run` gives the result record of a command."""

    def __init__(self, *arguments):
        self.home = tempfile.TemporaryDirectory(prefix="tm-gdb-home-")
        command = ["/usr/bin/gdb", "-nx", "-q", "-i=mi"]
        for setting in CALM:
            command += ["-iex", setting]
        self.process = subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env=dict(os.environ, LC_ALL="C.UTF-8", TERM="dumb", HOME=self.home.name))
        self.number = 0

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.home.cleanup()

    def run(self, line):
        self.number += 1
        self.process.stdin.write(f"{self.number}{line}\n")
        self.process.stdin.flush()
        return self.wait_for(f"{self.number}^")[len(str(self.number)):].rstrip("\n")

    def wait_for(self, start):
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        raise AssertionError(f"gdb ended before {start!r}")

    def console(self, line):
        return self.run(f'-interpreter-exec console "{line}"')

    def go(self, command):
        self.run(command)
        self.wait_for("*stopped")


class MachineInterface(TestCase):
    def setUp(self):
        self.gdb = self.enterContext(Machine(build("tests/e2e/reports.c")))
        self.assertEqual(self.gdb.console(f"source {PLUGIN}"), "^done")
        if self.gdb.run("-tm-status").startswith('^error,msg="Undefined MI command'):
            self.skipTest("this gdb has no gdb.MICommand")

    def test_commands(self):
        self.assertIn('tracing="0"', self.gdb.run("-tm-status"))
        self.gdb.run("-break-insert checkpoint")
        self.gdb.go("-exec-run")
        self.assertEqual(self.gdb.console("tm start 5"), "^done")
        self.gdb.go("-exec-continue")
        self.assertRegex(self.gdb.run("-tm-status"),
                         r'^\^done,command="status",tracing="1",traceback_limit="5",'
                         r'current="21000",.*redirected=\[\{module="')
        self.assertEqual(self.gdb.run("-tm-snapshot before"),
                         '^done,command="snapshot",name="before",blocks="21",size="21000",'
                         'tracebacks="2",traceback_limit="5"')
        self.gdb.go("-exec-continue")
        self.assertRegex(self.gdb.run("-tm-top -limit 1 function"),
                         r'^\^done,command="top",key_type="function",.*statistics=\[\{'
                         r'function="wrapper",.*size="40000",count="40"\}\],'
                         r'other=\{groups="1",size="77",count="1"\},total_size="40077",')
        self.assertRegex(self.gdb.run("-tm-diff before now"),
                         r'size_diff="20000",count_diff="20"\}.*old="before"$')
        self.assertRegex(self.gdb.run('-tm-traceback "leaks[3] + 1" -limit 2'),
                         r'size="1000",domain="0",frames=\[\{filename=".*function="leak",.*\},'
                         r'\{.*function="wrapper",.*inlined="1"\}\],total_nframe="6"$')
        self.assertRegex(self.gdb.run("-tm-traceback 0"), r'frames=\[\]$')

    def test_errors_are_those_of_the_console(self):
        self.assertRegex(self.gdb.run("-tm-snapshot"), r'^\^error,msg="There is no process ')
        self.assertRegex(self.gdb.run("-tm-top -limit x"), r'^\^error,msg="-limit must be ')
        self.assertRegex(self.gdb.run('-tm-top "no such"'),
                         re.escape('^error,msg="\\"no such\\" is neither a key type'))


if __name__ == "__main__":
    unittest.main()
