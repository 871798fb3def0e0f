"""tm.mapped_symbols: what nm says of a file comes out of its memory too; damage is an error.

May use _tm, nm, unittest.  Must never import gdb.
"""
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [os.environ.get("TM_BUILD", str(ROOT / "build")), str(ROOT / "gdb-plugin")]

import _tm  # noqa: E402
from tm import mapped_symbols  # noqa: E402


def mapped(name):
    """(path, address of the first byte) of an object of this process."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            bounds, _rights, _offset, _device, _inode, *path = line.rstrip("\n").split(None, 5)
            if path and name in os.path.basename(path[0]):
                return path[0], int(bounds.split("-")[0], 16)
    raise AssertionError(f"{name} is not mapped")


class Memory(unittest.TestCase):
    def setUp(self):
        self.memory = open("/proc/self/mem", "rb", 0)
        self.addCleanup(self.memory.close)
        self.folder = self.enterContext(tempfile.TemporaryDirectory())

    def read(self, address, length):
        try:
            data = os.pread(self.memory.fileno(), length, address)
        except OSError as error:
            raise ValueError("not mapped") from error
        if len(data) != length:
            raise ValueError("not mapped")
        return data

    def symbols(self, path):
        lines = subprocess.run(["nm", "-D", "--without-symbol-versions", path], check=True,
                               text=True, stdout=subprocess.PIPE).stdout.splitlines()
        # nm makes the letter of the section, which a file without sections has not
        return sorted((line.split()[0], line.split()[-1]) for line in lines
                      if len(line.split()) == 3)

    def test_same_symbols_as_in_the_file(self):
        for name in ("libc.so", "_tm.abi3", "libelf"):
            with self.subTest(name=name):
                path, start = mapped(name)
                made = os.path.join(self.folder, "made")
                with open(made, "wb") as file:
                    file.write(mapped_symbols.read_object(self.read, start, start))
                self.assertEqual(self.symbols(made), self.symbols(path))

    def test_the_symbolizer_takes_it(self):
        path, start = mapped("libc.so")
        vaddr = _tm.functions(path, ["qsort"])[0][1]
        symbolizer = _tm.Symbolizer(debug_directories=[])
        symbolizer.add_module("/gone/libc.so", start, start + (1 << 24), start, bytes(20),
                              image=mapped_symbols.read_object(self.read, start, start))
        self.assertEqual(symbolizer.resolve([start + vaddr + 4])[0],
                         [(None, 0, "qsort", "/gone/libc.so", 4, False)])
        self.assertEqual(symbolizer.complaints(), [("/gone/libc.so", "changed")])

    def test_damage(self):
        _path, start = mapped("_tm.abi3")
        numbers = random.Random(1)
        for _turn in range(100):
            at, value = numbers.randrange(200), numbers.randrange(256)
            calls = [0]

            def read(address, length):
                self.assertLess(length, 1 << 27)
                calls[0] += 1
                data = bytearray(self.read(address, length))
                if calls[0] == turn and at < length:
                    data[at] = value
                return bytes(data)

            for turn in range(1, 9):
                calls[0] = 0
                try:
                    mapped_symbols.read_object(read, start, start)
                except (ValueError, OverflowError):
                    pass


if __name__ == "__main__":
    unittest.main()
