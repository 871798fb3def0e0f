"""The call tree, totals, histogram and growth of snapshots made of plain data.

May use the standard library, tm and _tm.  Must never need gdb.
"""

import json
import unittest

import tm
from tm import calltree, residency, summary
from tm.histogram import histogram, median
from tm.tracebacks import Frame


def frame(function, line):
    return Frame("/src/%s.c" % function, line, function, "/bin/server")


MAIN, SERVE, PARSE, COPY = (frame(*each) for each in
                            (("main", 1), ("serve", 2), ("parse", 3), ("copy", 4)))
STRIPPED = Frame("x.so+0x12", 0, None, "/lib/x.so", None, has_line=False)


def snapshot(*traces, name="1"):
    """Of (size, count, domain, frames most recent first)."""
    made = tm.Snapshot.from_traces(
        [(domain, size, frames, len(frames))
         for size, count, domain, frames in traces for _ in range(count)], 10)
    made.name = name
    return made


HEAP = snapshot((1000, 8, 0, (COPY, PARSE, SERVE, MAIN)), (1000, 1, 0, (COPY, SERVE, MAIN)),
                (990, 1, 1, (SERVE, MAIN)), (10, 1, 0, (STRIPPED,)))


class Tree(unittest.TestCase):
    def test_text(self):
        self.assertEqual(calltree.render_tree(HEAP), "\n".join([
            "[ Call tree, oldest call first ]",
            " 99.9%     9990 B  10  main (/src/main.c:1)",
            "                       serve (/src/serve.c:2)",
            " 80.0%     8000 B   8    parse (/src/parse.c:3)",
            "                         copy (/src/copy.c:4)",
            " 10.0%     1000 B   1    copy (/src/copy.c:4)",
            "  0.1%       10 B   1  1 smaller",
            "Total allocated size: 10000 B", ""]))

    def test_inverted(self):
        self.assertEqual(calltree.render_tree(HEAP, True, 0, lambda name: "f"), "\n".join([
            "[ Call tree, most recent call first ]",
            " 90.0%     9000 B   9  copy (f:4)",
            " 80.0%     8000 B   8    parse (f:3)",
            "                         serve (f:2)",
            "                         main (f:1)",
            " 10.0%     1000 B   1    serve (f:2)",
            "                         main (f:1)",
            "  9.9%      990 B   1  serve (f:2)",
            "                       main (f:1)",
            "  0.1%       10 B   1  x.so+0x12",
            "Total allocated size: 10000 B", ""]))

    def test_document(self):
        document = calltree.tree_document(HEAP, False, 1)
        self.assertEqual((document["total_size"], document["total_count"]),
                         (HEAP.size, HEAP.blocks))
        self.assertEqual([(each["parent"], each["depth"], each.get("function"), each["size"],
                           each.get("own_size")) for each in document["nodes"]],
                         [(None, 0, "main", 9990, 0), (0, 1, "serve", 9990, 990),
                          (1, 2, "parse", 8000, 0), (2, 3, "copy", 8000, 8000),
                          (1, 2, "copy", 1000, 1000), (None, 0, None, 10, None)])
        self.assertEqual(document["nodes"][-1]["smaller"], 1)
        own = sum(each["own_size"] for each in calltree.tree_document(HEAP, True, 0)["nodes"])
        self.assertEqual(own, HEAP.size)

    def test_deep_recursion_is_no_trouble(self):
        deep = snapshot((8, 1, 0, tuple(frame("f", line) for line in range(5000))))
        self.assertEqual(calltree.render_tree(deep).count("\n"), 5002)
        self.assertEqual(len(json.loads(json.dumps(calltree.tree_document(deep)))["nodes"]), 5000)

    def test_nothing_at_all(self):
        self.assertEqual(calltree.render_tree(tm.Snapshot.from_traces([])),
                         "[ Call tree, oldest call first ]\nTotal allocated size: 0 B\n")


class Histogram(unittest.TestCase):
    def test_buckets_are_powers_of_two_without_gaps(self):
        buckets = histogram([(0, 1, 0), (1, 2, 2), (8, 1, 8), (15, 1, 15), (16, 1, 16)])
        self.assertEqual([tuple(each) for each in buckets],
                         [(0, 0, 1, 0), (1, 1, 2, 2), (2, 3, 0, 0), (4, 7, 0, 0), (8, 15, 2, 23),
                          (16, 31, 1, 16)])
        self.assertEqual(histogram([]), [])

    def test_median(self):
        self.assertEqual([median(each) for each in
                          ([(5, 1)], [(5, 1), (9, 1)], [(5, 1), (9, 2)], [])], [5, 5, 9, 0])


