"""_tm.Symbolizer and the files around it: separate debug files, files that go or change.

May use: _tm, gcc, clang, binutils, dwz, xz, unittest.  Must never import gdb.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, os.environ.get("TM_BUILD", str(ROOT / "build")))

import _tm  # noqa: E402

BIAS = 0x7F1234000000
SOURCE = """\
static int helper(int x) { return x * 3 + 1; }
__attribute__((noinline)) int outer(int x)
{
    volatile int y = helper(x);
    return y;
}
int main(void) { return outer(4); }
"""


class WithProgram(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.program = self.folder / "bin" / "program"
        self.debug = self.folder / "debug"
        self.program.parent.mkdir()
        self.debug.mkdir()
        (self.folder / "source.c").write_text(SOURCE)
        self.compile()

    def run_tool(self, *command):
        subprocess.run([str(part) for part in command], check=True, cwd=self.folder)

    def compile(self, *flags):
        self.run_tool("gcc", "-g", "-O1", *flags, "-o", self.program, "source.c")

    def address(self, name="outer"):
        return BIAS + _tm.functions(str(self.program), [name])[0][1] + 1

    def symbolizer(self, build_id=b"", **more):
        symbolizer = _tm.Symbolizer(debug_directories=[str(self.debug)])
        symbolizer.add_module(str(self.program), BIAS, BIAS + 0x100000, BIAS, build_id, **more)
        return symbolizer

    def function_and_line(self, symbolizer, address):
        file, line, function, module, offset, inlined = symbolizer.resolve([address])[0][-1]
        self.assertEqual(module, str(self.program))
        return function, line, file and os.path.basename(file)

    def build_id(self):
        return _tm.elf_segments(str(self.program))["build_id"]

    def split(self, where):
        where.parent.mkdir(parents=True, exist_ok=True)
        self.run_tool("objcopy", "--only-keep-debug", self.program, where)


class Files(WithProgram):
    def test_debug_info_in_the_file(self):
        symbolizer = self.symbolizer()
        frames = symbolizer.resolve([self.address()])[0]
        self.assertEqual(frames[-1][0], str(self.folder / "source.c"))
        self.assertEqual(frames[-1][2:5], ("outer", str(self.program), 1))

    def test_only_its_own_files_are_closed(self):
        def is_open(descriptor):
            return os.path.lexists(f"/proc/self/fd/{descriptor}")

        before = [descriptor for descriptor in range(50) if is_open(descriptor)]
        self.symbolizer().resolve([self.address()])
        self.symbolizer().clear()
        self.assertEqual([descriptor for descriptor in range(50) if is_open(descriptor)], before)

    def test_symbols_alone(self):
        address = self.address()
        self.run_tool("strip", "--strip-debug", self.program)
        self.assertEqual(self.function_and_line(self.symbolizer(), address), ("outer", 0, None))

    def test_stripped(self):
        address = self.address()
        self.run_tool("strip", self.program)
        self.assertEqual(self.symbolizer().resolve([address]),
                         [[(None, 0, None, str(self.program), address - BIAS, False)]])

    def test_debug_file_by_build_id(self):
        address, name = self.address(), self.build_id().hex()
        self.split(self.debug / ".build-id" / name[:2] / f"{name[2:]}.debug")
        self.run_tool("strip", self.program)
        self.assertEqual(self.function_and_line(self.symbolizer(), address),
                         ("outer", 4, "source.c"))

    def test_debug_file_without_the_program(self):
        address, build_id = self.address(), self.build_id()
        name = build_id.hex()
        self.split(self.debug / ".build-id" / name[:2] / f"{name[2:]}.debug")
        self.program.unlink()
        self.assertEqual(self.function_and_line(self.symbolizer(build_id), address),
                         ("outer", 4, "source.c"))

    def link(self, where, *flags):
        self.compile(*flags)
        address = self.address()
        self.split(where)
        self.run_tool("strip", self.program)
        self.run_tool("objcopy", f"--add-gnu-debuglink={where}", self.program)
        return address

    def test_debug_file_by_link(self):
        for where in (self.program.parent, self.program.parent / ".debug",
                      self.debug / str(self.program.parent)[1:]):
            for flags in ((), ("-Wl,--build-id=none",)):
                with self.subTest(where=where, flags=flags):
                    address = self.link(where / "program.debug", *flags)
                    self.assertEqual(self.function_and_line(self.symbolizer(), address),
                                     ("outer", 4, "source.c"))
                    (where / "program.debug").unlink()

    def test_debug_file_of_another_build_is_not_used(self):
        for flags in ((), ("-Wl,--build-id=none",)):
            with self.subTest(flags=flags):
                where = self.program.parent / "program.debug"
                address = self.link(where, *flags)
                kept = self.program.read_bytes()
                self.compile("-DOTHER", "-O2", *flags)
                self.split(where)
                self.program.write_bytes(kept)
                self.assertEqual(self.function_and_line(self.symbolizer(), address),
                                 (None, 0, None))

    def test_file_of_another_build_is_not_used(self):
        address, build_id = self.address(), self.build_id()
        self.compile("-O2")
        self.assertEqual(self.function_and_line(self.symbolizer(build_id), address),
                         (None, 0, None))

    def test_file_that_is_gone(self):
        address = self.address()
        self.program.unlink()
        self.assertEqual(self.function_and_line(self.symbolizer(), address), (None, 0, None))

    def test_file_that_goes_after_it_was_opened(self):
        address, symbolizer = self.address(), self.symbolizer()
        before = symbolizer.resolve([address])
        self.program.unlink()
        self.assertEqual(symbolizer.resolve([address]), before)
        self.assertEqual(symbolizer.resolve([address + 1])[0][-1][2], "outer")

    def test_file_that_shrinks_after_it_was_opened(self):
        """As `cp` and `strip` leave it for a moment; one that is mapped raises SIGBUS then."""
        for stripped, place in ((False, ("outer", 4, "source.c")), (True, ("outer", 0, None))):
            self.compile("-gz")
            address, symbolizer = self.address(), self.symbolizer()
            if stripped:
                self.run_tool("strip", "--strip-debug", self.program)
            symbolizer.resolve([BIAS + 0xFFFFF])  # opens it; nothing is there
            os.truncate(self.program, 0)
            self.assertEqual(self.function_and_line(symbolizer, address), place)

    def test_file_that_changed_is_opened_again(self):
        symbolizer, first = self.symbolizer(), self.address()
        self.assertEqual(self.function_and_line(symbolizer, first)[0], "outer")
        (self.folder / "source.c").write_text("\n" * 20 + SOURCE.replace("outer", "renamed"))
        self.program.unlink()
        self.compile()
        symbolizer.add_module(str(self.program), BIAS, BIAS + 0x100000, BIAS)
        self.assertEqual(self.function_and_line(symbolizer, self.address("renamed")),
                         ("renamed", 24, "source.c"))

    def test_file_opened_at_another_place(self):
        address = self.address()
        moved = self.folder / "moved"
        self.program.rename(moved)
        self.assertEqual(self.function_and_line(self.symbolizer(file=str(moved)), address),
                         ("outer", 4, "source.c"))

    def test_no_descriptor_is_closed_that_was_not_opened(self):
        before = os.listdir("/proc/self/fd")
        symbolizer = self.symbolizer()
        symbolizer.resolve([self.address()])
        symbolizer.clear()
        del symbolizer
        self.assertEqual(os.listdir("/proc/self/fd"), before)

    def test_compressed_debug_info(self):
        self.compile("-gz")
        self.assertEqual(self.function_and_line(self.symbolizer(), self.address()),
                         ("outer", 4, "source.c"))

    def test_split_debug_info(self):
        for flags in ((), ("-gdwarf-4",)):
            with self.subTest(flags=flags):
                self.compile("-gsplit-dwarf", *flags)
                self.assertEqual(self.function_and_line(self.symbolizer(), self.address()),
                                 ("outer", 4, "source.c"))

    def test_every_version_of_dwarf(self):
        for compiler in filter(shutil.which, ("gcc", "clang")):
            for version in (2, 3, 4, 5):
                flags = [f"-gdwarf-{version}", "-gstrict-dwarf", "-fdebug-types-section"]
                if version < 4:
                    flags.pop()
                with self.subTest(compiler=compiler, version=version):
                    self.run_tool(compiler, "-O1", *flags, "-o", self.program, "source.c")
                    frames = self.symbolizer().resolve([self.address()])[0]
                    self.assertEqual((frames[-1][2], frames[0][0]),
                                     ("outer", str(self.folder / "source.c")))
                    # DWARF 2 cannot say where an inlined call was made.
                    self.assertIn((len(frames), frames[-1][1]),
                                  [(1, 3), (1, 4), (2, 0 if version == 2 else 4)])

    def test_what_debug_files_share(self):
        """dwz moves it into a file of its own."""
        (self.folder / "source.c").write_text(
            SOURCE + "#include <stdio.h>\n#include <pthread.h>\n"
            "FILE *file; pthread_attr_t attributes; pthread_mutex_t lock; struct timespec when;\n")
        self.compile()
        address, shared = self.address(), self.folder / "shared.debug"
        other = self.program.with_name("other")
        shutil.copy(self.program, other)
        self.run_tool("dwz", "-m", shared, self.program, other)
        self.assertTrue(shared.exists())
        self.assertEqual(self.function_and_line(self.symbolizer(), address),
                         ("outer", 4, "source.c"))

    def add_mini_debug_info(self, symbols):
        """As distributions do that have .gnu_debugdata: the symbols of a file, compressed."""
        self.run_tool("objcopy", "--only-keep-debug", symbols, "mini")
        self.run_tool("strip", "--strip-debug", "mini")
        self.run_tool("xz", "--force", "mini")
        self.run_tool("strip", self.program)
        self.run_tool("objcopy", "--add-section", ".gnu_debugdata=mini.xz", self.program)

    def test_mini_debug_info(self):
        address = self.address()
        self.add_mini_debug_info(self.program)
        symbolizer = self.symbolizer()
        self.assertEqual(self.function_and_line(symbolizer, address), ("outer", 0, None))
        self.assertEqual(symbolizer.complaints(), [])

    def test_damaged_mini_debug_info(self):
        address = self.address()
        self.add_mini_debug_info(self.program)
        packed = (self.folder / "mini.xz").read_bytes()
        for damaged in (packed[:-20], packed[:40], b"", packed[:60] + b"\xff" * 30 + packed[90:]):
            (self.folder / "mini.xz").write_bytes(damaged)
            self.run_tool("objcopy", "--remove-section", ".gnu_debugdata", self.program)
            self.run_tool("objcopy", "--add-section", ".gnu_debugdata=mini.xz", self.program)
            symbolizer = self.symbolizer()
            self.assertEqual(self.function_and_line(symbolizer, address), (None, 0, None))
            self.assertEqual(symbolizer.complaints(), [(str(self.program), "damaged")])

    def test_object_without_a_file(self):
        address, image = self.address(), self.program.read_bytes()
        symbolizer = self.symbolizer(image=image)
        self.program.unlink()
        self.assertEqual(self.function_and_line(symbolizer, address), ("outer", 4, "source.c"))

    def test_vdso(self):
        with open("/proc/self/maps") as maps:
            line = next(line for line in maps if line.endswith("[vdso]\n"))
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        with open("/proc/self/mem", "rb") as memory:
            memory.seek(start)
            image = memory.read(end - start)
        (self.folder / "vdso").write_bytes(image)
        vaddr = next(function[1] for function in
                     _tm.functions(str(self.folder / "vdso"), ["__vdso_gettimeofday"]))
        symbolizer = _tm.Symbolizer(debug_directories=[])
        symbolizer.add_module("[vdso]", start, end, start, image=image)
        frame = symbolizer.resolve([start + vaddr + 4])[0][0]
        self.assertIn(frame[2], ("gettimeofday", "__vdso_gettimeofday"))
        self.assertEqual(frame[3:5], ("[vdso]", 4))


class Changed(WithProgram):
    """The file is not the one that was mapped: its build-id tells."""

    def test_what_is_mapped_is_asked_where_the_name_leads_elsewhere(self):
        address, build_id = self.address(), self.build_id()
        mapped = self.folder / "mapped"
        self.program.rename(mapped)
        for replaced in (True, False):
            with self.subTest(replaced=replaced):
                self.compile("-O2") if replaced else self.program.unlink()
                symbolizer = self.symbolizer(build_id, other_file=str(mapped))
                self.assertEqual(self.function_and_line(symbolizer, address),
                                 ("outer", 4, "source.c"))
                self.assertEqual(symbolizer.complaints(), [])

    def test_it_is_told_once(self):
        address, build_id = self.address(), self.build_id()
        self.compile("-O2")
        symbolizer = self.symbolizer(build_id)
        self.assertEqual(symbolizer.complaints(), [])
        self.assertEqual(self.function_and_line(symbolizer, address), (None, 0, None))
        self.assertEqual(symbolizer.complaints(), [(str(self.program), "changed")])
        self.assertEqual(self.function_and_line(symbolizer, address + 1), (None, 0, None))
        self.assertEqual(symbolizer.complaints(), [])

    def test_a_debug_file_is_enough(self):
        address, build_id, name = self.address(), self.build_id(), self.build_id().hex()
        self.split(self.debug / ".build-id" / name[:2] / f"{name[2:]}.debug")
        self.compile("-O2")
        symbolizer = self.symbolizer(build_id)
        self.assertEqual(self.function_and_line(symbolizer, address), ("outer", 4, "source.c"))
        self.assertEqual(symbolizer.complaints(), [])


class Parts(unittest.TestCase):
    """Code that is not where its function is, or that is no function."""

    SOURCE = """\
