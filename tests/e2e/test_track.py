"""tm.h: a program's own blocks in a domain of their own, with the lines that tracked them.

The tracker variables are filled in while tracing and zero before and after; a
record of another domain at the same address is neither lost nor mistaken.
"""
import re
import subprocess
import unittest

from gdbsession import PROGRAMS, ROOT, TestCase, build

SOURCES = ("track.c", "track_other.cc")


class Track(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lines = {}
        for name in SOURCES:
            text = (ROOT / "tests" / "e2e" / name).read_text().splitlines()
            for number, line in enumerate(text, 1):
                match = re.search(r"line: ([\w ]+?)(?: \*/)?$", line)
                if match:
                    cls.lines[match[1]] = (name, number)
        library = build("track.c", name="libtrack.so",
                        flags="-O2 -g -shared -fPIC -DLIBRARY -Iinclude")
        other = build("track_other.cc", name="track_other.o", flags="-O2 -g -c -Iinclude")
        cls.binary = build("track.c", name="track", flags="-O2 -g -Iinclude",
                           libs=f"'{other}' '{library}' '-Wl,-rpath,{PROGRAMS}'")

    def blocks(self, gdb, domain):
        """{name of the line: (size, count)} of a domain."""
        top = gdb.json(f"tm top lineno -json -limit unlimited -domain {domain}")
        places = {place: name for name, place in self.lines.items()}
        return {places.get((each["filename"].rpartition("/")[2], each["lineno"]), each["lineno"]):
                (each["size"], each["count"]) for each in top["statistics"] if each["filename"]}

    def variables(self, pid):
        """Where each module's tm_tracker is, by its symbol table."""
        found = []
        for path in (self.binary, str(PROGRAMS / "libtrack.so")):
            symbols = subprocess.run(["nm", path], stdout=subprocess.PIPE, text=True).stdout
            offset = int(re.search(r"^(\w+) . tm_tracker$", symbols, re.MULTILINE)[1], 16)
            with open(f"/proc/{pid}/maps") as maps:
                start = next(line for line in maps if line.rstrip().endswith(path))
            found.append(int(start.split("-")[0], 16) + offset)
        return found

    def test_domains(self):
        gdb = self.session(self.binary)
        gdb.run("break checkpoint")
        gdb.run("run")
        variables = self.variables(gdb.inferior_pid())

        def words():
            return [gdb.evaluate(f"*(unsigned long *){place + field:#x}")
                    for place in variables for field in (0, 8)]

        self.assertEqual(words(), [0] * 4)
        self.assertStarted(gdb.run("tm start 5"), 5)
        filled = words()
        self.assertTrue(all(filled))
        self.assertEqual(filled[:2], filled[2:])
        gdb.run("continue")
        self.assertEqual(self.blocks(gdb, 7), {"first": (500, 1), "other": (501, 1),
                                               "library": (502, 1)})
        self.assertEqual(self.blocks(gdb, 8), {"domain 8": (503, 1)})
        text = gdb.run("tm traceback &pool")
        self.assertIn("501 B in domain 7", text)
        self.assertIn("track_other.cc", text)
        self.assertIn("in track_in_other", text)
        self.assertRegex(text, r'track\.c", line \d+, in main')
        gdb.run("continue")
        self.assertEqual(self.blocks(gdb, 7), {"replaced": (600, 1), "library": (502, 1)})
        self.assertEqual(self.blocks(gdb, 8), {"domain 8": (503, 1)})
        gdb.run("continue")
        self.assertEqual(self.blocks(gdb, 7), {"replaced": (600, 1), "library": (502, 1)})
        status = gdb.json("tm status -json")
        self.assertEqual(status["dropped"], 2, "those that could not be stored")
        gdb.run("tm stop")
        self.assertEqual(words(), [0] * 4)
        gdb.run("continue")
        gdb.run("delete")
        self.assertIn("0 0 0 0 -1 -1 0 0 0 -2 -2 ", gdb.run("continue"))

    def test_library_that_comes_and_goes(self):
        late = build("track.c", name="libtrack-late.so",
                     flags="-O2 -g -shared -fPIC -DLIBRARY -Iinclude")
        gdb = self.session(self.binary)
        gdb.run("break checkpoint")
        gdb.run(f"run '{late}'")
        gdb.run("tm start 5")
        gdb.run("continue")
        self.assertEqual(self.blocks(gdb, 7), {"library": (505, 1)})
        gdb.run("continue")
        gdb.run("tm stop")
        gdb.run("delete")
        self.assertIn("exited normally", gdb.run("continue"))

    def test_malloc_and_its_domain_share_an_address(self):
        gdb = self.session(self.binary)
        gdb.run("break checkpoint")
        gdb.run("tm start 5")
        gdb.run("run")
        gdb.run("continue")
        gdb.run("continue")
        self.assertEqual(self.blocks(gdb, 7), {"replaced": (600, 1), "library": (502, 1)})
        self.assertIn("malloc", self.blocks(gdb, 0))
        gdb.run("continue")
        self.assertNotIn("malloc", self.blocks(gdb, 0))
        self.assertEqual(self.blocks(gdb, 7), {"replaced": (600, 1), "library": (502, 1)})

    def test_without_tracer(self):
        done = subprocess.run([self.binary], stdout=subprocess.PIPE, text=True)
        self.assertEqual(done.stdout, "1\n-2 -2 -2 -2 -2 -2 -2 -2 -2 -2 -2 \n")
        code = subprocess.run(["objdump", "-d", "--no-show-raw-insn",
                               "--disassemble=track_in_other", self.binary],
                              stdout=subprocess.PIPE, text=True).stdout
        self.assertEqual(len(re.findall(r"\(%rip\)", code)), 1, "one load")
        self.assertEqual(len(re.findall(r"\btest\b", code)), 1, "one branch")


if __name__ == "__main__":
    unittest.main()
