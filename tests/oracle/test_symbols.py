"""Names of addresses agree with addr2line: see symbols_oracle.py, which explains differences.

May use: symbols_oracle, unittest.  Must not hold any rule of its own.
"""
import os
import unittest

import symbols_oracle


class Symbols(unittest.TestCase):
    def test_addr2line_agrees(self):
        count = "100000" if os.environ.get("TM_TEST_FULL") else "2000"
        self.assertEqual(symbols_oracle.main(["--addresses", count]), 0)


if __name__ == "__main__":
    unittest.main()
