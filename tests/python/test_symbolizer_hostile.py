"""_tm.Symbolizer and damaged debug information: names fall back to symbols, one complaint a module.

May use: _tm, gcc, objcopy, unittest; test_symbolizer for its program.  Must never import gdb.
"""
import os
import random
import struct
import subprocess
import sys
import unittest

from test_symbolizer import BIAS, WithProgram

FULL = bool(os.environ.get("TM_TEST_FULL"))
SECTIONS = (".debug_info", ".debug_abbrev", ".debug_line", ".debug_str", ".debug_line_str",
            ".debug_aranges", ".debug_rnglists")
# A program with one unit, whose functions are filled in.
ASSEMBLY = """
        .section .note.GNU-stack,"",@progbits
        .text
        .globl outer, main
        .type outer, @function
        .type main, @function
outer:  .fill 16, 1, 0x90
outer_end:
        .size outer, . - outer
main:   ret
        .size main, . - main
        .section .debug_abbrev,"",@progbits
        .byte 1, 0x11, 1, 0x11, 1, 0x12, 7, 0, 0        # unit: low_pc, high_pc
        .byte 2, 0x2e, 1, 0x01, 0x13, 0x11, 1, 0x12, 7, 0x31, 0x13, 0, 0
        .byte 3, 0x2e, 0, 0x11, 1, 0x12, 7, 3, 8, 0, 0      # function: its name is here …
        .byte 4, 0x2e, 0, 0x11, 1, 0x12, 7, 3, 0x25, 0, 0   # … or by its number elsewhere
        .byte 0
        .section .debug_info,"",@progbits
start:  .long end - after
after:  .value 4
        .long .debug_abbrev
        .byte 8
        .byte 1
        .quad outer, outer_end - outer
        %s
end:
"""
# A function: its sibling, low_pc, high_pc, abstract_origin; it has children.
FUNCTION = """
%s:     .byte 2
        .long %s - start
        .quad outer + 32, 1
        .long %s - start
"""
NAMED = """
        .byte %d
        .quad outer, outer_end - outer
        %s
"""
TEXTS = """
        .section .debug_str,"MS",@progbits,1
texts:  .asciz "text"
texts_end:
        .section .debug_str_offsets,"",@progbits
        .long texts_end - texts
        .section .debug_info
"""
CHECK = """
import sys
import _tm
for path in sys.argv[2:]:
    symbolizer = _tm.Symbolizer(debug_directories=[])
    symbolizer.add_module(path, 0, 1 << 40, 0)
    start = int(sys.argv[1])
    symbolizer.resolve(range(start, start + 400))
    complaints = symbolizer.complaints()
    symbolizer.resolve(range(start + 400, start + 800))
    complaints += symbolizer.complaints()
    assert complaints in ([], [(path, "damaged")]), complaints
    print(path, len(complaints))
"""


