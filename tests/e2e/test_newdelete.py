"""C++: the most recent frame of a block is the caller of `new`, not the allocator, whichever
library provides it; and std::bad_alloc passes through a redirected operator new.
"""
import re
import tempfile
import unittest

from gdbsession import ROOT, TestCase, build

SIZES = dict(zip(("plain", "array", "nothrow", "nothrow array", "aligned", "aligned array",
                  "aligned nothrow", "last"), range(1001, 1009)), wide=256)


class NewDelete(TestCase):
    def check(self, name, libraries, throws=True):
        lines = {}
        source = (ROOT / "tests" / "e2e" / "newdelete.cc").read_text().splitlines()
        for number, text in enumerate(source, 1):
            match = re.search(r"// line: (.*)", text)
            if match:
                lines[number] = SIZES[match[1]]
        output = self.enterContext(tempfile.NamedTemporaryFile("r"))
        gdb = self.session(build("newdelete.cc", name=name, flags="-O2 -g -std=c++17",
                                 libs=libraries))
        gdb.run("break checkpoint")
        gdb.run(f"run {'' if throws else 'quietly'} >{output.name}")
        self.assertStarted(gdb.run("tm start 10"), 10)
        gdb.run("continue")
        top = gdb.json("tm top lineno -json -limit unlimited")
        found = {each["lineno"]: each["size"] for each in top["statistics"]
                 if (each["filename"] or "").endswith("newdelete.cc")}
        self.assertEqual(found, lines)
        gdb.run("continue")
        top = gdb.json("tm top lineno -json -limit unlimited")
        self.assertEqual([each for each in top["statistics"]
                          if (each["filename"] or "").endswith("newdelete.cc")], [])
        gdb.run("delete")
        self.assertIn("exited normally", gdb.run("continue"))
        self.assertEqual(output.read().splitlines()[-3:],
                         ["caught bad_alloc", "caught bad_alloc", "null"] if throws else [])

    def test_libstdcxx(self):
        self.check("newdelete", "")

    def test_tcmalloc(self):
        self.check("newdelete-tcmalloc", "-Wl,--no-as-needed -ltcmalloc_minimal")

    def test_mimalloc(self):
        # Debian's mimalloc is compiled as C: it aborts where operator new should throw.
        self.check("newdelete-mimalloc", "-Wl,--no-as-needed -lmimalloc", throws=False)

    def test_jemalloc(self):
        self.check("newdelete-jemalloc", "-Wl,--no-as-needed -ljemalloc")

    def test_static_libstdcxx(self):
        self.check("newdelete-static-libstdcxx", "-static-libstdc++ -static-libgcc")


if __name__ == "__main__":
    unittest.main()
