"""_tm.Symbolizer and packages of split debug information (.dwp): the frames of the .dwo files.

May use: _tm, g++, clang++, binutils, llvm-dwp, unittest.  Must never import gdb.
"""
import pathlib
import re
import shutil
import subprocess
import unittest

from test_symbolizer import BIAS, WithProgram

PACKAGES = {"dwp": "binutils, since Debian 13 binutils-gold", "llvm-dwp": "llvm"}


class Packages(WithProgram):
    """Split debug information, put together in one file beside the program."""

    HEADER = """\
#include <cstdlib>
namespace { struct hidden { __attribute__((noinline)) int in(int x) { return x ^ rand(); } }; }
template <class T> inline T limit(T x) {
    if (__builtin_expect(x > 100, 0)) { abort(); }
    return x + rand();
}
inline int twice(int x) { return limit(x) + (x & 1 ? limit(x * 3) : hidden().in(x)); }
"""
    SOURCES = """\
#include "header.h"
int second(int);
int main(int argc, char **) {
    auto f = [](int x) __attribute__((noinline)) { return twice(x) + hidden().in(x); };
    return f(argc) + second(argc);
}
""", """\
#include "header.h"
struct counted {
    int n;
    __attribute__((noinline)) counted &add(int x) { n += twice(x); return *this; }
};
int second(int x) { return counted{x}.add(1).add(twice(x)).n; }
"""

    def compile_split(self, compiler, version):
        (self.folder / "header.h").write_text(self.HEADER)
        for number, source in enumerate(self.SOURCES):
            (self.folder / f"part{number}.cc").write_text(source)
            self.run_tool(compiler, "-O2", "-g", f"-gdwarf-{version}", "-gsplit-dwarf",
                          "-ffunction-sections", "-c", f"part{number}.cc")
        self.run_tool(compiler, "-o", self.program, "part0.o", "part1.o")

    def frames(self):
        """At every byte of the code, and what was said about the file."""
        text = subprocess.run(["readelf", "-WS", self.program], check=True, text=True,
                              stdout=subprocess.PIPE).stdout
        start, size = (int(word, 16) for word in re.search(
            r" \.text +PROGBITS +([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+)", text).groups())
        symbolizer = self.symbolizer()
        found = symbolizer.resolve(range(BIAS + start, BIAS + start + size))
        return found, symbolizer.complaints()

    def package(self, tool, where):
        if not shutil.which(tool):
            self.skipTest(f"{tool} ({PACKAGES[tool]}) is not installed")
        where.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([tool, "-e", self.program, "-o", where], check=True, cwd=self.folder,
                       timeout=20)
        for file in self.folder.glob("*.dwo"):
            file.unlink()

    def each_kind(self, check):
        """Of DWARF 5, dwp makes none, and llvm-dwp 14 does not come to an end with g++'s."""
        for version, tool, compilers in ((4, "dwp", ("g++", "clang++")),
                                         (4, "llvm-dwp", ("g++",)),
                                         (5, "llvm-dwp", ("clang++",))):
            for compiler in filter(shutil.which, compilers):
                with self.subTest(version=version, tool=tool, compiler=compiler):
                    self.compile_split(compiler, version)
                    check(tool)

    def check_frames(self, tool):
        expected = self.frames()
        functions = {frame[2] for frames in expected[0] for frame in frames}
        self.assertLessEqual({"twice", "(anonymous namespace)::hidden::in"}, functions)
        self.package(tool, pathlib.Path(f"{self.program}.dwp"))
        self.assertEqual(self.frames(), expected)

    def test_as_with_the_files_that_went_into_it(self):
        self.each_kind(self.check_frames)

    def test_places(self):
        self.compile_split("g++", 4)
        expected, _ = self.frames()
        package = self.folder / "package"
        self.package("dwp", package)
        self.assertNotEqual(self.frames()[0], expected)
        below = self.debug / str(self.program)[1:]
        for place in (self.program, self.debug / "program", below):
            with self.subTest(place=place):
                place.parent.mkdir(parents=True, exist_ok=True)
                file = pathlib.Path(f"{place}.dwp")
                shutil.copy(package, file)
                self.assertEqual(self.frames(), (expected, []))
                file.unlink()
        name = self.build_id().hex()
        debug = self.debug / ".build-id" / name[:2] / f"{name[2:]}.debug"
        self.split(debug)
        self.run_tool("strip", self.program)
        self.assertNotEqual(self.frames()[0], expected)
        for place in (self.program, debug, debug.with_suffix("")):
            with self.subTest(place=place):
                file = pathlib.Path(f"{place}.dwp")
                shutil.copy(package, file)
                self.assertEqual(self.frames(), (expected, []))
                file.unlink()

    def test_of_another_build(self):
        self.compile_split("g++", 4)
        self.package("dwp", pathlib.Path(f"{self.program}.dwp"))
        self.HEADER = self.HEADER.replace("T x", "T number, T x = 5")
        self.compile_split("g++", 4)
        for file in self.folder.glob("*.dwo"):
            file.unlink()
        found, complaints = self.frames()
        self.assertEqual(complaints, [])
        self.assertFalse(any(frame[5] for frames in found for frame in frames))

    def check_damaged(self, tool):
        file = pathlib.Path(f"{self.program}.dwp")
        self.package(tool, file)
        whole = file.read_bytes()
        listed = subprocess.run(["readelf", "-WS", file], text=True, check=True,
                                stdout=subprocess.PIPE).stdout
        sections = {match[1]: (int(match[2], 16), int(match[3], 16)) for match in re.finditer(
            r"\.debug_(\S+) +PROGBITS +0+ ([0-9a-f]+) ([0-9a-f]+)", listed)}
        for name in ("cu_index", "info.dwo", "abbrev.dwo", "str_offsets.dwo"):
            start, size = sections[name]
            for byte in (b"\xff", b"\x80"):
                with self.subTest(section=name, byte=byte):
                    file.write_bytes(whole[:start] + byte * size + whole[start + size:])
                    found, complaints = self.frames()
                    self.assertEqual(complaints, [(str(self.program), "damaged")])
                    self.assertIn("second", {frames[-1][2] for frames in found if frames})
            for at in range(start + 1, start + size, size // 20 + 1):
                file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x5a]) + whole[at + 1:])
                self.frames()
        file.write_bytes(whole[:len(whole) // 2])
        self.assertEqual(self.frames()[1], [(str(self.program), "damaged")])

    def test_damaged(self):
        self.each_kind(self.check_damaged)


if __name__ == "__main__":
    unittest.main()
