"""Long work shows one line of progress, on a terminal only, and Ctrl-C takes it back.

May use terminal and gdbsession.  Must never import gdb: the tests see what a person sees.
No clock is waited for: a step that is to be interrupted does not come to its end,
and the line that would appear after half a second appears at once.
"""
import os
import socket
import tempfile

import unittest

from gdbsession import TestCase, batch, build
from terminal import Terminal, seen

AT_ONCE = ("python from tm.commands import terminal; terminal.DELAY = terminal.PERIOD = 0")
LONG = """
import time
from tm import progress
progress.EVERY = 1
long_step = ""
def be_long(text):
    if text == long_step:
        time.sleep(1000)
def reader(text, read, fast=progress.reader):
    def slow(address, length):
        be_long(text)
        return read(address, length)
    return fast(text, slow)
def told(text, items, total, told=progress._told):
    for item in told(text, items, total):
        be_long(text)
        yield item
progress.reader, progress._told = reader, told
"""


class Progress(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.executable = build("tests/e2e/reports.c")

    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.gdb = self.enterContext(Terminal(self.executable))
        self.gdb.run("break checkpoint")
        self.gdb.run("run")
        self.gdb.run("tm start 10")
        self.gdb.run("continue")
        self.gdb.run(AT_ONCE)

    def make_long(self):
        path = os.path.join(self.folder, "long.py")
        with open(path, "w") as file:
            file.write(LONG)
        self.gdb.run(f"source {path}")

    def interrupt(self, line, step):
        """Types the line, and Ctrl-C as soon as the step is shown."""
        self.gdb.run(f"python long_step = {step!r}")
        self.gdb.type(line + "\n")
        self.gdb.wait(step)
        self.gdb.type("\x03")
        return seen(self.gdb.wait())

    def test_the_line_is_there_and_then_gone(self):
        answer = self.gdb.run("tm snapshot")
        self.assertRegex(answer, r"\rReading the traces: \d+.*\x1b\[K")
        self.assertRegex(answer, r"\rFinding names  \[#* *\]  +\d+%\x1b\[K")
        self.assertRegex(answer, r"\rReading symbols of reports  \[#* *\]  +\d+%\x1b\[K")
        self.assertRegex(seen(answer), r"\ASnapshot 1: 21 blocks, 20\.5 KiB, 2 tracebacks")
        for line, step in (("tm top", "Grouping frames"), ("tm tree", "Making the tree"),
                           (f"tm dump {self.folder}/a", "Writing frames"),
                           (f"tm load {self.folder}/a again", "Reading frames"),
                           (f"tm export pprof {self.folder}/b", "Writing samples"),
                           (f"tm export collapsed {self.folder}/c", "Writing stacks"),
                           (f"tm export html {self.folder}/d", "Joining call paths")):
            answer = self.gdb.run(line)
            self.assertIn(f"\r{step}", answer)
            self.assertNotIn(step, seen(answer))

    def test_it_fits_the_terminal(self):
        for columns in (20, 40, 200):
            self.gdb.resize(columns, 24)
            pictures = self.gdb.run("tm snapshot").split("\x1b[K")
            self.assertGreater(len(pictures), 1)
            for picture in pictures[:-1]:
                self.assertLess(len(picture.rsplit("\r", 1)[-1]), columns)

    def test_short_work_shows_nothing(self):
        self.gdb.run("python terminal.DELAY = 3600")
        self.assertNotIn("\x1b[K", self.gdb.run("tm snapshot") + self.gdb.run("tm top"))

    def test_interrupting_a_snapshot_leaves_none(self):
        self.make_long()
        self.assertEqual(self.interrupt("tm snapshot", "Reading the traces").split("\n")[-1],
                         "Quit")
        self.assertEqual(seen(self.gdb.run("tm snapshots")), "No snapshots.")
        self.assertIn("Traced memory: 20.5 KiB in 21 blocks", seen(self.gdb.run("tm status")))
        self.assertRegex(seen(self.gdb.run("continue")), "Breakpoint 1, ")

    def test_interrupting_a_file_leaves_what_was_there(self):
        self.gdb.run("tm snapshot")
        path = os.path.join(self.folder, "file")
        self.gdb.run(f"tm dump {path}")
        with open(path, "rb") as file:
            before = file.read()
        self.make_long()
        for line, step in ((f"tm export pprof {path}", "Writing samples"),
                           (f"tm dump {path}", "Writing frames"),
                           (f"tm load {path}", "Reading frames")):
            self.assertEqual(self.interrupt(line, step).split("\n")[-1], "Quit")
            with open(path, "rb") as file:
                self.assertEqual(file.read(), before)
        self.assertEqual(sorted(os.listdir(self.folder)), ["file", "long.py"])
        self.assertEqual(seen(self.gdb.run("tm snapshots")).count("\n"), 1)

    def test_interrupting_a_download(self):
        """A debuginfod server that never answers is asked for libc's debug info."""
        silent = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        url = "http://127.0.0.1:%d" % silent.getsockname()[1]
        self.gdb.run(f"python import os; os.environ.update(DEBUGINFOD_URLS={url!r}, "
                     f"DEBUGINFOD_CACHE_PATH={self.folder!r})")
        self.gdb.run("set debug-file-directory /nowhere")
        self.gdb.run(f"set debuginfod urls {url}")
        self.gdb.run("set debuginfod enabled on")
        self.assertEqual(self.interrupt("tm snapshot", "Fetching debug info of libc.so.6")
                         .split("\n")[-1], "Quit")
        self.assertEqual(seen(self.gdb.run("tm snapshots")), "No snapshots.")
        self.gdb.run("set debuginfod enabled off")
        self.assertRegex(seen(self.gdb.run("tm snapshot")), r"\ASnapshot 1: 21 blocks")

    def test_nothing_of_it_in_what_is_piped_or_kept(self):
        log = os.path.join(self.folder, "log")
        self.gdb.run(f"set logging file {log}")
        self.gdb.run("set logging enabled on")
        self.gdb.run("tm snapshot")
        self.gdb.run("set logging enabled off")
        with open(log) as file:
            self.assertRegex(file.read(), r"\ASnapshot 1: [^\r\x1b]*\n\Z")
        piped = os.path.join(self.folder, "piped")
        self.gdb.run(f"pipe tm top | cat > {piped}")
        with open(piped) as file:
            self.assertRegex(file.read(), r"\A\[ Top 10 \]\n[^\r\x1b]*\Z")

    def test_nothing_where_nobody_looks(self):
        for option in ("-batch", "-interpreter=mi3", "--interpreter mi", "-i=mi"):
            asked = (f"from tm.commands import terminal as t\n"
                     f"print(t._is_for_people({option.split()!r}))")
            path = os.path.join(self.folder, "ask.py")
            with open(path, "w") as file:
                file.write(asked)
            self.assertEqual(seen(self.gdb.run(f"source {path}")), "False")
        status, text = batch(AT_ONCE, "break checkpoint", "run", "tm start", "tm snapshot",
                             arguments=[self.executable])
        self.assertEqual(status, 0)
        self.assertNotRegex(text, r"[\r\x1b]|Reading the traces")


if __name__ == "__main__":
    unittest.main()
