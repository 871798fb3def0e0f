"""Objects that are loaded while the program is traced: their allocators are redirected by
themselves, frames in them have names, and objects that go are no trouble.
"""
import re
import tempfile
import unittest

from gdbsession import ROOT, TestCase, build, executable_pages_differ


class Loaded(TestCase):
    def test_allocators_of_a_loaded_object(self):
        source = (ROOT / "tests" / "e2e" / "loaded_library.c").read_text().splitlines()
        line = next(number for number, text in enumerate(source, 1)
                    if re.search(r"line: malloc", text))
        library = build("loaded_library.c", name="loaded_library.so",
                        flags="-O1 -g -shared -fPIC")
        output = self.enterContext(tempfile.NamedTemporaryFile("r"))
        gdb = self.session(build("loaded.c", flags="-O1 -g"))
        gdb.run("break checkpoint")
        gdb.run(f"run '{library}' >{output.name}")
        self.assertStarted(gdb.run("tm start 3"), 3)
        for turn in (1, 11):
            gdb.run("continue")
            status = gdb.json("tm status -json")
            redirected = {each["function"] for each in status["redirected"]
                          if str(each["module"]).endswith("loaded_library.so")}
            self.assertEqual(redirected, {"mallocx"})
            self.assertEqual(status["dropped"], 0)
            top = gdb.json("tm top function -json -limit unlimited")
            found = {each["function"]: (each["size"], each["count"])
                     for each in top["statistics"]}
            # Loaded elsewhere, the object has its room elsewhere; malloc's blocks pile up.
            self.assertIn(found["main"], [(10000 * loads, 10 * loads)
                                          for loads in range(1, turn + 1)])
            self.assertEqual(found["aligned_alloc_of_its_own"], (500 * turn, 10 * turn))
            top = gdb.json("tm top lineno -json -limit unlimited")
            self.assertIn(("loaded_library.c", line), {
                (str(each["filename"]).rpartition("/")[2], each["lineno"])
                for each in top["statistics"]})
        gdb.run("tm stop")
        self.assertEqual(executable_pages_differ(gdb.inferior_pid()), [])
        gdb.run("delete")
        self.assertIn("exited normally", gdb.run("continue"))
        self.assertEqual(output.read(), "done\n")


if __name__ == "__main__":
    unittest.main()
