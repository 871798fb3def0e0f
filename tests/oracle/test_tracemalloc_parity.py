"""The analysis agrees with CPython's own tracemalloc on any input.

Thousands of random sets of raw traces go through tm.Snapshot.from_traces and
through tracemalloc.Snapshot; everything that can be asked of the two must have
the same answer.  TM_PARITY_CASES and TM_PARITY_SEED choose how many and which.

May use the standard library, tm and _tm.  Must never need gdb.
"""

import os
import random
import tracemalloc
import unittest
from unittest import mock

import tm

CASES = int(os.environ.get("TM_PARITY_CASES",
                           "20000" if os.environ.get("TM_TEST_FULL") else "1000"))
SEED = int(os.environ.get("TM_PARITY_SEED", "20260101"))

NAMES = ("a.c", "b.c", "/src/a.c", "/src/sub/b.cc", "<unknown>", "mod.pyc", "mod.py", "é.c",
         "日本語.cc", "with space.c", "colon:7.c", "[ab].c", "*.c", "?", "", "\U0001f600.c", "A.C",
         "\udcff.c", "new\nline.c", "/src//a.c", "a.c.c", "z" * 300, "%s%d")
PATTERNS = NAMES + ("*", "/src/*", "*.c", "[!a]*", "[ab].c", "?.c", "*.py", "*.pyc", "<*>", "[", "")
DOMAINS = (0, 0, 0, 1, 7, 0xffffffff - 1)
LINES = (0, 1, 2, 10, 88, 100000, 2 ** 31)


def random_frame(chance, names):
    return chance.choice(names), chance.choice(LINES)


def random_traceback(chance, names):
    return tuple(random_frame(chance, names) for _ in range(chance.choice((1, 1, 2, 3, 5, 25))))


def random_size(chance):
    return chance.choice((0, 1, 8, 100, 512, 1023, 1024, 10239, 10240, 102399, 2 ** 20, 2 ** 31,
                          2 ** 40, chance.randrange(1, 5000), chance.randrange(1, 2 ** 44)))


def random_traces(chance):
    """Raw traces as _tracemalloc._get_traces() gives them."""
    names = chance.sample(NAMES, chance.randint(1, len(NAMES)))
    few = [random_traceback(chance, names) for _ in range(chance.randint(1, 12))]
    traces = []
    for _ in range(chance.choice((0, 1, 2, 10, 60))):
        frames = chance.choice(few) if chance.random() < 0.8 else random_traceback(chance, names)
        trace = (chance.choice(DOMAINS), random_size(chance), frames,
                 chance.choice((len(frames), len(frames) + 3, 1000)))
        traces.extend([trace] * chance.choice((1, 1, 1, 2, 5)))
    if chance.random() < 0.5:
        chance.shuffle(traces)
    return traces


def random_filter(chance, module):
    """A filter, made from the same choices for any of the two modules."""
    if chance.random() < 0.3:
        return module.DomainFilter(chance.random() < 0.5, chance.choice(DOMAINS + (5,)))
    return module.Filter(chance.random() < 0.5, chance.choice(PATTERNS),
                         lineno=chance.choice((None, None) + LINES),
                         all_frames=chance.random() < 0.4,
                         domain=chance.choice((None, None, None, 0, 1, 5)))


def both(seed, make):
    """What `make` gives for each module, from the same random choices."""
    return make(random.Random(seed), tm), make(random.Random(seed), tracemalloc)


def plain_frame(frame):
    return frame.filename, frame.lineno


def plain_traceback(traceback):
    return [plain_frame(frame) for frame in traceback], traceback.total_nframe


def plain_statistic(statistic):
    """All that a Statistic or StatisticDiff says."""
    names = ("size", "size_diff", "count", "count_diff")
    figures = [getattr(statistic, name, None) for name in names]
    return (plain_traceback(statistic.traceback), figures, str(statistic), repr(statistic),
            statistic.traceback.format(), statistic.traceback.format(2, True),
            statistic.traceback.format(-1))


def plain_trace(trace):
    return (trace.domain, trace.size, plain_traceback(trace.traceback), str(trace), repr(trace))


def pretended_line(filename, lineno, _globals=None):
    """Every other line has a source: no looking for files that are not there."""
    return "  line %d of %s;\n" % (lineno, filename[:3]) if lineno % 2 else ""


MODES = [("lineno", False), ("filename", False), ("traceback", False), ("lineno", True),
         ("filename", True)]
WRONG_MODES = [("traceback", True), ("nothing", False), ("nothing", True), (None, False), (7, True)]


