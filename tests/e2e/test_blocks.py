"""`tm traces -address`: the very blocks the program holds, live and from a core.

May use gdbsession.  Must never import gdb: the tests see what a person sees.
"""
import os
import tempfile
import unittest

from gdbsession import ROOT, TestCase, build

SOURCE = ROOT / "tests" / "e2e" / "reports.c"


def line_of(mark):
    return next(number for number, line in enumerate(SOURCE.read_text().splitlines(), 1)
                if f"/* {mark} */" in line)


class Addresses(TestCase):
    def setUp(self):
        self.gdb = self.session(build("reports.c"))
        for command in ("break checkpoint", "run", "tm start 10", "continue"):
            self.gdb.run(command)
        self.source = self.gdb.json("tm top -json -limit 1")["statistics"][0]["filename"]

    def kept(self):
        """Addresses of the program's blocks, lowest first."""
        return sorted(self.gdb.evaluate(f"(long) leaks[{place}]") for place in range(20))

    def lines(self, addresses, mark, size="1000 B"):
        return "\n".join(f"{address:#x}: {self.source}:{line_of(mark)}: {size}"
                         for address in addresses)

    def test_blocks_are_the_program_s_own(self):
        leaks, table = self.kept(), self.gdb.evaluate("(long) table")
        self.assertEqual(self.gdb.run("tm traces -address -limit 3"),
                         self.lines(leaks[:3], "inlined"))
        document = self.gdb.json("tm traces -address -json -limit unlimited")
        self.assertEqual(document["command"], "traces")
        self.assertEqual([(int(each["address"], 16), each["size"], each["count"], each["domain"])
                          for each in document["traces"]],
                         [(address, 1000, 1, 0) for address in sorted(leaks + [table])])
        grouped = self.gdb.json("tm traces -json")["traces"]
        self.assertEqual([each["address"] for each in grouped], [None] * len(grouped))
        frames = {each["count"]: each["frames"] for each in grouped}[20]
        self.assertEqual(document["traces"][0]["frames"], frames)

    def test_sizes_come_first_then_addresses(self):
        self.gdb.run("continue")
        shown = self.gdb.json("tm traces -address -json -limit unlimited")["traces"]
        order = [(-each["size"], int(each["address"], 16)) for each in shown]
        self.assertEqual(order, sorted(order))
        self.assertEqual(len(shown), 41)
        self.assertEqual(shown[-1]["size"], 77)

    def test_filters_and_skipped_functions_count(self):
        table = self.gdb.evaluate("(long) table")
        self.gdb.run(f"tm filter add *reports.c:{line_of('table')}")
        self.assertEqual(self.gdb.run("tm traces -address"), self.lines([table], "table"))
        self.gdb.run("tm filter clear")
        self.gdb.run(f"tm filter add -exclude *reports.c:{line_of('inlined')}")
        self.assertEqual(self.gdb.run("tm traces -address"), self.lines([table], "table"))
        self.gdb.run("tm filter clear")
        self.gdb.run("tm skip wrapper")
        self.assertEqual(self.gdb.run("tm traces -address -limit 1"),
                         self.lines(self.kept()[:1], "leak"))
        self.gdb.run("tm skip -clear")
        self.gdb.run("set tm inline off")
        self.assertEqual(self.gdb.run("tm traces -address -limit 1"),
                         self.lines(self.kept()[:1], "leak"))
        self.assertEqual(self.gdb.run("tm traces -address -domain 1"), "No traces.")

    def test_a_core_tells_the_same(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        core = os.path.join(folder, "core")
        live = self.gdb.run("tm traces -address -json -limit unlimited")
        self.gdb.run(f"gcore {core}")
        dead = self.session(build("reports.c"), core)
        self.assertEqual(dead.run("tm traces -address -json -limit unlimited"), live)

    def test_snapshots_keep_none(self):
        self.gdb.run("tm snapshot before")
        self.assertEqual(self.gdb.run("tm traces before -address"),
                         'Snapshot before keeps no addresses: "tm traces -address" without a name '
                         "shows those of the process or core.")
        self.assertOneLine(self.gdb.run("tm traces nosuch -address"), '^No snapshot "nosuch"')
        self.gdb.run("tm stop")
        self.assertOneLine(self.gdb.run("tm traces -address"), "^The process is not being traced")
        self.gdb.run("kill")
        self.assertEqual(self.gdb.run("tm traces -address"),
                         "There is no process or core to read addresses from, and snapshots keep "
                         "none.")


if __name__ == "__main__":
    unittest.main()
