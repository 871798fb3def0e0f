"""After `tm stop` nothing is left: every executable byte is the file's, and a round of
allocations costs exactly the instructions that it cost before.
"""
import unittest

from gdbsession import TestCase, build, executable_pages_differ

COUNT = """
import gdb
gdb.execute("set scheduler-locking on")
gdb.execute("tbreak round_of_pairs", to_string=True)
gdb.execute("continue", to_string=True)
stack = gdb.selected_frame().read_register("sp")
count = 0
while gdb.selected_frame().read_register("sp") <= stack:
    gdb.execute("stepi", to_string=True)
    count += 1
gdb.execute("set scheduler-locking replay")
print("\\n", count)
"""


class Restore(TestCase):
    def setUp(self):
        self.gdb = self.session(build("restore.c"))
        self.gdb.run("break round_of_pairs")
        self.gdb.run("run >/dev/null")
        self.gdb.run("delete")
        self.pid = self.gdb.inferior_pid()

    def count(self):
        return int(self.gdb.python(COUNT, 120).split()[-1])

    def test_every_byte_is_restored(self):
        self.assertEqual(executable_pages_differ(self.pid), [])
        for attempt in range(3):
            self.assertStarted(self.gdb.run("tm start 10"), 10)
            self.assertNotEqual(executable_pages_differ(self.pid), [], "nothing was patched?")
            self.assertNotIn("\n", self.gdb.run("tm stop"))
            self.assertEqual(executable_pages_differ(self.pid), [])
        self.assertIn("exited normally", self.gdb.run("continue"))

    def test_no_page_is_ever_writable_and_executable(self):
        self.gdb.run("tm start 10")
        with open(f"/proc/{self.pid}/maps") as maps:
            self.assertEqual([line for line in maps if "wx" in line.split()[1]], [])

    def test_instructions_are_those_of_a_program_never_traced(self):
        self.count()  # the first round fills malloc's caches
        before = self.count()
        self.assertGreater(before, 1000)
        self.assertStarted(self.gdb.run("tm start 10"), 10)
        traced = self.count()
        self.assertGreater(traced, before)
        self.gdb.run("tm stop")
        self.assertEqual(self.count(), before)
        self.assertIn("exited normally", self.gdb.run("continue"))


if __name__ == "__main__":
    unittest.main()
