"""`tm domain`: a program's own allocators, by the names of their functions, and mmap."""
import re
import tempfile
import unittest

from gdbsession import ROOT, TestCase, build

MALLOC, MMAP, POOL = range(3)


class Domains(TestCase):
    def setUp(self):
        source = (ROOT / "tests" / "e2e" / "domains.c").read_text().splitlines()
        self.lines = {match[1]: number for number, text in enumerate(source, 1)
                      for match in [re.search(r"/\* line: (\w+) \*/", text)] if match}
        self.output = self.enterContext(tempfile.NamedTemporaryFile("r"))
        self.gdb = self.session(build("domains.c", flags="-O1 -g"))
        self.gdb.run("break checkpoint")

    def found(self, domain):
        top = self.gdb.json(f"tm top lineno -json -limit unlimited -domain {domain}")
        return {each["lineno"]: (each["size"], each["count"]) for each in top["statistics"]
                if (each["filename"] or "").endswith("domains.c")}

    def check(self):
        lines = self.lines
        self.assertEqual(self.found(POOL), {lines["pool"]: (1500, 15)})
        # The chunk is malloc's own, in its own domain, and so are the blocks below the others.
        self.assertEqual(self.found(MALLOC)[lines["chunk"]], (4096, 1))
        pages = {lines["map"]: (7 * 4096, 2)}
        self.assertEqual({line: each for line, each in self.found(MMAP).items()
                          if line in pages}, pages)
        self.gdb.run("continue")
        self.assertEqual(self.found(POOL), {lines["pool"]: (1400, 14)})
        remapped = {lines["remap"]: (8 * 4096, 1)}
        self.assertEqual({line: each for line, each in self.found(MMAP).items()
                          if line in (lines["map"], lines["remap"])}, remapped)
        self.gdb.run("delete")
        self.assertIn("exited normally", self.gdb.run("continue"))
        self.assertEqual(self.output.read(), "done\n")

    def test_declared_before_start(self):
        self.assertEqual(self.gdb.run("tm domain add pool -alloc pool_alloc:2 -free pool_free:2"),
                         'Domain 2 (pool) is traced from the next "tm start" on.')
        self.gdb.run("tm domain add mmap")
        self.gdb.run(f"run >{self.output.name}")
        self.assertStarted(self.gdb.run("tm start 5"), 5)
        self.gdb.run("continue")
        self.check()

    def test_declared_while_tracing(self):
        self.gdb.run(f"run >{self.output.name}")
        self.assertStarted(self.gdb.run("tm start 5"), 5)
        self.assertEqual(self.gdb.run("tm domain add pool -alloc pool_alloc:2 -free pool_free:2"),
                         "Domain 2 (pool): 2 functions redirected.")
        self.assertEqual(self.gdb.run("tm domain add mmap"),
                         "Domain 1 (mmap): 3 functions redirected.")
        self.assertOneLine(self.gdb.run("tm domain remove pool"), r'"tm stop" comes first\.$')
        self.gdb.run("continue")
        self.check()

    def test_shapes(self):
        self.gdb.run("tm domain add stored -alloc store_block:3>1 -free free")
        self.gdb.run("tm domain add counted -alloc count_blocks:2*1 -free cfree "
                     "-realloc resize_block:1:2")
        self.gdb.run(f"run >{self.output.name}")
        self.gdb.run("tm start 5")
        self.gdb.run("continue")
        self.assertEqual(self.found(2), {self.lines["store"]: (777, 1)})

    def test_list_and_remove(self):
        self.gdb.run("tm domain add pool -alloc pool_alloc:2 -free pool_free:2")
        for line in ("tm domain list", "tm domain"):
            self.assertEqual(self.gdb.run(line),
                             "0 malloc: malloc and its family, operator new and delete\n"
                             "2 pool: pool_alloc, pool_free")
            self.assertEqual(self.gdb.json(line + " -json")["domains"][1:],
                             [{"number": 2, "name": "pool",
                               "functions": ["pool_alloc", "pool_free"]}])
        self.assertOneLine(self.gdb.run("tm domain add pool -alloc a -free b"),
                           "^There is a domain pool already")
        self.assertEqual(self.gdb.run("tm domain remove pool"), "Domain 2 (pool) removed.")
        self.assertOneLine(self.gdb.run("tm domain remove pool"), "^There is no domain pool")

    def test_wrong_usage(self):
        self.gdb.run("run")
        self.gdb.run("tm start")
        for line, pattern in (
                ("tm domain add", "NAME"),
                ("tm domain add pool", "needs -alloc FUNC and -free FUNC"),
                ("tm domain add pool -alloc nosuch -free pool_free", "^No function nosuch"),
                ("tm domain add pool -alloc pool_alloc:9 -free pool_free", "counted from 1 to 6"),
                ("tm domain add 'a b' -alloc pool_alloc -free pool_free", "name"),
                ("tm domain add malloc -alloc pool_alloc -free pool_free", "already")):
            self.assertOneLine(self.gdb.run(line), pattern)


if __name__ == "__main__":
    unittest.main()