#include <stdlib.h>
__attribute__((noinline, cold)) void fail(int x) { exit(x); }
__attribute__((noinline)) int work(int x)
{
    if (__builtin_expect(x > 100, 0)) { fail(x); fail(x + 1); }
    return x * 3;
}
struct left { virtual ~left() {} virtual left *copy() = 0; long l; };
struct right { virtual ~right() {} virtual right *copy() = 0; long r; };
struct both : left, right {
    __attribute__((noinline)) both *copy() override { return new both(*this); }
};
int main(int argc, char **argv)
{
    right *it = new both;
    return work(argc) + (it->copy() != nullptr);
}
"""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.program = os.path.join(folder.name, "parts")
        source = os.path.join(folder.name, "parts.cc")
        with open(source, "w") as file:
            file.write(self.SOURCE)
        subprocess.run(["g++", "-g", "-O2", "-o", self.program, source], check=True)
        listed = subprocess.run(["nm", "-S", self.program], check=True, text=True,
                                stdout=subprocess.PIPE).stdout
        self.symbols = {line.split()[3]: (int(line.split()[0], 16), int(line.split()[1], 16))
                        for line in listed.splitlines() if len(line.split()) == 4}

    def at(self, address):
        symbolizer = _tm.Symbolizer(debug_directories=[])
        symbolizer.add_module(self.program, BIAS, BIAS + 0x100000, BIAS)
        return symbolizer.resolve([BIAS + address])[0]

    def test_cold_part_is_shown_under_its_function(self):
        start, size = self.symbols["_Z4worki.cold"]
        self.assertEqual(self.at(start + 1)[-1][2], "work")
        subprocess.run(["strip", "--strip-debug", self.program], check=True)
        self.assertEqual(self.at(start + 1), [(None, 0, "work", self.program, 1, False)])

    def test_thunks_and_linkage_tables_are_left_out(self):
        thunks = [name for name in self.symbols if name.startswith(("_ZTh", "_ZTch", "_ZTv"))]
        self.assertTrue(thunks)
        sections = subprocess.run(["readelf", "-WS", self.program], check=True, text=True,
                                  stdout=subprocess.PIPE).stdout
        tables = [int(match[2], 16) for match in
                  re.finditer(r" (\.plt\S*) +PROGBITS +([0-9a-f]+)", sections)]
        self.assertTrue(tables)
        for _ in ("with debug info", "without"):
            for address in tables + [self.symbols[name][0] for name in thunks]:
                self.assertEqual(self.at(address), [])
            subprocess.run(["strip", "--strip-debug", self.program], check=True)


class Work(WithProgram):
    """What resolve() tells of itself, and how it is ended."""

    place = ("outer", 4, "source.c")

    class Ended(Exception):
        pass

    def prepare(self):
        """Makes of the program what a test is about."""

    def told(self, turns):
        """What a symbolizer tells that is ended the first, the second … time, and then is not."""
        calls, ends = [], [0]

        def tell(*call):
            calls.append(call)
            time.sleep(0.11)  # so that the next chance is not passed over
            if len(calls) == ends[0]:
                raise self.Ended

        address = self.address()
        self.prepare()
        symbolizer = _tm.Symbolizer(debug_directories=[str(self.debug)], tell=tell)
        symbolizer.add_module(str(self.program), BIAS, BIAS + 0x100000, BIAS)
        for ends[0] in range(1, turns + 1):
            calls.clear()
            with self.assertRaises(self.Ended):
                symbolizer.resolve([address])
            self.assertEqual(symbolizer.complaints(), [])
        ends[0] = 0
        self.assertEqual(self.function_and_line(symbolizer, address), self.place)
        return calls

    def test_debug_info(self):
        calls = self.told(3)
        self.assertEqual({call[:2] for call in calls}, {("reading", str(self.program))})
        self.assertTrue(0 <= calls[0][2] < calls[0][3])  # bytes of all units; then of one

    def test_symbols(self):
        self.place = ("outer", 0, None)
        self.prepare = lambda: self.run_tool("strip", "--strip-debug", self.program)
        self.assertEqual({call[:2] for call in self.told(1)}, {("reading", str(self.program))})

    def test_checksum_of_a_debug_file(self):
        self.compile("-Wl,--build-id=none")

        def prepare():
            self.split(self.program.with_name("program.debug"))
            self.run_tool("strip", self.program)
            self.run_tool("objcopy", f"--add-gnu-debuglink={self.program}.debug", self.program)

        self.prepare = prepare
        self.told(3)

    def test_often_enough_and_not_too_often(self):
        calls, begin = [], time.monotonic()
        symbolizer = _tm.Symbolizer(tell=lambda *call: calls.append(call))
        path = _tm.__file__
        while len(calls) < 5:
            symbolizer.add_module(path, BIAS, BIAS + 0x1000000, BIAS)
            symbolizer.resolve(range(BIAS, BIAS + 0x40000, 0x1000))
            symbolizer.clear()
            self.assertLess(time.monotonic(), begin + 100, calls)
        # The first call may come at once; the clock is a coarse one.
        self.assertGreater(time.monotonic() - begin, 4 * 0.08)

    def test_it_cannot_be_used_meanwhile(self):
        for use in (lambda symbolizer: symbolizer.clear(),
                    lambda symbolizer: symbolizer.resolve([]),
                    lambda symbolizer: symbolizer.add_module("/a", 0, 1, 0),
                    lambda symbolizer: symbolizer.complaints()):
            symbolizer = _tm.Symbolizer(tell=lambda *call: use(symbolizer))
            symbolizer.add_module(str(self.program), BIAS, BIAS + 0x100000, BIAS)
            self.assertRaisesRegex(RuntimeError, "at work", symbolizer.resolve, [self.address()])


class Arguments(unittest.TestCase):
    def test_bad_ones(self):
        symbolizer = _tm.Symbolizer()
        self.assertRaises(_tm.Error, symbolizer.add_module, "/a", 10, 10, 0)
        self.assertRaises(TypeError, symbolizer.resolve, 5)
        self.assertRaises(TypeError, symbolizer.resolve, ["5"])
        self.assertRaises(OverflowError, symbolizer.resolve, [-1])
        self.assertRaises(TypeError, _tm.Symbolizer, debug_directories=[3])
        self.assertEqual(symbolizer.resolve([]), [])

    def test_clear(self):
        symbolizer = _tm.Symbolizer()
        symbolizer.add_module("/a", 0, 16, 0)
        self.assertEqual(symbolizer.resolve((3,))[0][0][3], "/a")
        symbolizer.clear()
        self.assertEqual(symbolizer.resolve((3,))[0][0][3], None)

    def test_signals_are_seen(self):
        symbolizer = _tm.Symbolizer()
        command = ("import signal, _tm\n"
                   "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
                   "signal.setitimer(signal.ITIMER_REAL, 0.01)\n"
                   "_tm.Symbolizer().resolve(range(1 << 24))\n")
        result = subprocess.run([sys.executable, "-c", command], stderr=subprocess.PIPE,
                                env=dict(os.environ, PYTHONPATH=os.path.dirname(_tm.__file__)))
        self.assertIn(b"KeyboardInterrupt", result.stderr)
        self.assertEqual(symbolizer.resolve([1])[0][0][4], 1)


if __name__ == "__main__":
    unittest.main()
