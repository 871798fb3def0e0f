"""The rules of tracemalloc's documentation, one test each, for tm and for CPython's module.

gdb-plugin/TRACEMALLOC.md says which test holds which rule.  What random input shows
better is in tests/oracle/test_tracemalloc_parity.py.  May use the standard library
and tm.  Must never need gdb.
"""

import linecache
import os
import tempfile
import tracemalloc
import unittest
from unittest import mock

import tm

LEAF, ROOT = ("/src/leaf.c", 7), ("/src/main.c", 12)
TRACES = [(0, 100, (LEAF, ROOT), 2), (0, 100, (LEAF, ROOT), 2),
          (0, 500, (("/src/x.c", 1), ROOT), 2), (3, 40, (("/src/leaf.c", 8),), 1),
          (0, 9, (("<unknown>", 0),), 1)]


class Rules(unittest.TestCase):
    def each(self, traces=TRACES, limit=10):
        """Either module with a snapshot of the same traces."""
        for module in (tm, tracemalloc):
            with self.subTest(module.__name__):
                yield module, module.Snapshot(traces, limit)

    def sizes(self, snapshot):
        return [trace.size for trace in snapshot.traces]


class Filters(Rules):
    def left(self, module, snapshot, *filters):
        return self.sizes(snapshot.filter_traces([make(module) for make in filters]))

    def test_domain_filter_includes_or_excludes_an_address_space(self):
        for module, snapshot in self.each():
            self.assertEqual(self.left(module, snapshot, lambda m: m.DomainFilter(True, 3)), [40])
            self.assertEqual(self.left(module, snapshot, lambda m: m.DomainFilter(False, 3)),
                             [100, 100, 500, 9])
            one = module.DomainFilter(inclusive=True, domain=3)
            self.assertEqual((one.inclusive, one.domain), (True, 3))
            with self.assertRaises(AttributeError):
                one.domain = 4

    def test_filter_has_its_documented_arguments(self):
        for module, _snapshot in self.each():
            one = module.Filter(True, "*.c")
            self.assertEqual((one.inclusive, one.filename_pattern, one.lineno, one.all_frames,
                              one.domain), (True, "*.c", None, False, None))
            one = module.Filter(inclusive=False, filename_pattern="a", lineno=5, all_frames=True,
                                domain=1)
            self.assertEqual((one.inclusive, one.filename_pattern, one.lineno, one.all_frames,
                              one.domain), (False, "a", 5, True, 1))
            with self.assertRaises(AttributeError):
                one.filename_pattern = "b"

    def test_filter_matches_by_pattern_and_line(self):
        for module, snapshot in self.each():
            for arguments, wanted in (
                    ((True, "*/leaf.c"), [100, 100, 40]), ((False, "*/leaf.c"), [500, 9]),
                    ((True, "*/leaf.c", 8), [40]),
                    ((True, "/src/[lx]*.?", None), [100, 100, 500, 40]),
                    ((False, "*/leaf.c", 7), [500, 40, 9]), ((True, "leaf.c"), [])):
                self.assertEqual(
                    self.left(module, snapshot, lambda m, a=arguments: m.Filter(*a)), wanted)

    def test_filter_with_a_domain(self):
        for module, snapshot in self.each():
            self.assertEqual(self.left(
                module, snapshot, lambda m: m.Filter(True, "*/leaf.c", domain=3)), [40])
            self.assertEqual(self.left(
                module, snapshot, lambda m: m.Filter(True, "*/leaf.c", domain=0)), [100, 100])

    def test_unknown_frames_can_be_left_out(self):
        for module, snapshot in self.each():
            self.assertEqual(self.left(module, snapshot, lambda m: m.Filter(False, "<unknown>")),
                             [100, 100, 500, 40])

    def test_pyc_stands_for_py_and_pyo_does_not(self):
        traces = [(0, 1, (("/a.py", 1),), 1), (0, 2, (("/a.pyc", 1),), 1),
                  (0, 3, (("/a.pyo", 1),), 1)]
        for module, snapshot in self.each(traces):
            for pattern, wanted in (("/a.py", [1, 2]), ("/a.pyc", [1, 2]), ("/a.pyo", [3])):
                self.assertEqual(self.left(
                    module, snapshot, lambda m, p=pattern: m.Filter(True, p)), wanted)

    def test_all_frames_looks_further_than_the_most_recent(self):
        for module, snapshot in self.each():
            self.assertEqual(self.left(module, snapshot, lambda m: m.Filter(True, "*/main.c")), [])
            self.assertEqual(self.left(module, snapshot, lambda m: m.Filter(
                True, "*/main.c", all_frames=True)), [100, 100, 500])
            self.assertEqual(self.left(module, snapshot, lambda m: m.Filter(
                False, "*/main.c", all_frames=True)), [40, 9])

    def test_all_frames_is_without_effect_when_there_is_one(self):
        traces = [(domain, size, frames[:1], 1) for domain, size, frames, _total in TRACES]
        for module, snapshot in self.each(traces, 1):
            for pattern in ("*/leaf.c", "*/main.c"):
                one, all_ = (self.left(module, snapshot, lambda m, p=pattern, a=a: m.Filter(
                    True, p, all_frames=a)) for a in (False, True))
                self.assertEqual(one, all_)

    def test_inclusive_filters_are_applied_at_once_then_the_others(self):
        for module, snapshot in self.each():
            self.assertEqual(self.left(
                module, snapshot, lambda m: m.Filter(True, "*/x.c"),
                lambda m: m.DomainFilter(True, 3), lambda m: m.Filter(False, "*", 8)), [500])
            self.assertEqual(self.left(
                module, snapshot, lambda m: m.Filter(False, "*/x.c"),
                lambda m: m.Filter(False, "*/leaf.c", 7)), [40, 9])

    def test_no_filters_give_a_copy(self):
        for _module, snapshot in self.each():
            copy = snapshot.filter_traces([])
            self.assertIsNot(copy, snapshot)
            self.assertEqual(self.sizes(copy), self.sizes(snapshot))
            self.assertEqual(copy.traceback_limit, snapshot.traceback_limit)