class Hostile(WithProgram):
    def section(self, name, file=None):
        """Where the section is in the file: (offset, size)."""
        data = (file or self.program).read_bytes()
        start, = struct.unpack_from("<Q", data, 0x28)
        size, count, of_names = struct.unpack_from("<HHH", data, 0x3A)
        headers = [struct.unpack_from("<IIQQQQ", data, start + i * size) for i in range(count)]
        names = data[headers[of_names][4]:]
        return next(((header[4], header[5]) for header in headers
                     if names[header[0]:].split(b"\0", 1)[0] == name.encode()), None)

    def change(self, name, change, file=None):
        """Gives the section other bytes of the same length."""
        file = file or self.program
        offset, size = self.section(name, file)
        data = bytearray(file.read_bytes())
        changed = change(bytearray(data[offset:offset + size]))
        self.assertEqual(len(changed), size)
        data[offset:offset + size] = changed
        file.write_bytes(data)

    def cut(self, name, keep, more=b""):
        """Makes the section shorter, or longer."""
        offset, size = self.section(name)
        part = self.folder / "part"
        part.write_bytes(self.program.read_bytes()[offset:offset + min(keep, size)] + more)
        self.run_tool("objcopy", "--update-section", f"{name}={part}", self.program)

    def assert_damaged(self, names=("outer",)):
        symbolizer = self.symbolizer()
        found = self.function_and_line(symbolizer, self.address())
        self.assertIn(found[0], names)
        self.assertEqual(symbolizer.complaints(), [(str(self.program), "damaged")])
        self.function_and_line(symbolizer, self.address("main"))
        self.assertEqual(symbolizer.complaints(), [])

    def test_debug_info_that_ends_too_early(self):
        self.cut(".debug_info", 40)
        self.assert_damaged()

    def test_unit_that_ends_too_early(self):
        self.change(".debug_info", lambda data: struct.pack("<I", 20) + data[4:])
        self.assert_damaged()

    def test_abbreviations_that_make_no_sense(self):
        self.change(".debug_abbrev", lambda data: bytes(255 for _ in data))
        self.assert_damaged()

    def test_line_table_that_makes_no_sense(self):
        self.change(".debug_line", lambda data: data[:4] + bytes(255 for _ in data[4:]))
        self.assert_damaged()

    def test_line_table_that_ends_too_early(self):
        self.cut(".debug_line", 30)
        self.assert_damaged()

    def test_file_that_was_cut(self):
        address = self.address()
        os.truncate(self.program, self.program.stat().st_size // 2)
        symbolizer = self.symbolizer()
        self.assertEqual(self.function_and_line(symbolizer, address), (None, 0, None))
        self.assertEqual(symbolizer.complaints(), [(str(self.program), "damaged")])

    def assemble(self, functions):
        """A program whose unit has these DIEs of functions below it."""
        (self.folder / "made.s").write_text(ASSEMBLY % functions)
        self.run_tool("gcc", "-o", self.program, "made.s")

    def leave_no_end(self, name, file=None):
        self.change(name, lambda data: data[:-1] + b"x", file)

    def test_texts_without_an_end(self):
        for name in (".debug_str", ".debug_line_str"):
            for kind in ("none", "zlib", "zlib-gnu"):
                with self.subTest(name=name, kind=kind):
                    self.compile("-gdwarf-5")
                    self.cut(name, 1 << 20, 4096 * b"x")  # enough to be compressed
                    self.run_tool("objcopy", f"--compress-debug-sections={kind}", self.program)
                    self.assert_damaged()

    def test_shared_texts_without_an_end(self):
        """In the file that dwz makes; libdw would read it, were it only not given it."""
        shared, other = self.folder / "shared.debug", self.folder / "other"
        self.run_tool("gcc", "-g", "-O1", "-o", other, "source.c")
        self.run_tool("dwz", "-m", shared, self.program, other)
        self.leave_no_end(".debug_str", shared)
        self.assert_damaged()

    def test_split_texts_without_an_end(self):
        self.compile("-gsplit-dwarf")
        split, = self.folder.rglob("*.dwo")
        self.leave_no_end(".debug_str.dwo", split)
        self.assert_damaged()

    def test_name_without_an_end(self):
        self.assemble(NAMED % (3, '.ascii "name"'))
        self.assert_damaged()

    def test_name_behind_all_texts(self):
        self.assemble(NAMED % (4, ".byte 0, 0") + TEXTS)
        self.assertEqual(self.function_and_line(self.symbolizer(), self.address())[0], "outer")

    def test_references_in_a_circle(self):
        """A function that is a copy of a copy of itself, and siblings that lead back."""
        for sibling in ("start", "first", "second"):
            with self.subTest(sibling=sibling):
                self.assemble(FUNCTION % ("first", sibling, "second")
                              + FUNCTION % ("second", "second", "first") + ".byte 0, 0, 0")
                self.assert_damaged()

    def test_siblings_that_are_children_too(self):
        """Each level would be walked twice as often as the one around it."""
        levels = 100
        self.assemble("".join(FUNCTION % (f"f{level}", f"f{level + 1}", f"f{levels}")
                              for level in range(levels))
                      + f"f{levels}: .fill {levels + 1}, 1, 0")
        self.assert_damaged()

    def test_random_damage(self):
        """Nothing crashes, takes long or complains twice; what is damaged for sure is told."""
        rounds = 2000 if FULL else 60
        whole, start = self.program.read_bytes(), self.address() - BIAS - 1
        places = [place for place in map(self.section, SECTIONS) if place]
        picker, files = random.Random(5), []
        for number in range(rounds):
            data = bytearray(whole)
            offset, size = picker.choice(places)
            for _ in range(picker.choice((1, 3, 30))):
                data[offset + picker.randrange(size)] = picker.choice(
                    (0, 1, 0x7f, 0x80, 0xff, picker.randrange(256)))
            files.append(self.folder / f"damaged{number}")
            files[-1].write_bytes(data)
        result = subprocess.run([sys.executable, "-c", CHECK, str(start), *map(str, files)],
                                stdout=subprocess.PIPE, text=True, timeout=120,
                                env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)))
        self.assertEqual(result.returncode, 0, result.stdout[-200:])
        told = sum(int(line.split()[-1]) for line in result.stdout.splitlines())
        self.assertGreater(told, rounds // 20)


if __name__ == "__main__":
    unittest.main()
