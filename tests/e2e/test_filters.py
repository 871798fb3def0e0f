"""`tm filter` and `tm skip`: each report counts what tracemalloc's own filters let pass.

The snapshots are plain data; CPython's tracemalloc gets the same and says what the
reports must print.  May use gdbsession; must never import gdb.
"""
import tracemalloc
import unittest
from tracemalloc import DomainFilter, Filter

from gdbsession import Session, TestCase

TRACES = [
    (0, 1000, (("/src/net/session.cc", 88), ("/src/main.cc", 12)), 2),
    (0, 1000, (("/src/net/session.cc", 88), ("/src/main.cc", 12)), 2),
    (0, 300, (("/src/net/session.cc", 90), ("/src/main.cc", 14)), 2),
    (0, 77, (("/src/json.cc", 210), ("/src/net/session.cc", 88), ("/src/main.cc", 12)), 3),
    (1, 4096, (("/src/pool.c", 5), ("/src/main.cc", 12)), 2),
    (7, 8192, (("/src/pool.c", 6), ("/src/json.cc", 3), ("/src/main.cc", 20)), 3),
    (0, 5, (("<unknown>", 0),), 1),
    (0, 6, (("/src/with space.c", 1),), 1),
    (0, 7, (("/src/a:7.c", 2),), 1),
    (0, 8, (("/src/[x].c", 3),), 1),
]
OLD = TRACES[1:6]
REGISTER = """
import tm
from tm.snapshots import registry
registry.add(tm.Snapshot.from_traces(%r, 10), "data")
registry.add(tm.Snapshot.from_traces(%r, 10), "old")
"""
# what is typed, what tracemalloc calls it, how `tm filter list` says it
CASES = [
    [("*/session.cc", Filter(True, "*/session.cc"), "include */session.cc")],
    [("-exclude */session.cc", Filter(False, "*/session.cc"), "exclude */session.cc")],
    [("*/session.cc:88", Filter(True, "*/session.cc", 88), "include */session.cc:88")],
    [("-exclude */session.cc:88", Filter(False, "*/session.cc", 88),
      "exclude */session.cc:88")],
    [("*/session.cc:88 -all-frames", Filter(True, "*/session.cc", 88, True),
      "include */session.cc:88 in any frame")],
    [("-all-frames -exclude */json.cc", Filter(False, "*/json.cc", None, True),
      "exclude */json.cc in any frame")],
    [("-domain 1", DomainFilter(True, 1), "include in domain 1")],
    [("-domain 1 -exclude", DomainFilter(False, 1), "exclude in domain 1")],
    [("*/pool.c -domain 7", Filter(True, "*/pool.c", domain=7),
      "include */pool.c in domain 7")],
    [("*/pool.c -exclude -domain 7", Filter(False, "*/pool.c", domain=7),
      "exclude */pool.c in domain 7")],
    [("*/json.cc", Filter(True, "*/json.cc"), "include */json.cc"),
     ("*/pool.c:5", Filter(True, "*/pool.c", 5), "include */pool.c:5")],
    [("/src/*", Filter(True, "/src/*"), "include /src/*"),
     ("-exclude */main.cc -all-frames", Filter(False, "*/main.cc", None, True),
      "exclude */main.cc in any frame"),
     ("-exclude -domain 7", DomainFilter(False, 7), "exclude in domain 7")],
    [("-exclude <unknown>", Filter(False, "<unknown>"), "exclude <unknown>")],
    [("\"*/with space.c\"", Filter(True, "*/with space.c"), "include */with space.c")],
    [("*/a:7.c", Filter(True, "*/a:7.c"), "include */a:7.c")],
    [("*/a:7.c:2", Filter(True, "*/a:7.c", 2), "include */a:7.c:2")],
    [("/src/[jp]*", Filter(True, "/src/[jp]*"), "include /src/[jp]*")],
    [("/src/[!jp]*", Filter(True, "/src/[!jp]*"), "include /src/[!jp]*")],
    [("/src/[[]x].c", Filter(True, "/src/[[]x].c"), "include /src/[[]x].c")],
    [("/src/?ool.c", Filter(True, "/src/?ool.c"), "include /src/?ool.c")],
    [("/SRC/*", Filter(True, "/SRC/*"), "include /SRC/*")],
    [("session.cc", Filter(True, "session.cc"), "include session.cc")],
]


def top(snapshot, key="lineno", cumulative=False):
    """What `tm top` must print."""
    total = tracemalloc._format_size(sum(trace.size for trace in snapshot.traces), False)
    lines = [str(row).replace(":0: ", ": ") if key == "filename" or "<unknown>" in str(row)
             else str(row) for row in snapshot.statistics(key, cumulative)]
    return "\n".join(["[ Top 99 ]", *lines, f"Total allocated size: {total}"])


