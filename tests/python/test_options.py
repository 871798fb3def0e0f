"""The option parser, the help text and the completion, without a debugger.

May use: tm.options, tm.snapshots, unittest (the package wants the built extension).  Must
never import gdb.
"""

import os
import sys
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path[:0] = [os.path.join(ROOT, "gdb-plugin"), os.path.join(ROOT, "build")]

from tm import options  # noqa: E402
from tm.errors import TmError  # noqa: E402
from tm.options import Argument, Declaration, Option  # noqa: E402
from tm.snapshots import Registry  # noqa: E402

KEYS = ("lineno", "filename", "traceback")
TOP = Declaration(
    name="top", summary="Show statistics.",
    arguments=(Argument("KEY", "choice", "What to group by.", optional=True, choices=KEYS),
               Argument("SNAPSHOT", "snapshot", "Which.", optional=True, extra=("now",))),
    options=(Option("limit", "At most N lines.", "count", "N", minimum=0),
             Option("cumulative", "Count all frames."),
             Option("by", "Order.", "choice", choices=("size", "count", "average"))),
    examples=("tm top lineno -limit 3",), json=True)
DIFF = Declaration(
    name="diff", summary="Show differences.",
    arguments=(Argument("OLD", "snapshot", "Old."),
               Argument("NEW", "snapshot", "New.", optional=True, extra=("now",)),
               Argument("KEY", "choice", "Key.", optional=True, choices=KEYS)))
START = Declaration(
    name="start", summary="Start.",
    arguments=(Argument("NFRAME", "integer", "Frames.", optional=True, minimum=1, maximum=1000),),
    options=(Option("min-size", "Smallest block.", "size", "SIZE"),))
WHERE = Declaration(
    name="traceback", summary="Show where.",
    arguments=(Argument("EXPR", "expression", "Address."),),
    options=(Option("limit", "Frames.", "count", "N", minimum=0),))
DELETE = Declaration(
    name="delete", summary="Forget.",
    arguments=(Argument("NAME", "snapshot", "Which.", repeated=True),))

EXPORT = Declaration(
    name="export", summary="Export.",
    arguments=(Argument("FORMAT", "choice", "Format.", choices=("pprof", "html")),
               Argument("FILE", "file", "File."),
               Argument("SNAPSHOT", "snapshot", "Which.", optional=True)))

SYMBOLS = {"n": 7, "(n + 1)": 8, "n + 1": 8, "n+1": 8}


def evaluate(text):
    if text not in SYMBOLS:
        raise TmError('No symbol "%s" in current context.' % text)
    return SYMBOLS[text]


def parse(declaration, text):
    return options.parse(declaration, text, evaluate)


class Refusals(unittest.TestCase):
    def refused(self, declaration, text, *parts):
        with self.assertRaises(TmError) as caught:
            parse(declaration, text)
        message = str(caught.exception)
        self.assertNotIn("\n", message)
        self.assertIn(message[-1], ".?", message)
        for part in parts:
            self.assertIn(part, message)

    def test_nframe_out_of_range_names_the_range(self):
        for text in ("0", "-1", "1001", "2147483648", "nonsense", "0x7fffffff", "1.5"):
            self.refused(START, text, "NFRAME must be a number from 1 to 1000, not", text)

    def test_unknown_option_names_the_nearest(self):
        self.refused(TOP, "-limti 3", '"-limti"', '"-limit"')
        self.refused(TOP, "--limit 3", '"-limit"')
        self.refused(TOP, "-zzz", "-limit, -cumulative, -by, -json")

    def test_ambiguous_option_names_the_candidates(self):
        both = Declaration(name="x", summary="X.", options=(
            Option("min", "a"), Option("most-recent-first", "b")))
        self.refused(both, "-m", "Ambiguous", "-min, -most-recent-first")

    def test_option_without_value(self):
        self.refused(TOP, "-limit", "-limit needs a value: -limit N")
        self.refused(TOP, "-limit -json", "-limit needs a value")

    def test_bad_values(self):
        self.refused(TOP, "-limit -3", "-limit", "-3")
        self.refused(TOP, "-by weight", "size, count, average", "weight")
        self.refused(START, "-min-size 3parsecs", "512, 64KiB or 1.5MiB", "3parsecs")
        self.refused(START, "-min-size -1", "-1")

    def test_too_many_and_too_few(self):
        self.refused(TOP, "lineno 1 2", 'Unexpected argument "2"', "tm top")
        self.refused(DIFF, "", "OLD is missing", "tm diff")
        self.refused(DIFF, "lineno", "OLD is missing", "tm diff")
        self.refused(EXPORT, "word file", "FORMAT must be one of pprof, html, not", "word")
        self.refused(EXPORT, "html", "FILE is missing")
        self.refused(DELETE, "", "NAME is missing")
        self.refused(WHERE, "-limit 3", "EXPR is missing")

    def test_open_quote(self):
        self.refused(TOP, '"lineno', "Unmatched double quote")
        self.refused(TOP, "lineno '", "Unmatched single quote")


