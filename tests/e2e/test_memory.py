"""Out of memory in the helper: the program goes on, what was lost is counted and told."""
import re
import tempfile
import unittest

from gdbsession import ROOT, TestCase, build

BLOCKS = 200_000
LIMIT = ("import resource, gdb\n"
         "pid = gdb.selected_inferior().pid\n"
         "size = int(open('/proc/%d/statm' % pid).read().split()[0]) * 4096\n"
         "resource.prlimit(pid, resource.RLIMIT_AS, ({0}, resource.RLIM_INFINITY))\n")


class Memory(TestCase):
    def setUp(self):
        self.output = self.enterContext(tempfile.NamedTemporaryFile("r"))
        self.gdb = self.session(build("memory.c", flags="-O1 -g"))
        self.gdb.run("set environment MALLOC_TRIM_THRESHOLD_=-1")
        self.gdb.run("break checkpoint")
        self.assertAtBreakpoint(self.gdb.run(f"run >{self.output.name}"))

    def limit(self, expression):
        self.assertEqual(self.gdb.python(LIMIT.format(expression)), "")

    def lines(self):
        source = (ROOT / "tests" / "e2e" / "memory.c").read_text().splitlines()
        return next(number for number, text in enumerate(source, 1) if "line: fill" in text)

    def finish(self):
        for stop in range(6):
            text = self.gdb.run("continue")
            if "exited" in text:
                break
        self.assertIn("exited with code 03", text)
        self.assertEqual(self.output.read(), f"sum {sum(i % 256 for i in range(BLOCKS))}\n")

    def test_records_are_dropped_and_counted(self):
        self.assertStarted(self.gdb.run("tm start 3"), 3)
        self.gdb.run("continue")
        before = self.gdb.json("tm status -json")
        self.assertEqual((before["blocks"], before["dropped"]), (BLOCKS // 100, 0))
        self.limit("size")
        self.assertAtBreakpoint(self.gdb.run("continue"))
        after = self.gdb.json("tm status -json")
        self.assertGreater(after["dropped"], 1000)
        self.assertEqual(after["blocks"] + after["dropped"], BLOCKS - 1)
        told = f"{after['dropped']} records were dropped: what is shown is incomplete."
        self.assertIn(f"Dropped records: {after['dropped']}.", self.gdb.run("tm status"))
        for command in ("tm snapshot 1", "tm top", "tm top -domain 0", "tm traces", "tm diff 1",
                        "tm traces -address", "tm traceback 16"):
            self.assertEqual(self.gdb.run(command).splitlines()[-1], told, command)
        top = self.gdb.json("tm top -json")
        self.assertEqual(top["dropped"], after["dropped"])
        self.assertEqual([(each["lineno"], each["count"]) for each in top["statistics"]],
                         [(self.lines(), after["blocks"])])
        self.gdb.run("continue")
        emptied = self.gdb.json("tm status -json")
        self.assertEqual(emptied["blocks"], 0)
        self.assertEqual(emptied["untracked_frees"], after["dropped"] + 1)
        self.limit("resource.RLIM_INFINITY")
        self.gdb.run("continue")
        again = self.gdb.json("tm status -json")
        self.assertEqual((again["blocks"], again["dropped"]), (1000, after["dropped"]))
        self.finish()

    def test_clear_and_stop_without_memory(self):
        self.gdb.run("tm start 3")
        self.gdb.run("continue")
        self.limit("size")
        self.gdb.run("continue")
        dropped = self.gdb.json("tm status -json")["dropped"]
        self.assertOneLine(self.gdb.run("tm clear"), "^The process could not clear the traces: "
                           "out of memory")
        self.assertEqual(self.gdb.json("tm status -json")["dropped"], dropped)
        self.assertOneLine(self.gdb.run("tm stop"), "^Tracing stopped: ")
        self.assertFalse(self.gdb.json("tm status -json")["tracing"])
        self.finish()

    def test_start_without_memory(self):
        for room in range(0, 4 << 20, 512 << 10):
            self.limit(f"size + {room}")
            text = self.gdb.run("tm start 3")
            if re.match("Tracing 3 frames", text):
                break
            self.assertOneLine(text, "out of memory")
            self.assertFalse(self.gdb.json("tm status -json")["tracing"])
        self.assertGreater(room, 0)
        self.finish()


if __name__ == "__main__":
    unittest.main()
