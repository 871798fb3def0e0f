"""The word in each thread's control block that glibc keeps free: used where it is free, and
nowhere else; zero again after `tm stop`.

May use gdbsession.  Must never import gdb or the plugin.
"""
import unittest

from gdbsession import TestCase, build

HEADER = "from tm import process; print(process.find_helper().read_header()['thread_words'])"
OWN = 0x1122334455667788


class ThreadWords(TestCase):
    def started(self, program, *arguments, start="tm start 3 -sample 4KiB"):
        """A gdb at the second checkpoint, traced since the first."""
        gdb = self.session(program)
        gdb.run("break checkpoint")
        self.assertAtBreakpoint(gdb.run("run " + " ".join(arguments)))
        self.assertRegex(gdb.run(start), "^Tracing 3 frames")
        gdb.run("continue")
        return gdb

    def word(self, gdb):
        return gdb.evaluate("*(unsigned long *)($fs_base + 0x38)")

    def test_of_glibc(self):
        gdb = self.started(build("threadwords.c", flags="-O2 -g -pthread"))
        self.assertEqual(gdb.python(HEADER), "1")
        self.assertGreater(gdb.json("tm status -json")["recorded"], 0)
        gdb.run("tm stop")
        self.assertEqual(self.word(gdb), 0)
        for start in ("tm start 3 -sample 4KiB", "tm start 3"):
            gdb.run(start)
            gdb.run("continue")
            self.assertEqual(gdb.python(HEADER), "1")
            gdb.run("tm stop")
        gdb.run("delete")
        self.assertIn("second thread: 0\nfirst thread: 0\n", gdb.run("continue"))

    def test_a_program_that_uses_them(self):
        for which in ("first", "second"):
            with self.subTest(which):
                gdb = self.started(build("threadwords.c", flags="-O2 -g -pthread"), which)
                self.assertEqual(gdb.python(HEADER), "0")
                self.assertGreater(gdb.json("tm status -json")["recorded"], 0)
                gdb.run("delete")
                self.assertIn(f"{which} thread: {OWN:#x}\n", gdb.run("continue"))

    def test_of_threads_that_have_ended(self):
        gdb = self.started(build("threadwords.c", flags="-O2 -g -pthread"), "again",
                           start="tm start 3 -sample 1TiB")
        gdb.run("tm stop")
        gdb.run("tm start 3 -sample 4KiB")
        gdb.run("continue")
        recorded = gdb.json("tm status -json")["recorded"]
        self.assertGreater(recorded, 1500)  # of 10,000 by a chance of 0.22

    def test_of_musl(self):
        program = build("threadwords.c", name="threadwords-musl", compiler="musl-gcc")
        alone = self.session(program)
        alone.run("break checkpoint")
        alone.run("run")
        gdb = self.started(program)
        self.assertEqual(gdb.python(HEADER), "0")
        self.assertGreater(gdb.json("tm status -json")["recorded"], 0)
        alone.run("continue")
        self.assertEqual(self.word(gdb), self.word(alone))


if __name__ == "__main__":
    unittest.main()