class Parsing(unittest.TestCase):
    def test_options_stand_anywhere_and_may_be_shortened(self):
        for text in ("lineno 1 -limit 5 -cumulative", "-lim 5 lineno -c 1", "-c -l 5 lineno 1"):
            values = parse(TOP, text)
            self.assertEqual((values.key, values.snapshot, values.limit, values.cumulative),
                             ("lineno", "1", 5, True))

    def test_exact_name_wins_over_longer_ones(self):
        both = Declaration(name="x", summary="X.", options=(
            Option("min", "a"), Option("min-size", "b")))
        values = parse(both, "-min")
        self.assertEqual((values.min, values.min_size), (True, False))

    def test_two_dashes_end_the_options(self):
        self.assertEqual(parse(DELETE, "a -- -json").name, ["a", "-json"])
        self.assertFalse(parse(TOP, "-- -h").help)

    def test_absent_values(self):
        values = parse(TOP, "")
        self.assertEqual((values.key, values.snapshot, values.limit, values.json, values.by),
                         (None, None, None, False, None))
        self.assertNotIn("limit", values.given)

    def test_unlimited_differs_from_absent(self):
        values = parse(TOP, "-limit unlimited")
        self.assertIsNone(values.limit)
        self.assertIn("limit", values.given)

    def test_choices_find_their_argument(self):
        self.assertEqual(parse(TOP, "1").snapshot, "1")
        self.assertIsNone(parse(TOP, "1").key)
        self.assertEqual(parse(TOP, "nonsense").snapshot, "nonsense")
        values = parse(DIFF, "1 lineno")
        self.assertEqual((values.old, values.new, values.key), ("1", None, "lineno"))
        values = parse(TOP, "1 lineno")
        self.assertEqual((values.key, values.snapshot), ("lineno", "1"))
        values = parse(DIFF, "1 now filename")
        self.assertEqual((values.old, values.new, values.key), ("1", "now", "filename"))

    def test_a_choice_goes_to_its_argument_once(self):
        values = parse(EXPORT, "html html 1")
        self.assertEqual((values.format, values.file, values.snapshot), ("html", "html", "1"))

    def test_integers_are_expressions(self):
        self.assertEqual(parse(START, "n").nframe, 7)
        self.assertEqual(parse(START, "n + 1").nframe, 8)
        self.assertEqual(parse(TOP, "-limit n+1").limit, 8)
        self.assertEqual(parse(TOP, "-limit (n + 1) lineno").limit, 8)
        self.assertEqual(parse(START, "0x10").nframe, 16)
        self.assertEqual(parse(START, "010").nframe, 8)

    def test_an_expression_keeps_its_blanks_and_quotes(self):
        self.assertEqual(parse(WHERE, "p + 4").expr, "p + 4")
        self.assertEqual(parse(WHERE, "-limit 3 p - 4").expr, "p - 4")
        self.assertEqual(parse(WHERE, "p - 4 -limit 3").limit, 3)
        self.assertEqual(parse(WHERE, "'a file.c'::p[1 + 2]").expr, "'a file.c'::p[1 + 2]")
        self.assertEqual(parse(WHERE, '*(char **) f("a  b")').expr, '*(char **) f("a  b")')
        self.assertEqual(parse(WHERE, "-- -p").expr, "-p")

    def test_sizes(self):
        for text, size in (("512", 512), ("64KiB", 65536), ("1.5MiB", 3 << 19), ("1 << 3", None),
                           ("2GiB", 2 << 30), ("1TiB", 1 << 40), ("10B", 10), ("4k", 4096),
                           ("0x20", 32), ("n", 7)):
            if size is None:
                with self.assertRaises(TmError):
                    options.parse_size(text, evaluate)
            else:
                self.assertEqual(options.parse_size(text, evaluate), size)

    def test_quoted_words(self):
        self.assertEqual(parse(DELETE, '"a b" c\\d').name, ["a b", "c\\d"])
        self.assertEqual(parse(DELETE, r'"a\"b"').name, ['a"b'])

    def test_unbalanced_brackets_group_nothing(self):
        self.assertEqual(parse(DELETE, "a( b").name, ["a(", "b"])
        self.assertEqual(parse(DELETE, "a) (b ) c").name, ["a)", "(b )", "c"])

    def test_help_is_found_whatever_else_is_wrong(self):
        for text in ("-h", "-help", "-he", "lineno -nonsense -h", "-limit -h", '-h "'):
            self.assertTrue(parse(TOP, text).help, text)


