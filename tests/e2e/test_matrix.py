"""The matrix holds: each kind of process is traced from start to end, or refused in one line.

`make test` runs the rows that differ most; `make soak` all of them, and
`make test-matrix` prints them.
"""
import unittest

from gdbsession import FULL
from matrix import COLUMNS, KINDS, Row

QUICK = ("glibc, static", "musl, dynamic", "jemalloc, linked in", "own malloc",
         "other mount namespace", "other PID namespace", "chroot", "other user", "seccomp filter",
         "strict seccomp", "32-bit")

# What cannot be: every column but the program itself is a refusal.
NOT_TRACED = r'^"The process is not being traced: use "tm start" first\."$'
REFUSED = {
    "glibc, static, stripped": r'^"No allocator function was found in the program or its libraries',
    "strict seccomp": r'^"A thread of the program is under strict seccomp',
    "32-bit": r'^"tm traces x86-64 processes; this one is i386\."$',
}


class Matrix(unittest.TestCase):
    def check(self, kind):
        row = Row(kind)
        if row.missing:
            self.skipTest(row.missing)
        row.run()
        refused = REFUSED.get(kind.name)
        for column in COLUMNS:
            text = row.cells[column]
            if refused is None or column == "program":
                self.assertEqual(text, "ok", f"{kind.name}: {column}")
            else:
                self.assertRegex(text, refused if column == "start" else NOT_TRACED)


def add_row(kind):
    def test(self):
        self.check(kind)

    name = "test_" + "_".join("".join(c if c.isalnum() else " " for c in kind.name).split())
    setattr(Matrix, name, test)


for each in KINDS:
    if FULL or each.name in QUICK:
        add_row(each)


if __name__ == "__main__":
    unittest.main()