class Statistics(Rules):
    def test_figures_of_a_group(self):
        for module, snapshot in self.each():
            first = snapshot.statistics("lineno")[1]
            self.assertIsInstance(first, module.Statistic)
            self.assertIsInstance(first.traceback, module.Traceback)
            self.assertEqual((first.size, first.count, str(first.traceback)),
                             (200, 2, "/src/leaf.c:7"))
            self.assertEqual(str(first), "/src/leaf.c:7: size=200 B, count=2, average=100 B")

    def test_three_keys(self):
        for _module, snapshot in self.each():
            self.assertEqual([one.size for one in snapshot.statistics("filename")], [500, 240, 9])
            self.assertEqual([one.size for one in snapshot.statistics("lineno")], [500, 200, 40, 9])
            self.assertEqual([len(one.traceback) for one in snapshot.statistics("traceback")],
                             [2, 2, 1, 1])

    def test_cumulative_counts_every_frame(self):
        for _module, snapshot in self.each():
            self.assertEqual(str(snapshot.statistics("lineno", cumulative=True)[0]),
                             "/src/main.c:12: size=700 B, count=3, average=233 B")
            self.assertEqual(snapshot.statistics("filename", True)[0].count, 3)
            with self.assertRaises(ValueError):
                snapshot.statistics("traceback", cumulative=True)

    def test_order_is_size_count_traceback(self):
        traces = [(0, size, ((name, 1),), 1) for name, size in (
            ("b", 50), ("b", 50), ("a", 100), ("c", 100), ("d", 101))]
        for _module, snapshot in self.each(traces):
            self.assertEqual([str(one.traceback) for one in snapshot.statistics("lineno")],
                             ["d:1", "b:1", "c:1", "a:1"])

    def test_order_of_differences(self):
        old = [(0, 100, (("gone", 1),), 1), (0, 30, (("same", 1),), 1), (0, 30, (("more", 1),), 1),
               (0, 30, (("count", 1),), 1)]
        new = [(0, 30, (("same", 1),), 1), (0, 60, (("more", 1),), 1),
               (0, 15, (("count", 1),), 1), (0, 15, (("count", 1),), 1), (0, 100, (("new", 1),), 1)]
        for module, snapshot in self.each(new):
            found = snapshot.compare_to(module.Snapshot(old, 10), "lineno")
            self.assertIsInstance(found[0], module.StatisticDiff)
            self.assertEqual(
                [(str(one.traceback), one.size, one.size_diff, one.count, one.count_diff)
                 for one in found],
                [("new:1", 100, 100, 1, 1), ("gone:1", 0, -100, 0, -1), ("more:1", 60, 30, 1, 0),
                 ("count:1", 30, 0, 2, 1), ("same:1", 30, 0, 1, 0)])