class Filters(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.gdb = cls.enterClassContext(Session())
        cls.gdb.python(REGISTER % (TRACES, OLD))
        cls.gdb.run("set tm limit 99")

    def setUp(self):
        self.gdb.run("tm filter clear")
        self.gdb.run("tm skip -clear")

    def unknown(self, text):
        """Plain data may call a line 0; a file without lines is shown without one by tm."""
        return text.replace("<unknown>:0: ", "<unknown>: ")

    def test_what_passes_is_what_tracemalloc_says(self):
        theirs, old = tracemalloc.Snapshot(TRACES, 10), tracemalloc.Snapshot(OLD, 10)
        for case in CASES:
            with self.subTest(case=[typed for typed, _filter, _text in case]):
                self.gdb.run("tm filter clear")
                for number, (typed, _filter, text) in enumerate(case, 1):
                    self.assertEqual(self.gdb.run(f"tm filter add {typed}"),
                                     f"Filter {number}: {text}.")
                self.assertEqual(self.gdb.run("tm filter list"), "\n".join(
                    f"{number}: {text}" for number, (_typed, _filter, text) in enumerate(case, 1)))
                filters = [each for _typed, each, _text in case]
                left, left_old = theirs.filter_traces(filters), old.filter_traces(filters)
                for key, cumulative in (("lineno", False), ("filename", False), ("lineno", True)):
                    line = f"tm top {key} data" + " -cumulative" * cumulative
                    self.assertEqual(self.unknown(self.gdb.run(line)), top(left, key, cumulative))
                self.check_other_reports(left, left_old)

    def check_other_reports(self, left, left_old):
        total = sum(trace.size for trace in left.traces)
        for key in ("traceback", "function", "module", "size", "domain"):
            document = self.gdb.json(f"tm top {key} data -json")
            self.assertEqual((document["total_size"], document["total_count"]),
                             (total, len(left.traces)), key)
        self.assertEqual(self.unknown(self.gdb.run("tm diff old data")), self.unknown("\n".join(
            ["[ Top 99 differences ]", *map(str, left.compare_to(left_old, "lineno"))])))
        traces = self.gdb.json("tm traces data -json")["traces"]
        self.assertEqual(sum(each["count"] for each in traces), len(left.traces))

    def test_they_are_numbered_and_deleted(self):
        for pattern in ("*/a.c", "*/b.c", "*/c.c"):
            self.gdb.run(f"tm filter add {pattern}")
        self.assertEqual(self.gdb.run("tm filter delete 2"), "")
        self.assertEqual(self.gdb.run("tm filter list"), "1: include */a.c\n2: include */c.c")
        self.assertEqual(self.gdb.run("tm filter delete 3"), "No filter 3: there are 2.")
        self.assertEqual(self.gdb.json("tm filter list -json")["filters"][1], {
            "number": 2, "inclusive": True, "domain": None, "filename_pattern": "*/c.c",
            "lineno": None, "all_frames": False})
        self.assertEqual(self.gdb.run("tm filter clear"), "")
        self.assertEqual(self.gdb.run("tm filter list"), "No filters.")
        self.assertEqual(self.gdb.run("tm filter delete 1"), "No filter 1: there are none.")

    def test_what_is_no_filter(self):
        self.assertOneLine(self.gdb.run("tm filter add"), r"^A filter needs a GLOB")
        self.assertOneLine(self.gdb.run("tm filter add -all-frames -domain 1"),
                           r"^-all-frames needs a GLOB")
        self.assertOneLine(self.gdb.run("tm filter add x -domain -1"), r"^-domain must be")
        self.assertOneLine(self.gdb.run("tm filter add x -domain 4294967295"), r"^-domain must be")
        self.assertEqual(self.gdb.run("tm filter list"), "No filters.")

    def test_cumulative_goes_where_it_goes_in_tracemalloc(self):
        theirs = tracemalloc.Snapshot(TRACES, 10)
        with self.assertRaises(ValueError):
            theirs.statistics("traceback", cumulative=True)
        refused = "-cumulative goes with lineno, filename, function, module only, not with %s."
        for key in ("traceback", "size", "domain"):
            self.assertEqual(self.gdb.run(f"tm top {key} data -cumulative"), refused % key)
            self.assertEqual(self.gdb.run(f"tm diff old data {key} -cumulative"), refused % key)
        for key in ("lineno", "filename"):
            self.assertEqual(self.unknown(self.gdb.run(f"tm top data {key} -cumulative")),
                             top(theirs, key, True))

    def test_domains_on_demand(self):
        theirs = tracemalloc.Snapshot(TRACES, 10)
        for domain in (0, 1, 7, 9):
            left = theirs.filter_traces([DomainFilter(True, domain)])
            self.assertEqual(self.unknown(self.gdb.run(f"tm top data -domain {domain}")), top(left))


FUNCTIONS = """
import tm
from tm.snapshots import registry
from tm.tracebacks import Frame
path = tuple(Frame("/src/a.c", 10 - depth, name) for depth, name in
             enumerate(("malloc", "xmalloc", "g_new", "main")))
registry.add(tm.Snapshot.from_traces([(0, 100, path, 4)], 10), "data")
"""


class Skip(TestCase):
    def test_wrappers_hand_on_to_their_callers(self):
        gdb = self.session()
        gdb.python(FUNCTIONS)

        def place():
            return gdb.run("tm top data").splitlines()[1].split(": ")[0]

        self.assertEqual(gdb.run("tm skip"), "No functions are skipped.")
        self.assertEqual(place(), "/src/a.c:9")  # allocators are skipped by themselves
        self.assertEqual(gdb.run("tm skip xmalloc"), "")
        self.assertEqual(place(), "/src/a.c:8")
        self.assertEqual(gdb.run("tm skip g_* xmalloc"), "")
        self.assertEqual(gdb.run("tm skip"), "Skipping: xmalloc, g_*.")
        self.assertEqual(place(), "/src/a.c:7")
        self.assertEqual(gdb.run("tm top function data").splitlines()[1].split(":")[0],
                         "main (/src/a.c)")
        self.assertEqual([each["function"] for each in gdb.json(
            "tm top traceback data -json")["statistics"][0]["traceback"]], ["main"])
        self.assertEqual(gdb.run("tm skip -clear x*"), "")
        self.assertEqual(gdb.run("tm skip"), "Skipping: x*.")
        self.assertEqual(place(), "/src/a.c:8")
        self.assertEqual(gdb.run("tm skip -clear"), "")
        gdb.run("set tm skip-allocators off")
        self.assertEqual(place(), "/src/a.c:10")


if __name__ == "__main__":
    unittest.main()
