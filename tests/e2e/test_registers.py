"""Functions whose callers count on the registers that they leave alone."""
import tempfile
import unittest

from gdbsession import TestCase, build

POOL = 2


class Registers(TestCase):
    def setUp(self):
        self.output = self.enterContext(tempfile.NamedTemporaryFile("r"))
        self.gdb = self.session(build("registers.c"))
        self.gdb.run("tm domain add pool -alloc pool_alloc:1 -free pool_free:1")
        self.gdb.run("break one_round")
        self.gdb.run(f"run >{self.output.name}")

    def finish(self):
        self.gdb.run("delete")
        self.assertIn("exited normally", self.gdb.run("continue"))
        self.assertEqual(self.output.read(), "registers changed: 0\n")

    def test_every_block_recorded(self):
        self.assertStarted(self.gdb.run("tm start 5"), 5)
        self.gdb.run("delete")
        self.gdb.run("break printf")
        self.gdb.run("continue")
        for domain, size in ((0, 32), (POOL, 48)):
            top = self.gdb.json(f"tm top traceback -json -limit unlimited -domain {domain}")
            self.assertIn((1000 * size, 1000), [(each["size"], each["count"])
                                                for each in top["statistics"]])
        self.finish()

    def test_sampled(self):
        self.gdb.run("tm start 5 -sample 1KiB")
        self.finish()

    def test_stopped_on_the_way_to_the_helper(self):
        """Wherever the thread stands on its way, nothing is lost when the tracing stops."""
        for steps in range(1, 9):
            for function in ("pool_alloc", "pool_free"):
                with self.subTest(steps=steps, function=function):
                    self.gdb.run("delete")
                    self.assertStarted(self.gdb.run("tm start 5"), 5)
                    self.gdb.run(f"tbreak *{function}")
                    self.gdb.run("continue")
                    self.gdb.run(f"stepi {steps}")
                    self.gdb.run("tm stop")
                    self.gdb.run("tbreak one_round")
                    self.gdb.run("continue")
        self.finish()


if __name__ == "__main__":
    unittest.main()
