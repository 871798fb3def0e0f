"""tm tree, tm stats and tm check of a program whose blocks are known.

May use gdbsession.  Must never import gdb: the tests see what a person sees.
"""
import os
import tempfile
import unittest

from gdbsession import TestCase, batch, build


class Overview(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.executable = build("tests/e2e/reports.c")

    def setUp(self):
        self.gdb = self.session(self.executable)
        self.gdb.run("break checkpoint")
        self.gdb.run("run")
        self.assertStarted(self.gdb.run("tm start 10"), 10)
        self.gdb.run("continue")
        self.gdb.run("tm snapshot")
        self.gdb.run("continue")

    def test_tree(self):
        text = self.gdb.run("tm tree")
        self.assertRegex(text, r"\A\[ Call tree, oldest call first \]\n100\.0% +39\.1 KiB  41  ")
        self.assertRegex(text, r"(?m)^ 49\.9% +19\.5 KiB  20    main \(reports\.c:\d+\)\n"
                               r" {25}leak \(reports\.c:\d+\)\n {25}wrapper \(reports\.c:\d+\)$")
        self.assertTrue(text.endswith("\nTotal allocated size: 39.1 KiB"))
        self.assertIn("1 smaller", text)
        self.assertNotIn("smaller", self.gdb.run("tm tree -min 0"))
        inverted = self.gdb.run("tm tree -invert 1").splitlines()
        self.assertRegex(inverted[1], r"^ 95\.2% +19\.5 KiB  20  wrapper \(reports\.c:\d+\)$")
        document = self.gdb.json("tm tree -json -invert")
        self.assertEqual(document["total_size"], self.gdb.json("tm top -json")["total_size"])
        self.assertEqual(sum(node["size"] for node in document["nodes"]
                             if node["parent"] is None), document["total_size"])
        self.assertOneLine(self.gdb.run("tm tree -min 101"),
                           r"^-min must be a number from 0 to 100, not 101\.$")

    def test_stats(self):
        text = self.gdb.run("tm stats")
        self.assertRegex(text, r"\ASnapshot now: 41 blocks, 39\.1 KiB, 3 tracebacks "
                               r"\(limit 10\)\.\nA block has 977 B on average, median 1000 B, ")
        self.assertRegex(text, r"(?m)^512 - 1023 B +40  39\.1 KiB  #{40}$")
        self.assertRegex(text, r"(?m)^Process \d+: .* resident \(.* anonymous, .* shared\)\.$")
        document = self.gdb.json("tm stats -json")
        self.assertEqual(document["process"]["traced"], document["total_size"])
        with open(f"/proc/{self.gdb.inferior_pid()}/status") as status:
            resident = next(line for line in status if line.startswith("VmRSS:")).split()[1]
        self.assertEqual(document["process"]["resident"], int(resident) * 1024)
        self.assertNotIn("Process", self.gdb.run("tm stats 1"))
        self.assertIsNone(self.gdb.json("tm stats 1 -json")["process"])

    def test_check(self):
        self.assertOneLine(
            self.gdb.run("tm check -max-growth 1KiB 1"),
            r"^The heap grew by 18\.6 KiB from 1 to now \(20\.5 KiB to 39\.1 KiB, \+20 blocks\), "
            r"more than the 1024 B allowed, most at .*reports\.c:\d+ \(\+19\.5 KiB\)\.$")
        self.assertOneLine(self.gdb.run("tm check 1 now -max-growth 20KiB"),
                           r"no more than the 20\.0 KiB allowed\.$")
        self.assertIs(self.gdb.json("tm check 1 -json -max-growth 20KiB")["ok"], True)
        text = self.gdb.run("tm check 1 -json -max-growth 0").splitlines()
        self.assertIn('"ok":false', text[0])
        self.assertIn("more than the 0 B allowed", text[1])
        self.assertOneLine(self.gdb.run("tm check 1"), r"^Option -max-growth is missing")
        self.assertOneLine(self.gdb.run("tm check 7 -max-growth 1"), r'^No snapshot "7"')

    def test_check_fails_a_batch(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.gdb.run("tm snapshot")
        for name in ("1", "2"):
            self.gdb.run(f"tm dump {os.path.join(folder, name)} {name}")
        loads = [f"tm load {os.path.join(folder, name)} {name}" for name in ("1", "2")]
        for allowed, wanted in (("1KiB", 1), ("20KiB", 0)):
            status, text = batch(*loads, f"tm check -max-growth {allowed} 1 2")
            self.assertEqual(status, wanted, text)


if __name__ == "__main__":
    unittest.main()
