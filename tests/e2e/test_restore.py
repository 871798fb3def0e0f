"""After `tm stop` nothing is left: every executable byte is the file's, and a round of
allocations costs exactly the instructions that it costs in a process that no debugger
ever touched.  `make soak` counts some two million of them.
"""
import subprocess
import unittest

from gdbsession import FULL, TestCase, build, executable_pages_differ


class Restore(TestCase):
    def setUp(self):
        self.gdb = self.session(build("restore.c"))
        self.gdb.run("break round_of_pairs")
        self.gdb.run("run >/dev/null")
        self.gdb.run("delete")
        self.pid = self.gdb.inferior_pid()

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


class Instructions(TestCase):
    ROUNDS = 1000 if FULL else 25

    def setUp(self):
        self.counter = build("countsteps.c", flags="-O2")
        self.binary = build("restore.c", name="restore-no-pie", flags="-O2 -g -no-pie")
        symbols = subprocess.run(["nm", self.binary], stdout=subprocess.PIPE, text=True).stdout
        self.at = {name: "0x" + address for address, kind, name in
                   (line.split() for line in symbols.splitlines() if line.count(" ") == 2)}

    def count(self, program):
        """Instructions of the next batch of rounds, without a debugger."""
        counter = self.program(self.counter, program.pid, self.at["counting_begins"],
                               self.at["counting_ends"])
        counter.wait_for("attached")
        program.write("x")
        return int(counter.finish(300)[1].split()[-1])

    def batch(self, program):
        program.output = b""
        program.write("x")
        program.wait_for("rounds")

    def test_same_as_a_process_never_touched(self):
        untouched = self.program(self.binary, self.ROUNDS)
        self.batch(untouched)
        self.batch(untouched)
        expected = self.count(untouched)
        traced = self.program(self.binary, self.ROUNDS)
        self.batch(traced)
        gdb = self.session()
        gdb.attach(traced)
        self.assertStarted(gdb.run("tm start 10"), 10)
        gdb.run("detach")
        self.batch(traced)
        gdb.attach(traced)
        self.assertGreater(gdb.json("tm status -json")["peak"], 0, "the batch was not traced")
        self.assertNotIn("\n", gdb.run("tm stop"))
        gdb.run("detach")
        self.assertEqual(self.count(traced), expected)
        print(f"{expected} instructions each")


if __name__ == "__main__":
    unittest.main()
