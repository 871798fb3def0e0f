"""Exceptions and ending threads unwind through the hooks, and no block after them is missed."""
import pathlib
import tempfile
import unittest

from gdbsession import ROOT, TestCase, build


class Exceptions(TestCase):
    def setUp(self):
        source = (ROOT / "tests" / "e2e" / "exceptions.cc").read_text().splitlines()
        self.line = next(number for number, text in enumerate(source, 1) if "line: deep" in text)

    def blocks(self, gdb):
        """{line: (bytes, blocks)} of the program's own."""
        top = gdb.json("tm top lineno -json -limit unlimited")
        return {each["lineno"]: (each["size"], each["count"]) for each in top["statistics"]
                if (each["filename"] or "").endswith("exceptions.cc")}

    def test_no_block_is_missed_after_an_exception(self):
        output = self.enterContext(tempfile.NamedTemporaryFile("r"))
        gdb = self.session(build("exceptions.cc", flags="-O1 -g -pthread"))
        gdb.run("break checkpoint")
        gdb.run(f"run >{output.name}")
        self.assertStarted(gdb.run("tm start 3"), 3)
        gdb.run("continue")
        gdb.run("continue")
        self.assertEqual(self.blocks(gdb), {self.line: (64 * 1100, 1100)})
        self.assertEqual(gdb.json("tm status -json")["dropped"], 0)
        gdb.run("delete")
        self.assertIn("exited normally", gdb.run("continue"))
        self.assertEqual(output.read(), "1000 caught, 1100 kept\n")

    def test_nor_after_one_of_a_block_that_would_not_have_been_recorded(self):
        gdb = self.session(build("exceptions.cc", flags="-O1 -g -pthread"))
        gdb.run("break checkpoint")
        gdb.run("run")
        gdb.run("set variable huge = (1UL << 40) - 1")
        gdb.run("tm start 3 -min-size 1TiB")
        gdb.run("continue")
        gdb.run("tm stop")
        self.assertStarted(gdb.run("tm start 3"), 3)
        gdb.run("set variable huge = 1UL << 60")
        gdb.run("continue")
        self.assertEqual(self.blocks(gdb), {self.line: (64 * 600, 600)})

    def test_a_start_in_the_middle_of_malloc(self):
        """libgcc 13 calls malloc when it is told of the helper: that has to wait."""
        libgcc = pathlib.Path("/usr/lib/x86_64-linux-gnu/libgcc_s.so.1").read_bytes()
        gdb = self.session(build("exceptions.cc", flags="-O1 -g -pthread"))
        gdb.run("break checkpoint")
        gdb.run("run >/dev/null")
        gdb.run("tbreak malloc")
        gdb.run("continue")
        text = gdb.run("tm start 3")
        if b"GCC_13.0.0" in libgcc:
            self.assertOneLine(text, r"^Thread \d+ is in the allocator at this moment: let ")
            self.assertAtBreakpoint(gdb.run("continue"))
            text = gdb.run("tm start 3")
        self.assertStarted(text, 3)
        gdb.run("delete")
        self.assertIn("exited normally", gdb.run("continue"))


if __name__ == "__main__":
    unittest.main()