class Parity(unittest.TestCase):
    """tm and tracemalloc, side by side."""

    def setUp(self):
        self.maxDiff = 2000
        self.seed = None
        source = mock.patch("linecache.getline", pretended_line)
        source.start()
        self.addCleanup(source.stop)

    def _formatMessage(self, msg, standardMsg):
        return super()._formatMessage("%s (seed %r)" % (msg or "", self.seed), standardMsg)

    def assert_same_statistics(self, ours, theirs):
        self.assertEqual([plain_statistic(one) for one in ours],
                         [plain_statistic(one) for one in theirs])

    def cases(self, what):
        for number in range(CASES):
            self.seed = "%d/%s/%d" % (SEED, what, number)
            yield self.seed, random.Random(self.seed)

    def pair(self, chance):
        traces, limit = random_traces(chance), chance.choice((1, 10, 25, 1000))
        return tm.Snapshot.from_traces(traces, limit), tracemalloc.Snapshot(traces, limit)

    def test_statistics(self):
        for _seed, chance in self.cases("statistics"):
            ours, theirs = self.pair(chance)
            for mode in MODES:
                self.assert_same_statistics(ours.statistics(*mode), theirs.statistics(*mode))

    def test_compare_to(self):
        for _seed, chance in self.cases("compare"):
            ours, theirs = self.pair(chance)
            ours_old, theirs_old = self.pair(chance)
            for mode in MODES:
                self.assert_same_statistics(ours.compare_to(ours_old, *mode),
                                            theirs.compare_to(theirs_old, *mode))

    def test_first_ones(self):
        """Without the others being put in order, and with many that tie."""
        for _seed, chance in self.cases("first"):
            callers = [random_traceback(chance, NAMES[:4]) for _ in range(5)]
            kinds = [[(0, chance.choice((0, 8, 8, 16)),
                       random_traceback(chance, NAMES[:3])[:3] + chance.choice(callers))
                      for _ in range(chance.choice((1, 20, 60)))] for _ in range(2)]
            new, old = (tm.Snapshot.from_traces(traces, 10) for traces in kinds)
            their_new, their_old = (tracemalloc.Snapshot([(*trace, None) for trace in traces], 10)
                                    for traces in kinds)
            first = chance.randint(1, 5)
            for mode in MODES:
                groups = new.groups(*mode, once=False, first=first)
                theirs = their_new.statistics(*mode)
                self.assert_same_statistics(groups[:first], theirs[:first])
                self.assertEqual(groups.rest(first), (
                    max(0, len(theirs) - first), sum(each.size for each in theirs[first:]),
                    sum(each.count for each in theirs[first:])))
                self.assert_same_statistics(
                    new.differences(old, *mode, once=False, first=first)[:first],
                    their_new.compare_to(their_old, *mode)[:first])

    def test_traces(self):
        for _seed, chance in self.cases("traces"):
            ours, theirs = self.pair(chance)
            self.assertEqual(len(ours.traces), len(theirs.traces))
            self.assertEqual([plain_trace(one) for one in ours.traces],
                             [plain_trace(one) for one in theirs.traces])
            self.assertEqual(repr(ours.traces), repr(theirs.traces))
            self.assertEqual(ours.traceback_limit, theirs.traceback_limit)
            where = slice(chance.randint(-5, 5), chance.randint(-5, 20), chance.choice((1, 2, -1)))
            self.assertEqual([plain_trace(one) for one in ours.traces[where]],
                             [plain_trace(one) for one in theirs.traces[where]])
            for place in (0, -1, len(ours.traces) // 2):
                if len(ours.traces):
                    self.assertEqual(plain_trace(ours.traces[place]),
                                     plain_trace(theirs.traces[place]))
                    self.assertIn(ours.traces[place], ours.traces)

    def test_filter_traces(self):
        for seed, chance in self.cases("filter"):
            ours, theirs = self.pair(chance)
            count = chance.choice((0, 1, 1, 2, 4))
            our_filters, their_filters = both(
                seed + "/filters",
                lambda choices, module: [random_filter(choices, module) for _ in range(count)])
            ours, theirs = ours.filter_traces(our_filters), theirs.filter_traces(their_filters)
            self.assertEqual([plain_trace(one) for one in ours.traces],
                             [plain_trace(one) for one in theirs.traces])
            self.assert_same_statistics(ours.statistics("lineno"), theirs.statistics("lineno"))
            self.assertEqual(ours.traceback_limit, theirs.traceback_limit)

    def test_filters_of_ones_own(self):
        def make(_choices, module):
            class Big(type(module.DomainFilter(True, 0)).__mro__[1]):
                def _match(self, trace):
                    return (trace[1] > 500) ^ (not self.inclusive)
            return Big
        our_class, their_class = both("own", make)
        for _seed, chance in self.cases("own"):
            ours, theirs = self.pair(chance)
            inclusive = chance.random() < 0.5
            ours = ours.filter_traces((our_class(inclusive), tm.DomainFilter(False, 1)))
            theirs = theirs.filter_traces((their_class(inclusive),
                                           tracemalloc.DomainFilter(False, 1)))
            self.assertEqual([plain_trace(one) for one in ours.traces],
                             [plain_trace(one) for one in theirs.traces])

    def test_order_hash_and_equality(self):
        def make(choices, module):
            names = choices.sample(NAMES, 3)
            frames = [module.Frame(random_frame(choices, names)) for _ in range(6)]
            tracebacks = [module.Traceback(random_traceback(choices, names),
                                           choices.choice((None, 3))) for _ in range(6)]
            statistics = [module.Statistic(choices.choice(tracebacks[:2]), choices.randint(0, 1), 1)
                          for _ in range(6)]
            diffs = [module.StatisticDiff(choices.choice(tracebacks[:2]), 1, choices.randint(0, 1),
                                          1, 1) for _ in range(6)]
            traces = [module.Trace((0, choices.randint(0, 1), (("a", 1),), None))
                      for _ in range(6)]
            values = []
            for group in (frames, tracebacks, statistics, diffs, traces):
                for a in group:
                    values.append((str(a), repr(a)))
                    for b in group:
                        values.append((a == b, a != b, hash(a) == hash(b)))
                        if group in (frames, tracebacks):
                            values.append((a < b, a <= b, a > b, a >= b))
            values.append([[frame in traceback for frame in frames] for traceback in tracebacks])
            values.append([frames[0] == 1, tracebacks[0] == 1, statistics[0] == 1, traces[0] == 1])
            return values
        for seed, _chance in self.cases("order"):
            ours, theirs = both(seed, make)
            self.assertEqual(ours, theirs)

    def answer(self, function, *arguments):
        """The type and text of what a call raises."""
        try:
            function(*arguments)
        except (TypeError, ValueError, IndexError, RuntimeError) as error:
            return type(error), str(error)
        return None

    def test_exceptions(self):
        ours, theirs = self.pair(random.Random("exceptions"))
        for mode in WRONG_MODES:
            self.assertIsNotNone(self.answer(ours.statistics, *mode))
            self.assertEqual(self.answer(ours.statistics, *mode),
                             self.answer(theirs.statistics, *mode))
            self.assertEqual(self.answer(ours.compare_to, ours, *mode),
                             self.answer(theirs.compare_to, theirs, *mode))
        for wrong in (7, None, 1.5):
            self.assertIsNotNone(self.answer(ours.filter_traces, wrong))
            self.assertEqual(self.answer(ours.filter_traces, wrong),
                             self.answer(theirs.filter_traces, wrong))
        for module in (tm, tracemalloc):
            with self.assertRaises(TypeError):
                module.Frame(("a", 1)) < ("a", 1)
            with self.assertRaises(TypeError):
                module.Traceback((("a", 1),)) < 5
            with self.assertRaises(IndexError):
                module.Traceback((("a", 1),))[1]
            with self.assertRaises(AttributeError):
                module.Filter(True, "a").filename_pattern = "b"

    def test_format_size(self):
        chance = random.Random(SEED)
        sizes = [0, 1, 99, 100, 1023, 1024, 10239, 10240, 102348, 102349, 102399, 102400, 2 ** 50]
        sizes += [chance.randrange(2 ** chance.randrange(1, 62)) for _ in range(20000)]
        for size in sizes:
            for value in (size, -size, size / 7):
                for sign in (False, True):
                    self.assertEqual(tm.model.format_size(value, sign),
                                     tracemalloc._format_size(value, sign))

    def test_public_names(self):
        """Each public name of tracemalloc is there, with its public attributes."""
        names = [name for name in dir(tracemalloc) if not name.startswith("_")]
        documented = [name for name in names
                      if getattr(getattr(tracemalloc, name), "__module__", "")
                      in ("tracemalloc", "_tracemalloc")]
        self.assertGreater(len(documented), 15)
        for name in documented:
            self.assertTrue(hasattr(tm, name), name)
            theirs = getattr(tracemalloc, name)
            if isinstance(theirs, type):
                for attribute in dir(theirs):
                    if not attribute.startswith("_"):
                        self.assertTrue(hasattr(getattr(tm, name), attribute), attribute)


if __name__ == "__main__":
    unittest.main()
