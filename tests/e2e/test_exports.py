"""tm export: what other programs read adds up to what tm top says.

May use gdbsession.  Must never import gdb: the tests see what a person sees.
"""
import json
import os
import tempfile
import unittest

from gdbsession import TestCase, build

FORMATS = ["pprof", "collapsed", "speedscope", "dhat", "html"]


class Exports(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.executable = build("tests/e2e/reports.c")

    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.gdb = self.session(self.executable)
        self.gdb.run("break checkpoint")
        self.gdb.run("run")
        self.assertStarted(self.gdb.run("tm start 10"), 10)
        self.gdb.run("continue")
        self.gdb.run("tm snapshot")
        self.gdb.run("continue")

    def file(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with open(self.file(name)) as file:
            return file.read()

    def test_totals_are_those_of_top(self):
        top = self.gdb.json("tm top -json")
        for format in FORMATS:
            told = self.gdb.json(f"tm export {format} {self.file(format)} -json")
            self.assertEqual((told["total_size"], told["total_count"], told["file_size"]),
                             (top["total_size"], top["total_count"],
                              os.path.getsize(self.file(format))))
        collapsed = self.read("collapsed").splitlines()
        self.assertEqual(sum(int(line.rsplit(" ", 1)[1]) for line in collapsed),
                         top["total_size"])
        self.assertTrue(any(";main;leak;wrapper 40000" in line for line in collapsed), collapsed)
        scope = json.loads(self.read("speedscope"))
        self.assertEqual([profile["endValue"] for profile in scope["profiles"]],
                         [top["total_size"], top["total_count"]])
        points = json.loads(self.read("dhat"))["pps"]
        self.assertEqual(sum(point["tb"] for point in points), top["total_size"])

    def test_it_answers_in_one_line(self):
        self.assertOneLine(
            self.gdb.run(f"tm export html {self.file('heap.html')} 1"),
            r"^Snapshot 1 written to .*\.html as html \(\d+\.\d KiB\): 21 blocks, 20\.5 KiB\.$")
        self.assertOneLine(
            self.gdb.run(f"tm export html {self.file('heap.html')} now -diff 1"),
            r"^Snapshot now compared with 1 written to .*: 41 blocks, 39\.1 KiB\.$")
        self.assertIn("compared with snapshot 1", self.read("heap.html"))
        self.gdb.run(f'tm export -diff 1 collapsed "{self.file("a file")}"')
        self.assertIn("leak;wrapper 20000 40000\n", self.read("a file"))

    def test_filters_and_settings_count(self):
        self.gdb.run("tm filter add -exclude *reports.c")
        self.gdb.run(f"tm export collapsed {self.file('none')}")
        self.assertEqual(self.read("none"), "")
        self.gdb.run("tm filter clear")
        self.gdb.run("set tm inline off")
        self.gdb.run(f"tm export collapsed {self.file('folded')}")
        self.assertIn("main;leak 40000\n", self.read("folded"))

    def test_what_cannot_be_is_refused(self):
        for line, answer in (
                ("tm export", r"^Argument FORMAT is missing"),
                ("tm export svg x", r'^FORMAT must be one of pprof, .*, not "svg"\.$'),
                ("tm export html", r"^Argument FILE is missing"),
                ("tm export html /no/such/folder/x", r"^Cannot write .*No such file"),
                ("tm export html x nosuch", r'^No snapshot "nosuch": there is 1\.$'),
                ("tm export html x -diff nosuch", r'^No snapshot "nosuch": there is 1\.$'),
                (f"tm export dhat {self.file('x')} -diff 1", r"^The format dhat has no place")):
            self.assertOneLine(self.gdb.run(line), answer)
        self.assertEqual(os.listdir(self.folder), [])

    def test_words_complete(self):
        self.assertEqual(self.gdb.run("complete tm export s"), "tm export speedscope")
        self.assertEqual(self.gdb.run(f"complete tm export html {self.folder}/x -diff "),
                         f"tm export html {self.folder}/x -diff 1")
        self.assertEqual(self.gdb.run("complete tm export html x n"), "tm export html x now")


if __name__ == "__main__":
    unittest.main()
