"""JSON documents as results of GDB/MI, and command lines of MI for the console.

May use the standard library and tm.  Must never need gdb.
"""

import unittest

from tm import mi, options
from tm.options import Argument, Declaration, Option


class Mi(unittest.TestCase):
    def test_results_have_what_mi_has(self):
        self.assertEqual(
            mi.results({"a": None, "b": True, "c": [None, False, 2], "d": {"e f": "x", "g": None},
                        "h": 1.5, "i": []}),
            {"b": 1, "c": ["", 0, 2], "d": {"e_f": "x"}, "h": 1.5, "i": []})

    def test_words_come_through_the_console_as_they_are(self):
        declaration = Declaration(
            name="x", summary="X.", arguments=(Argument("WORD", "word", "", repeated=True),),
            options=(Option("limit", "", "word", "N"),), json=True)
        words = ["plain", "two words", 'a"b', "back\\slash", "it's", "(", "/src/a.c", ""]
        line = mi.console_line("x", ["-limit", "3", *words])
        self.assertTrue(line.startswith("tm x -json "))
        parsed = options.parse(declaration, line[len("tm x "):])
        self.assertEqual((parsed.word, parsed.limit, parsed.json), (words, "3", True))

    def test_an_expression_is_a_line(self):
        self.assertEqual(mi.console_line("traceback", ["buffers[3]", "+ 1", "-limit", "2"]),
                         "tm traceback -json buffers[3] + 1 -limit 2")


if __name__ == "__main__":
    unittest.main()