class Stats(unittest.TestCase):
    def test_text(self):
        self.assertEqual(summary.render_stats(summary.stats_document(HEAP)), "\n".join([
            "Snapshot 1: 11 blocks, 10000 B, 4 tracebacks (limit 10).",
            "A block has 909 B on average, median 1000 B, smallest 10 B, largest 1000 B.",
            "Size of a block  Blocks   Bytes",
            "8 - 15 B              1    10 B  #",
            "16 - 31 B             0     0 B",
            "32 - 63 B             0     0 B",
            "64 - 127 B            0     0 B",
            "128 - 255 B           0     0 B",
            "256 - 511 B           0     0 B",
            "512 - 1023 B         10  9990 B  ########################################",
            "In domain 0 (malloc): 10 blocks, 9010 B.",
            "In domain 1 (mmap): 1 block, 990 B.", ""]))

    def test_it_fits_a_narrow_screen(self):
        text = summary.render_stats(summary.stats_document(HEAP), (), 50)
        self.assertLess(max(len(line) for line in text.splitlines()[2:-2]), 50)

    def test_document(self):
        document = summary.stats_document(HEAP)
        self.assertEqual(sum(each["size"] for each in document["histogram"]), HEAP.size)
        self.assertEqual(sum(each["count"] for each in document["histogram"]), HEAP.blocks)
        self.assertEqual(document["domains"], [{"domain": 0, "size": 9010, "count": 10},
                                               {"domain": 1, "size": 990, "count": 1}])
        empty = summary.stats_document(tm.Snapshot.from_traces([]))
        self.assertEqual((empty["average"], empty["largest"], empty["histogram"]),
                         (None, None, []))
        self.assertEqual(summary.render_stats(dict(empty, snapshot="2")),
                         "Snapshot 2: 0 blocks, 0 B, 0 tracebacks (limit 1).\n")

    def test_memory_of_a_process(self):
        text = ("Name:\tx\nVmSwap:\t       8 kB\nVmRSS:\t    100 kB\nRssAnon:\t      60 kB\n"
                "RssFile:\t      30 kB\nRssShmem:\t      10 kB\nThreads:\t1\n")
        memory = residency.parse(text)
        status = {"current": 4096, "peak": 9000, "helper_memory": 8192}
        facts = residency.document(42, memory, status)
        self.assertEqual(facts["unexplained"], (60 + 8 - 4 - 8) * 1024)
        lines = residency.lines(facts)
        self.assertEqual(lines[0], "Process 42: 100 KiB resident (60.0 KiB anonymous, 30.0 KiB of "
                                   "files, 10.0 KiB shared), 8192 B swapped out.")
        self.assertIn("The other 56.0 KiB are ", lines[2])
        self.assertIsNone(residency.parse("Name:\tx\n"))
        few = residency.document(42, dict(memory, anonymous=0, swapped=0), status)
        self.assertIn("at most 0 B are traced blocks (peak 9000 B), and at most 0 B the tracer's",
                      residency.lines(few)[-1])


class Check(unittest.TestCase):
    def test_growth(self):
        old = snapshot((1000, 5, 0, (COPY, PARSE, SERVE, MAIN)), name="before")
        document = summary.check_document(old, HEAP, 4999)
        self.assertEqual((document["ok"], document["growth"]), (False, 5000))
        self.assertEqual(summary.check_text(document), (
            "The heap grew by 5000 B from before to 1 (5000 B to 10000 B, +6 blocks), more than "
            "the 4999 B allowed, most at /src/copy.c:4 (+4000 B)."))
        document = summary.check_document(old, HEAP, 5000)
        self.assertTrue(document["ok"])
        self.assertTrue(summary.check_text(document).endswith(
            "+6 blocks), no more than the 5000 B allowed."))
        back = summary.check_document(HEAP, old, 0)
        self.assertTrue(back["ok"])
        self.assertTrue(summary.check_text(back).startswith("The heap shrank by 5000 B "))


if __name__ == "__main__":
    unittest.main()
