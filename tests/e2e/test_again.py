"""Another gdb, another day: it finds the tracing that an earlier one began, and goes on with it."""
import os
import shutil
import tempfile
import unittest

from gdbsession import LIMIT, TestCase, build, executable_pages_differ


class Again(TestCase):
    def setUp(self):
        self.process = self.program(build("again.c"))
        self.process.wait_for("ready")

    def keep(self, blocks):
        """The program keeps BLOCKS more; it is running, with or without a debugger."""
        for each in range(blocks):
            before = self.process.output.count(b"kept")
            self.process.write("x")
            while self.process.output.count(b"kept") == before:
                self.assertTrue(self.process.read(LIMIT), "the program stands still")

    def kept(self, gdb):
        return [(each["count"], each["size"]) for each in gdb.json("tm top -json")["statistics"]
                if each["function"] == "keep_one"]

    def test_detach_and_attach_again(self):
        gdb = self.session()
        gdb.attach(self.process)
        self.assertStarted(gdb.run("tm start 5"), 5)
        gdb.run("detach")
        self.keep(3)
        gdb.attach(self.process)
        self.assertEqual(self.kept(gdb), [(3, 9000)])
        gdb.run("detach")
        self.keep(1)
        gdb.attach(self.process)
        self.assertEqual(self.kept(gdb), [(4, 12000)])
        self.assertNotIn("\n", gdb.run("tm stop"))
        self.assertEqual(executable_pages_differ(self.process.pid), [])

    def test_another_gdb_continues(self):
        first = self.session()
        first.attach(self.process)
        self.assertStarted(first.run("tm start 5"), 5)
        first.run("detach")
        first.close()
        self.keep(3)
        second = self.session()
        second.attach(self.process)
        status = second.json("tm status -json")
        self.assertEqual((status["tracing"], status["traceback_limit"], status["blocks"],
                          status["tracebacks"]), (True, 5, 3, 1))
        self.assertOneLine(second.run("tm start 9"), r"(?i)already tracing.*\b5\b")
        self.assertEqual(self.kept(second), [(3, 9000)])
        block = second.evaluate("(unsigned long)kept[1]")
        self.assertRegex(second.run(f"tm traceback {block:#x} + 100"),
                         rf"\A{block:#x}: 3000 B in domain 0 \(malloc\), allocated at \(oldest "
                         r"call first\):\n(.*\n)*.*again\.c\", line \d+, in keep_one")
        self.assertNotIn("\n", second.run("tm stop"))
        self.assertEqual(executable_pages_differ(self.process.pid), [])
        self.assertStarted(second.run("tm start 2"), 2)
        second.run("detach")
        self.keep(2)
        third = self.session()
        third.attach(self.process)
        self.assertEqual(self.kept(third), [(2, 6000)])
        third.run("tm stop")
        self.assertEqual(executable_pages_differ(self.process.pid), [])
        third.run("detach")
        self.process.process.stdin.close()
        self.assertEqual(self.process.finish()[1].splitlines()[-1], "5 blocks")

    def test_gdb_was_killed(self):
        first = self.session()
        first.attach(self.process)
        self.assertStarted(first.run("tm start 5"), 5)
        first.send("continue")
        self.keep(2)
        first.process.kill()
        first.process.wait()
        self.keep(1)
        second = self.session()
        second.attach(self.process)
        self.assertEqual(self.kept(second), [(3, 9000)])
        second.run("tm stop")
        for path in executable_pages_differ(self.process.pid):
            self.assertIn("/ld-linux", path, "more than the breakpoint that a killed gdb leaves")

    def test_clear_and_reset_peak(self):
        gdb = self.session()
        gdb.attach(self.process)
        gdb.run("tm start 5")
        gdb.run("detach")
        self.keep(4)
        gdb.attach(self.process)
        gdb.run("tm clear")
        status = gdb.json("tm status -json")
        self.assertEqual((status["tracing"], status["blocks"], status["current"]), (True, 0, 0))
        gdb.run("detach")
        self.keep(1)
        gdb.attach(self.process)
        gdb.run("tm reset-peak")
        status = gdb.json("tm status -json")
        self.assertEqual((status["blocks"], status["current"], status["peak"]), (1, 3000, 3000))


class Deleted(TestCase):
    @unittest.skipUnless(os.getuid() == 0, "only root may open the file behind a mapping")
    def test_program_whose_file_is_gone(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        process = self.program(shutil.copy(build("again.c"), folder + "/moved"))
        process.wait_for("ready")
        os.unlink(folder + "/moved")
        gdb = self.session()
        gdb.attach(process)
        self.assertStarted(gdb.run("tm start 5"), 5)
        gdb.run("detach")
        process.write("x")
        process.wait_for("kept")
        gdb.attach(process)
        self.assertEqual([(each["function"], each["count"], each["size"])
                          for each in gdb.json("tm top -json")["statistics"]],
                         [("keep_one", 1, 3000)])
        gdb.run("tm stop")


if __name__ == "__main__":
    unittest.main()
