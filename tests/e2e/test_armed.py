"""`tm start` before `run` traces from before the first constructor, of this run and the next."""
import unittest

from gdbsession import TestCase, build


class Armed(TestCase):
    def check(self, gdb):
        self.assertAtBreakpoint(gdb.run("run >/dev/null"))
        status = gdb.json("tm status -json")
        self.assertEqual((status["tracing"], status["traceback_limit"]), (True, 10))
        sizes = {each["size"] for each in gdb.json("tm top -json -limit 100")["statistics"]
                 if (each["filename"] or "").endswith("armed.cc")}
        self.assertEqual(sizes, {4321, 1234})

    def test_run(self):
        gdb = self.session(build("armed.cc"))
        self.assertNotIn("\n", gdb.run("tm start 10"))
        gdb.run("break checkpoint")
        self.check(gdb)
        self.assertIn("exited normally", gdb.run("continue"))

    def test_stop_disarms(self):
        gdb = self.session(build("armed.cc"))
        gdb.run("tm start 10")
        gdb.run("tm stop")
        gdb.run("break checkpoint")
        gdb.run("run >/dev/null")
        self.assertFalse(gdb.json("tm status -json")["tracing"])

    def test_position_dependent_program(self):
        gdb = self.session(build("armed.cc", name="armed-no-pie", flags="-O2 -g -no-pie"))
        gdb.run("tm start 10")
        gdb.run("break checkpoint")
        self.check(gdb)
        self.assertIn("exited normally", gdb.run("continue"))


if __name__ == "__main__":
    unittest.main()
