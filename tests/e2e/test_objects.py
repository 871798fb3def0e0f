"""Many shared objects that come and go while the program is traced: each block is the
object's that allocated it, though another one was there before, with the same headers.

`tests/run --full e2e/test_objects` does it with 500 of them under gdb.
"""
import os
import re
import shutil
import tempfile
import unittest

from gdbsession import FULL, TestCase, build
from test_preload import traced

UNDER_GDB = (500, 200) if FULL else (40, 30)
FROM_START = 500, 300


class Objects(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.binary = build("objects.c", flags="-O1 -g")
        cls.folder = tempfile.TemporaryDirectory(prefix="tm-objects-")
        cls.addClassCleanup(cls.folder.cleanup)
        library = build("loaded_library.c", name="objects_library.so",
                        flags="-O1 -g -shared -fPIC")
        for number in range(max(UNDER_GDB[0], FROM_START[0])):
            shutil.copy(library, f"{cls.folder.name}/{number}.so")

    def assertBlocks(self, gdb, count):
        """Every object has the blocks that it counted."""
        kept = gdb.python("import gdb; array = gdb.parse_and_eval('blocks'); "
                          f"print([int(array[i]) for i in range({count})])")
        wanted = {f"{number}.so": blocks for number, blocks
                  in enumerate(re.findall(r"\d+", kept)) if blocks != "0"}
        top = gdb.json("tm top module -json -limit unlimited")
        found = {os.path.basename(each["module"]): str(each["count"])
                 for each in top["statistics"] if self.folder.name in str(each["module"])}
        self.assertEqual(found, wanted)
        self.assertEqual(len(wanted), count // 2)
        self.assertEqual(gdb.json("tm status -json")["dropped"], 0)

    def test_under_gdb(self):
        count, rounds = UNDER_GDB
        output = self.enterContext(tempfile.NamedTemporaryFile("r"))
        gdb = self.session(self.binary)
        gdb.run("break checkpoint")
        gdb.run(f"run {self.folder.name} {count} {rounds} >{output.name} </dev/null")
        self.assertStarted(gdb.run("tm start 5"), 5)
        gdb.run("continue")
        self.assertBlocks(gdb, count)
        gdb.run("delete")
        self.assertIn("exited normally", gdb.run("continue"))
        self.assertNotEqual(output.read(), "reused 0\n")

    def test_from_the_start(self):
        count, rounds = FROM_START
        program = self.program(self.binary, self.folder.name, str(count), str(rounds),
                               env=traced())
        self.assertNotIn("reused 0", program.wait_for("\n"))
        gdb = self.session()
        gdb.attach(program)
        self.assertBlocks(gdb, count)


if __name__ == "__main__":
    unittest.main()
