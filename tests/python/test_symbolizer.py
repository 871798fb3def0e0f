"""_tm.Symbolizer and the files around it: separate debug files, files that go or change.

May use: _tm, gcc, objcopy, strip, unittest.  Must never import gdb.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
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
        self.compile("-gsplit-dwarf")
        self.assertEqual(self.function_and_line(self.symbolizer(), self.address()),
                         ("outer", 4, "source.c"))


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
                   "signal.setitimer(signal.ITIMER_REAL, 0.01)\n"
                   "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
                   "_tm.Symbolizer().resolve(range(1 << 24))\n")
        result = subprocess.run([sys.executable, "-c", command], stderr=subprocess.PIPE,
                                env=dict(os.environ, PYTHONPATH=os.path.dirname(_tm.__file__)))
        self.assertIn(b"KeyboardInterrupt", result.stderr)
        self.assertEqual(symbolizer.resolve([1])[0][0][4], 1)


if __name__ == "__main__":
    unittest.main()