class Parts(Rules):
    def test_trace(self):
        for module, snapshot in self.each():
            trace = snapshot.traces[3]
            self.assertIsInstance(trace, module.Trace)
            self.assertEqual((trace.domain, trace.size, str(trace.traceback)),
                             (3, 40, "/src/leaf.c:8"))
            for name in ("domain", "size", "traceback"):
                with self.assertRaises(AttributeError):
                    setattr(trace, name, 1)

    def test_traceback_is_a_sequence_oldest_first(self):
        for module, snapshot in self.each():
            traceback = snapshot.traces[0].traceback
            self.assertEqual([(frame.filename, frame.lineno) for frame in traceback], [ROOT, LEAF])
            self.assertIsInstance(traceback[0], module.Frame)
            self.assertEqual(str(traceback), "/src/main.c:12")
            self.assertEqual(len(traceback), 2)
            for name in ("filename", "lineno"):
                with self.assertRaises(AttributeError):
                    setattr(traceback[0], name, 1)

    def test_total_nframe_tells_what_was_cut(self):
        traces = [(0, 1, (LEAF,), 9), (0, 1, (LEAF,), 1)]
        for module, snapshot in self.each(traces, 1):
            self.assertEqual([trace.traceback.total_nframe for trace in snapshot.traces], [9, 1])
            self.assertIsNone(module.Traceback((LEAF,)).total_nframe)

    def test_format_of_a_traceback(self):
        frames = tuple(("/src/f%d.c" % number, number) for number in range(4, 0, -1))
        source = {1: "  one();\n", 3: "three();"}
        with mock.patch.object(linecache, "getline", lambda _name, line, *_: source.get(line, "")):
            for module, _snapshot in self.each():
                traceback = module.Traceback(frames)
                lines = ['  File "/src/f1.c", line 1', "    one();", '  File "/src/f2.c", line 2',
                         '  File "/src/f3.c", line 3', "    three();", '  File "/src/f4.c", line 4']
                self.assertEqual(traceback.format(), lines)
                self.assertEqual(traceback.format(limit=2), lines[3:])
                self.assertEqual(traceback.format(-1), lines[:5])
                self.assertEqual(traceback.format(-3), lines[:2])
                self.assertEqual(traceback.format(0), [])
                self.assertEqual(traceback.format(9), lines)
                self.assertEqual(traceback.format(2, most_recent_first=True),
                                 [lines[5], *lines[3:5]])

    def test_snapshot_has_limit_and_traces(self):
        for _module, snapshot in self.each(limit=25):
            self.assertEqual(snapshot.traceback_limit, 25)
            self.assertEqual(len(snapshot.traces), 5)
            self.assertEqual(sorted(self.sizes(snapshot)), [9, 40, 100, 100, 500])

    def test_dump_and_load(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.snapshot")
            for module, snapshot in self.each():
                snapshot.note = "kept"
                snapshot.dump(path)
                loaded = module.Snapshot.load(path)
                self.assertEqual(loaded.note, "kept")
                self.assertEqual(loaded.traceback_limit, snapshot.traceback_limit)
                self.assertEqual(self.sizes(loaded), self.sizes(snapshot))
                self.assertEqual([str(one) for one in loaded.statistics("traceback")],
                                 [str(one) for one in snapshot.statistics("traceback")])
                self.assertEqual(loaded.compare_to(snapshot, "lineno")[0].size_diff, 0)


if __name__ == "__main__":
    unittest.main()
