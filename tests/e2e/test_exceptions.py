"""Exceptions and ending threads unwind through the hooks, and no block after them is missed."""
import tempfile
import unittest

from gdbsession import ROOT, TestCase, build


class Exceptions(TestCase):
    def test_no_block_is_missed_after_an_exception(self):
        output = self.enterContext(tempfile.NamedTemporaryFile("r"))
        source = (ROOT / "tests" / "e2e" / "exceptions.cc").read_text().splitlines()
        line = next(number for number, text in enumerate(source, 1) if "line: deep" in text)
        gdb = self.session(build("exceptions.cc", flags="-O1 -g -pthread"))
        gdb.run("break checkpoint")
        gdb.run(f"run >{output.name}")
        self.assertStarted(gdb.run("tm start 3"), 3)
        gdb.run("continue")
        top = gdb.json("tm top lineno -json -limit unlimited")
        found = {each["lineno"]: (each["size"], each["count"]) for each in top["statistics"]
                 if (each["filename"] or "").endswith("exceptions.cc")}
        self.assertEqual(found, {line: (64 * 1100, 1100)})
        self.assertEqual(gdb.json("tm status -json")["dropped"], 0)
        gdb.run("delete")
        self.assertIn("exited normally", gdb.run("continue"))
        self.assertEqual(output.read(), "1000 caught, 1100 kept\n")


if __name__ == "__main__":
    unittest.main()
