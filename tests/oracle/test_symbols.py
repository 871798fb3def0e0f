"""Names of addresses agree with libdwarf, addr2line and llvm-symbolizer: symbols_oracle.py.

Differences must belong to a class that DIFFERENCES.md explains.  May use: symbols_oracle,
symbols_objects, unittest.  Must not hold any rule of its own.
"""
import os
import shutil
import unittest

import symbols_oracle

FULL = bool(os.environ.get("TM_TEST_FULL"))


class Symbols(unittest.TestCase):
    def test_other_readers_agree(self):
        arguments = ["--addresses", "100000", "--all"] if FULL else ["--addresses", "2000"]
        self.assertEqual(symbols_oracle.main(arguments), 0)

    def test_all_readers_and_compilers_were_there(self):
        missing = [tool for tool in (symbols_oracle.LLVM, "clang", "clang++")
                   if not shutil.which(tool)]
        if missing:
            self.skipTest(f"left out: {', '.join(missing)} (Debian's packages llvm and clang)")
        self.assertTrue(shutil.which("addr2line"))


if __name__ == "__main__":
    unittest.main()
