"""The live views as text, and the memory of a watch: widths, marks, drawings, bounds.

May use the standard library and tm.  Must never need gdb.
"""
import random
import unittest

from tm import live
from tm.live import ASCII, Picture, Row, UNICODE
from tm.series import KEPT_LINES, MAX_ROUNDS, Series

NAMES = ("/src/session.cc:88", "/a/very/long/path/" + "folder/" * 30 + "file.c:1", "x", "",
         "/src/\x1b[31m\u202eevil\n.c:7", "/src/\u4e2d\u6587\u6587\u4ef6\u540d.c:12",
         "/src/e\u0301\u0301\u0301.c:1", "libx.so!f(int)+0x1c")


def row(name, size, count, size_diff=None, count_diff=0):
    return Row(name, size, count, size_diff, count_diff)


class Text(unittest.TestCase):
    def test_no_line_is_wider_than_it_may_be(self):
        random.seed(7)
        for glyphs in (UNICODE, ASCII):
            for width in (1, 5, 20, 40, 59, 60, 71, 72, 80, 99, 100, 200):
                for name in NAMES:
                    size = random.choice((0, 1, 99999, 10 ** 13))
                    diff = random.choice((None, 0, size, -size, -10 ** 12))
                    each = row(name, size, random.randrange(10 ** 9), diff, 5)
                    for first in (0, 3, 500):
                        line = live.row_line(each, 10 ** 13, 10 ** 13, width, glyphs, first, True)
                        text = live.plain(line)
                        self.assertLessEqual(live.width_of(text), width)
                        self.assertTrue(text.isprintable(), repr(text))
                        self.assertTrue(glyphs is UNICODE or text.isascii())

    def test_names_are_cut_in_the_middle(self):
        self.assertEqual(live.shortened("/src/server/session.cc:88", 20), "/src/s…session.cc:88")
        self.assertEqual(live.shortened("/src/a.c:1", 10), "/src/a.c:1")
        for width in range(4, 40):
            text = live.shortened("/a/b/" + "\u4e2d" * 30 + "/file.c:123", width)
            self.assertLessEqual(live.width_of(text), width)
            self.assertTrue(text.endswith("123"), text)

    def test_marks(self):
        self.assertEqual([row("x", *facts).mark for facts in (
            (10, 1, None, 0), (10, 1, 0, 0), (10, 1, 10, 1), (10, 2, 5, 1), (10, 2, -5, -1),
            (10, 2, 0, 1), (10, 2, 0, -1))], ["", "", "new", "grown", "shrunk", "grown", "shrunk"])

    def test_styles_surround_the_text(self):
        line = [("a", "grown"), ("b", "")]
        self.assertEqual(live.styled(line), "\x1b[31ma\x1b[mb")
        self.assertEqual(live.styled(line, False), "ab")

    def test_the_table_says_what_it_leaves_out(self):
        picture = Picture([row("a", 100, 1), row("b", 50, 1), row("c", 25, 1)], 185, 5, None, 0,
                          2, 10)
        lines = [live.plain(line) for line in live.table(picture, 80, 1)]
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[0], r"^ +100 B .* a$")
        self.assertRegex(lines[1], r"^ +85 B  4 other$")
        self.assertEqual(len(live.table(picture, 80)), 4)

    def test_estimates_are_said_to_be_some(self):
        exact = Picture([], 2048, 1, 0, 0)
        self.assertEqual(live.plain(live.totals(exact)), "2048 B in 1 block  unchanged")
        guessed = exact._replace(note="-sample 1KiB, error 1.4 %")
        self.assertEqual(live.plain(live.totals(guessed)),
                         "2048 B in 1 block  unchanged  -sample 1KiB, error 1.4 %")

    def test_bars(self):
        self.assertEqual(live.bar(1, 4), "████")
        self.assertEqual(live.bar(0.5, 4), "██")
        self.assertEqual(live.bar(0.0001, 4), "▏")
        self.assertEqual(live.bar(0, 4), "")
        self.assertEqual(live.bar(7, 4, ASCII), "####")

    def test_sparkline(self):
        self.assertEqual(live.sparkline([0, 7], 10), "▁█")
        self.assertEqual(live.sparkline([5, 5, 5], 10), "▁▁▁")
        self.assertEqual(live.sparkline(list(range(8)), 8), "▁▂▃▄▅▆▇█")
        spike = [1] * 500 + [9] + [1] * 499
        self.assertIn("█", live.sparkline(spike, 20))
        self.assertEqual(len(live.sparkline(spike, 20)), 20)
        self.assertEqual(live.sparkline([], 20), "")

    def test_a_character_set_without_blocks_gets_ascii(self):
        self.assertIs(live.glyphs("utf-8"), UNICODE)
        for charset in ("ascii", "latin-1", "no-such-set"):
            self.assertIs(live.glyphs(charset), ASCII)


class Watched(unittest.TestCase):
    def test_lines_that_were_in_the_table_have_their_past(self):
        series = Series("lineno", "process 1")
        series.add(0, 110, 2, None, [("a", 100), ("b", 10)], 1)
        series.add(1, 150, 2, 2.0, [("a", 100), ("b", 50)], 1)
        series.add(2, 300, 2, 4.0, [("b", 200), ("a", 100)], 1)
        series.add(3, 100, 1, 3.0, [("a", 100)], 1)
        self.assertEqual(series.largest(9), [("b", [10, 50, 200, None]), ("a", [100] * 4)])
        self.assertEqual(series.sizes, [110, 150, 300, 100])
        self.assertEqual(series.peak().seconds, 2)
        self.assertEqual(series.times_stopped(), (3, 3.0, 4.0))

    def test_lines_that_never_were_in_the_table_are_not_shown(self):
        series = Series("lineno", "process 1")
        series.add(0, 110, 2, None, [("a", 100), ("b", 10)], 1)
        self.assertEqual(series.largest(9), [("a", [100])])

    def test_lines_of_one_name_are_one(self):
        series = Series("traceback", "process 1")
        series.add(0, 30, 2, None, [("a", 20), ("a", 10)], 2)
        self.assertEqual(series.largest(9), [("a", [30])])

    def test_a_long_watch_is_thinned_and_keeps_its_peaks(self):
        series = Series("lineno", "process 1")
        random.seed(3)
        highest = 0
        for second in range(5 * MAX_ROUNDS):
            size = random.randrange(10 ** 6)
            highest = max(highest, size)
            series.add(second, size, 1, 1.0,
                       [("line %d" % (second + place), 1) for place in range(2 * KEPT_LINES)], 3)
            self.assertLessEqual(len(series.rounds), MAX_ROUNDS)
            self.assertLessEqual(len(series.names), (MAX_ROUNDS + 1) * KEPT_LINES)
        self.assertEqual(series.peak().size, highest)
        self.assertEqual(series.rounds[-1].seconds, 5 * MAX_ROUNDS - 1)
        self.assertEqual(series.rounds[0].seconds, 0)
        self.assertEqual(len(series.rounds) + series.left_out, 5 * MAX_ROUNDS)
        self.assertEqual(series.times_stopped()[0], 5 * MAX_ROUNDS)
        self.assertEqual([each.seconds for each in series.rounds],
                         sorted(each.seconds for each in series.rounds))
        name, sizes = series.largest(1)[0]
        self.assertEqual(len(sizes), len(series.rounds))


if __name__ == "__main__":
    unittest.main()
