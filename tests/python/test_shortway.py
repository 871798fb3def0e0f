"""The bytes of a relay's short way are what an assembler makes of its instructions.

Needs binutils.  Must never import gdb.
"""
import os
import subprocess
import tempfile
import unittest

import _tm
from tm import shortway

NONE = _tm.layout["NO_ARGUMENT"]
FILTER, END = 0x7f1234567000, 96
LOOK_UP = f"""movl %edi, %eax; shrl $10, %eax; movabsq ${FILTER:#x}, %r10
    cmpb $0, (%r10,%rax); jne .Lrelay"""
COUNT_DOWN = """{first} cmpq $1, {size}; sbbq {size}, %fs:0x38; jbe .Lbegin"""
UNDO = """cmpq $1, {size}; adcq {size}, %fs:0x38; jmp .Lrelay"""


def patch(shape, size=NONE, count=NONE, block=NONE, is_leaf=1, keeps_registers=0):
    return {"shape": _tm.layout[shape], "size_argument": size, "count_argument": count,
            "block_argument": block, "is_leaf": is_leaf, "keeps_registers": keeps_registers}


MALLOC = patch("SHAPE_ALLOC", size=0)
FREE = patch("SHAPE_FREE", block=0, is_leaf=0)
SOURCES = [
    (MALLOC, UNDO.format(size="%rdi"), COUNT_DOWN.format(first="", size="%rdi")),
    (patch("SHAPE_ALLOC", size=1, count=0), UNDO.format(size="%rax"),
     COUNT_DOWN.format(first="movq %rdi, %rax; imulq %rsi, %rax;", size="%rax")),
    (patch("SHAPE_REALLOC", size=1, block=0), UNDO.format(size="%rsi"),
     COUNT_DOWN.format(first=LOOK_UP + ";", size="%rsi")),
    (FREE, "", LOOK_UP),
]


def assemble(before, code):
    """The bytes of both, the second ending at END of a relay; and how many are of the first."""
    with tempfile.TemporaryDirectory() as folder:
        source, built, binary = (os.path.join(folder, name) for name in ("a.s", "a.o", "a.bin"))
        with open(source, "w", encoding="utf-8") as file:
            file.write(f"""
.Lrelay: .fill 16, 1, 0x90
.fill {END} - 16 - (.Lend - .Lbegin), 1, 0x90
.Lbegin: {before}
.Lentry: {code}
.Lend: .byte .Lentry - .Lbegin, .Lend - .Lbegin
""")
        subprocess.run(["as", source, "-o", built], check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", built, binary], check=True)
        with open(binary, "rb") as file:
            data = file.read()
    return data[END], data[END - data[END + 1]:END]


class ShortWay(unittest.TestCase):
    def test_against_the_assembler(self):
        for each, before, code in SOURCES:
            with self.subTest(each=each):
                made = shortway.make(each, shortway.Ways(FILTER, True), END)
                self.assertEqual(made, assemble(before, code))
                self.assertLessEqual(len(made[1]), shortway.LONGEST)

    def test_where_there_is_none(self):
        with_words, without = shortway.Ways(FILTER, True), shortway.Ways(FILTER, False)
        self.assertIsNone(shortway.make(MALLOC, without, END))
        self.assertIsNotNone(shortway.make(FREE, without, END))
        for each in (dict(MALLOC, is_leaf=0), dict(MALLOC, keeps_registers=1),
                     dict(FREE, keeps_registers=1), dict(FREE, block_argument=1),
                     dict(MALLOC, size_argument=1), dict(MALLOC, shape=_tm.layout["SHAPE_MAP"])):
            with self.subTest(each=each):
                self.assertIsNone(shortway.make(each, with_words, END))


if __name__ == "__main__":
    unittest.main()