class Help(unittest.TestCase):
    def test_help_names_everything(self):
        text = options.help_text(TOP)
        self.assertTrue(text.startswith(
            "Show statistics.\nUsage: tm top [KEY] [SNAPSHOT|now] [-limit N] [-cumulative]\n"
            "         [-by size|count|average] [-json]\n"), text)
        for option in ("-limit N", "-cumulative", "-by size|count|average", "-json", "-help"):
            self.assertIn("\n  %s\n    " % option, text)
        self.assertTrue(text.endswith("Examples:\n  tm top lineno -limit 3"))


class Completion(unittest.TestCase):
    providers = {"snapshot": lambda word: ["1", "2", "before"], "file": lambda word: ["a.tm"]}

    def complete(self, declaration, text):
        return options.complete(declaration, text, self.providers)

    def test_options(self):
        self.assertEqual(self.complete(TOP, "-li"), ["-limit"])
        self.assertEqual(self.complete(TOP, "lineno -"),
                         ["-limit", "-cumulative", "-by", "-json", "-help"])
        self.assertEqual(self.complete(TOP, "-- -"), [])

    def test_values_of_options(self):
        self.assertEqual(self.complete(TOP, "-by "), ["size", "count", "average"])
        self.assertEqual(self.complete(TOP, "-by c"), ["count"])
        self.assertEqual(self.complete(TOP, "-limit u"), ["unlimited"])

    def test_operands(self):
        self.assertEqual(self.complete(TOP, ""), list(KEYS) + ["1", "2", "before", "now"])
        self.assertEqual(self.complete(TOP, "lineno "), ["1", "2", "before", "now"])
        self.assertEqual(self.complete(TOP, "f"), ["filename"])
        self.assertEqual(self.complete(DIFF, "1 "), ["1", "2", "before", "now"] + list(KEYS))
        self.assertEqual(self.complete(DIFF, "1 now "), list(KEYS))
        self.assertEqual(self.complete(TOP, "1 f"), ["filename"])
        self.assertEqual(self.complete(EXPORT, ""), ["pprof", "html"])
        self.assertEqual(self.complete(EXPORT, "html "), ["a.tm"])
        self.assertEqual(self.complete(DELETE, "1 "), ["2", "before"])
        self.assertEqual(self.complete(TOP, "-limit 3 lineno b"), ["before"])

    def test_the_debugger_wants_the_end_only(self):
        self.assertEqual(options.cut_to_word(["-limit"], "-li", "li"), ["limit"])
        self.assertEqual(options.cut_to_word(["-min-size"], "-min-s", "s"), ["size"])
        self.assertEqual(options.cut_to_word(["lineno"], "l", "l"), ["lineno"])

    def test_last_word(self):
        for text, word in (("", ""), ("a", "a"), ("a ", ""), ("a b", "b"), ('a "b c', '"b c'),
                           ("-limit (n +", "+")):
            self.assertEqual(options.last_word(text), word)


class Thing:
    name = None


class SnapshotNames(unittest.TestCase):
    def test_numbers_are_never_given_twice(self):
        registry = Registry()
        self.assertEqual([registry.add(Thing()) for _ in range(3)], ["1", "2", "3"])
        registry.delete(["2", "3"])
        self.assertEqual(registry.add(Thing()), "4")
        self.assertEqual(registry.names(), ["1", "4"])

    def test_a_number_taken_as_a_name_is_passed_over(self):
        registry = Registry()
        registry.add(Thing(), "1")
        self.assertEqual(registry.add(Thing()), "2")

    def test_refused_names(self):
        registry = Registry()
        registry.reserve(["lineno"])
        registry.add(Thing(), "a")
        for name in ("a", "now", "lineno", "-x", "", "a b"):
            with self.assertRaises(TmError):
                registry.add(Thing(), name)

    def test_deleting_is_all_or_nothing(self):
        registry = Registry()
        registry.add(Thing(), "a")
        with self.assertRaisesRegex(TmError, 'No snapshot "7": there is a'):
            registry.delete(["a", "7"])
        self.assertEqual(registry.names(), ["a"])

    def test_last(self):
        registry = Registry()
        self.assertIsNone(registry.last())
        registry.add(Thing())
        last = Thing()
        registry.add(last, "x")
        self.assertIs(registry.last(), last)


if __name__ == "__main__":
    unittest.main()
