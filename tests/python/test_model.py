"""Snapshots made of images, and the text and documents that are made of snapshots.

May use the standard library, tm and _tm.  Must never need gdb.
"""

import json
import os
import struct
import unittest

import _tm
import tm
from tm import documents, render
from tm.tracebacks import Frame

MALLOC, MMAP = _tm.layout["DOMAIN_MALLOC"], _tm.layout["DOMAIN_MMAP"]
NO_NODE = _tm.layout["NO_NODE"]


def image(rows, nodes, limit=10, **header):
    """An image of rows (size, count, traceback, domain, truncated), nodes (address, parent)."""
    depths = []
    for _address, parent in nodes:
        depths.append(1 if parent == NO_NODE else depths[parent] + 1)
    packed_rows = b"".join(_tm.encode("tm_row", dict(zip(
        ("size", "count", "traceback", "domain", "truncated"), row))) for row in rows)
    packed_nodes = b"".join(_tm.encode("tm_image_node", {
        "address": address, "parent": parent, "depth": depth})
        for (address, parent), depth in zip(nodes, depths))
    names = b"\0/bin/program\0\0\0\0"
    module = _tm.encode("tm_module", {"start": 0x1000, "end": 0x2000, "path": 1,
                                      "build_id": b"\xab\xcd", "build_id_size": 2})
    at = _tm.layout["sizeof"]["tm_image"]
    fields = {"magic": _tm.layout["IMAGE_MAGIC"], "version": _tm.layout["IMAGE_VERSION"],
              "header_size": at, "limit": limit, "pid": 42, "time": 1500000000,
              "rows": at, "row_count": len(rows), "nodes": at + len(packed_rows),
              "node_count": len(nodes), "modules": at + len(packed_rows) + len(packed_nodes),
              "module_count": 1, "names_size": len(names)}
    fields["names"] = fields["modules"] + len(module)
    fields["size"] = fields["names"] + len(names)
    fields.update(header)
    return _tm.encode("tm_image", fields) + packed_rows + packed_nodes + module + names


SYMBOLS = {
    0x1100: [("/src/main.c", 12, "main", "/bin/program", 0x20, False)],
    0x1200: [("/src/pool.h", 3, "take", "/bin/program", 0, True),
             ("/src/pool.h", 9, "pool_get", "/bin/program", 0, True),
             ("/src/session.c", 88, "session", "/bin/program", 0x44, False)],
    0x1300: [(None, 0, "stripped", "/bin/program", 0x1c, False)],
    0x1400: [(None, 0, None, "/lib/x.so", 0x1234, False)],
    0x1500: [],
    0x1600: [("/src/wrap.c", 5, "xmalloc", "/bin/program", 0x9, False)],
    0x1700: [("/src/new.cc", 7, "operator new(unsigned long)", "/bin/program", 0x9, False)],
}


def resolve(addresses):
    return [[Frame.from_symbol(address, symbol) for symbol in SYMBOLS[address]]
            for address, _exact in addresses]


def snapshot_of(rows, nodes, **header):
    snapshot = tm.Snapshot.from_image(image(rows, nodes, **header), resolve)
    snapshot.name = "1"
    return snapshot


def places(traceback):
    return [str(frame) for frame in traceback]


class FromImage(unittest.TestCase):
    def test_rows_become_traces(self):
        nodes = [(0x1100, NO_NODE), (0x1300, 0), (0x1400, 0), (0x1500, 2)]
        snapshot = snapshot_of([(126, 3, 1, MALLOC, 0), (4096, 1, 3, MMAP, 1),
                                (8, 1, NO_NODE, MALLOC, 0)], nodes, dropped=4)
        self.assertEqual((snapshot.blocks, snapshot.size, snapshot.tracebacks), (5, 4482, 3))
        self.assertEqual((snapshot.traceback_limit, snapshot.time, snapshot.dropped, snapshot.pid),
                         (10, 1.5, 4, 42))
        self.assertEqual(snapshot.modules[0]["path"], "/bin/program")
        self.assertEqual(snapshot.modules[0]["build_id"], "abcd")
        traces = list(snapshot.traces)
        self.assertEqual([trace.size for trace in traces], [126, 126, 126, 4096, 8])
        self.assertEqual([trace.domain for trace in traces], [0, 0, 0, 1, 0])
        self.assertEqual([trace.traceback.total_nframe for trace in traces], [2, 2, 2, None, 0])
        self.assertEqual(places(traces[0].traceback),
                         ["/src/main.c:12", "program!stripped+0x1c"])
        self.assertEqual(places(traces[3].traceback),
                         ["/src/main.c:12", "x.so+0x1234", "<unknown>"])
        self.assertEqual(places(traces[4].traceback), ["<unknown>"])
        self.assertEqual(traces[3].traceback.format(),
                         ['  File "/src/main.c", line 12', "  x.so+0x1234", "  <unknown>"])
        self.assertEqual(snapshot.traces[-2:], tuple(traces[-2:]))

    def test_resolve_is_called_once_with_distinct_addresses(self):
        calls = []

        def counting(addresses):
            calls.append(list(addresses))
            return resolve(addresses)
        exact = _tm.layout["NODE_EXACT"]
        nodes = [(0x1100, NO_NODE), (0x1300, 0), (0x1100, 1), (0x1300 | exact, 2)]
        tm.Snapshot.from_image(image([(1, 1, 3, 0, 0)], nodes), counting)
        self.assertEqual(calls, [[(0x1100, False), (0x1300, False), (0x1300, True)]])
        with self.assertRaises(ValueError):
            tm.Snapshot.from_image(image([(1, 1, 3, 0, 0)], nodes), lambda addresses: [])

    def test_inlined_calls_are_frames_and_can_be_folded(self):
        snapshot = snapshot_of([(16, 2, 1, 0, 0)], [(0x1100, NO_NODE), (0x1200, 0)])
        traceback = snapshot.traces[0].traceback
        self.assertEqual(places(traceback), ["/src/main.c:12", "/src/session.c:88",
                                             "/src/pool.h:9", "/src/pool.h:3"])
        self.assertEqual([frame.inlined for frame in traceback], [False, False, True, True])
        self.assertEqual(traceback.total_nframe, 4)
        folded = snapshot.without_inlined()
        self.assertEqual(places(folded.traces[0].traceback),
                         ["/src/main.c:12", "/src/session.c:88"])
        self.assertEqual((folded.name, folded.blocks), ("1", 2))
        self.assertEqual(len(snapshot.traces[0].traceback), 4)

    def test_wrappers_do_not_count_as_most_recent(self):
        nodes = [(0x1100, NO_NODE), (0x1600, 0), (0x1700, 1), (0x1600, NO_NODE)]
        snapshot = snapshot_of([(16, 1, 2, 0, 0), (5, 1, 3, 0, 0)], nodes)

        def recent(one):
            return [str(trace.traceback[-1]) for trace in one.traces]
        self.assertEqual(recent(snapshot), ["/src/new.cc:7", "/src/wrap.c:5"])
        self.assertEqual(recent(snapshot.without_wrappers((), True)),
                         ["/src/wrap.c:5", "/src/wrap.c:5"])
        self.assertEqual(recent(snapshot.without_wrappers(("x*",), True)),
                         ["/src/main.c:12", "/src/wrap.c:5"])  # nothing else is left of the last
        self.assertIs(snapshot.without_wrappers(("nothing",)), snapshot)

    def test_rows_that_became_equal_are_one(self):
        nodes = [(0x1100, NO_NODE), (0x1600, 0), (0x1700, 1)]
        snapshot = snapshot_of([(16, 1, 2, 0, 0), (16, 2, 1, 0, 0), (16, 4, 1, 1, 0)], nodes)
        skipped = snapshot.without_wrappers(("x*",), True)
        self.assertEqual(sorted(count for _trace, count in skipped.rows()), [1, 2, 4])
        snapshot = snapshot_of([(16, 1, 0, 0, 1), (16, 2, 1, 0, 1), (16, 4, 1, 1, 1)], nodes)
        skipped = snapshot.without_wrappers(("x*",), True)
        self.assertEqual(sorted(count for _trace, count in skipped.rows()), [3, 4])

    def test_damaged_images_are_refused_in_one_line(self):
        good = image([(16, 2, 1, 0, 0)], [(0x1100, NO_NODE), (0x1200, 0)])
        header = _tm.layout["offsets"]["tm_image"]
        for field, (offset, size) in header.items():
            if field in ("limit", "pid", "time", "start_time", "current", "peak", "dropped",
                         "untracked_frees", "sample_period"):
                continue
            for value in (0, 1, 7, 1 << 20, (1 << 32) - 1, (1 << 64) - 1):
                damaged = bytearray(good)
                damaged[offset:offset + size] = struct.pack("<Q", value)[:size]
                try:
                    tm.Snapshot.from_image(bytes(damaged), resolve)
                except _tm.Error as error:
                    self.assertNotIn("\n", str(error))
        for length in range(0, len(good), 7):
            with self.assertRaises(_tm.Error):
                tm.Snapshot.from_image(good[:length], resolve)


class Grouping(unittest.TestCase):
    def setUp(self):
        nodes = [(0x1100, NO_NODE), (0x1300, 0), (0x1400, 0), (0x1500, 0), (0x1200, 0),
                 (0x1200, 4)]
        self.snapshot = snapshot_of(
            [(100, 1, 1, 0, 0), (200, 1, 2, 0, 0), (300, 1, 3, 1, 0), (400, 2, 4, 0, 0),
             (500, 1, 5, 7, 0)], nodes)

    def lines(self, key_type, **how):
        text = render.render_top(self.snapshot, key_type, None, **how)
        return text.splitlines()[1:-1]

    def test_frames_without_line(self):
        self.assertEqual(self.lines("lineno"), [
            "/src/pool.h:3: size=1300 B, count=3, average=433 B",
            "<unknown>: size=300 B, count=1, average=300 B",
            "x.so+0x1234: size=200 B, count=1, average=200 B",
            "program!stripped+0x1c: size=100 B, count=1, average=100 B"])

    def test_filename_function_module(self):
        self.assertEqual(self.lines("filename"), [
            "/src/pool.h: size=1300 B, count=3, average=433 B",
            "<unknown>: size=300 B, count=1, average=300 B",
            "/lib/x.so: size=200 B, count=1, average=200 B",
            "/bin/program: size=100 B, count=1, average=100 B"])
        self.assertEqual(self.lines("function"), [
            "take (/src/pool.h): size=1300 B, count=3, average=433 B",
            "<unknown>: size=300 B, count=1, average=300 B",
            "?? (/lib/x.so): size=200 B, count=1, average=200 B",
            "stripped (/bin/program): size=100 B, count=1, average=100 B"])
        self.assertEqual(self.lines("module"), [
            "/bin/program: size=1400 B, count=4, average=350 B",
            "<unknown>: size=300 B, count=1, average=300 B",
            "/lib/x.so: size=200 B, count=1, average=200 B"])

    def test_size_and_domain(self):
        self.assertEqual(self.lines("size")[:2], ["400 B: size=800 B, count=2, average=400 B",
                                                  "500 B: size=500 B, count=1, average=500 B"])
        self.assertEqual(self.lines("domain"), [
            "domain 0 (malloc): size=1100 B, count=4, average=275 B",
            "domain 7: size=500 B, count=1, average=500 B",
            "domain 1 (mmap): size=300 B, count=1, average=300 B"])

    def test_cumulative(self):
        self.assertEqual(self.lines("lineno", cumulative=True)[:3], [
            "/src/main.c:12: size=1900 B, count=6, average=317 B",
            "/src/session.c:88: size=1300 B, count=3, average=433 B",
            "/src/pool.h:9: size=1300 B, count=3, average=433 B"])
        # the last traceback holds these lines twice, and tracemalloc counts both
        self.assertEqual([str(one) for one in self.snapshot.statistics("lineno", True)[:3]], [
            "/src/main.c:12: size=1900 B, count=6, average=317 B",
            "/src/session.c:88: size=1800 B, count=4, average=450 B",
            "/src/pool.h:9: size=1800 B, count=4, average=450 B"])
        # a function counts once however often it is in a traceback
        self.assertEqual(self.lines("function", cumulative=True)[:2], [
            "main (/src/main.c): size=1900 B, count=6, average=317 B",
            "take (/src/pool.h): size=1300 B, count=3, average=433 B"])
        self.assertEqual(self.lines("module", cumulative=True)[0],
                         "/bin/program: size=1900 B, count=6, average=317 B")
        for key_type in ("traceback", "size", "domain"):
            with self.assertRaisesRegex(ValueError, "cumulative mode cannot by used with key type"):
                self.snapshot.statistics(key_type, True)

    def test_orders(self):
        def keys(by):
            return [one.size for one in self.snapshot.groups("size", by=by)]
        self.assertEqual(keys("size"), [800, 500, 300, 200, 100])
        self.assertEqual(keys("count"), [800, 500, 300, 200, 100])
        self.assertEqual(keys("average"), [500, 800, 300, 200, 100])
        with self.assertRaises(ValueError):
            keys("name")

    def test_differences_of_snapshots_with_their_own_numbers(self):
        old = snapshot_of([(500, 1, 2, 7, 0), (8, 5, 0, 0, 0)],
                          [(0x1300, NO_NODE), (0x1100, NO_NODE), (0x1400, 1)])
        text = render.render_diff(old, self.snapshot, "lineno", 3)
        self.assertEqual(text, (
            "[ Top 3 differences ]\n"
            "/src/pool.h:3: size=1300 B (+1300 B), count=3 (+3), average=433 B\n"
            "<unknown>: size=300 B (+300 B), count=1 (+1), average=300 B\n"
            "x.so+0x1234: size=200 B (-300 B), count=1 (+0), average=200 B\n"))
        domains = self.snapshot.compare_to(old, "domain")
        self.assertEqual([(str(one.traceback), one.size_diff) for one in domains],
                         [("domain 0 (malloc)", 1060), ("domain 1 (mmap)", 300), ("domain 7", 0)])
        tracebacks = self.snapshot.compare_to(old, "traceback")
        self.assertEqual(len(tracebacks), 6)
        self.assertEqual([places(one.traceback) for one in tracebacks if one.size == 0],
                         [["program!stripped+0x1c"]])


def manual_snapshot():
    session = (("/src/session.cc", 88, "Session::Session"), ("/src/main.cc", 12, "main"))
    rows = [(session, 126, 39328), (((("/src/cache.cc", 7, "Cache::grow"),), 104857, 5)),
            ((("/src/json.cc", 210, "parse"),), 96, 1024)]
    rows += [((("/src/other.cc", line, "other"),), 100, 1) for line in range(1, 213)]
    snapshot = tm.Snapshot.from_traces(
        [(0, size, tuple(Frame(*frame) for frame in frames), len(frames))
         for frames, size, count in rows for _ in range(count)], 10)
    snapshot.name = "1"
    return snapshot


SOURCE = {"/src/session.cc": "buf = malloc(126);", "/src/main.cc": "serve(listener);",
          "/src/cache.cc": "table = calloc(n, sizeof *table);"}


def source(filename, _lineno):
    return SOURCE.get(filename, "")


class Text(unittest.TestCase):
    """To the letter of the manual."""

    @classmethod
    def setUpClass(cls):
        cls.snapshot = manual_snapshot()

    def test_top(self):
        self.assertEqual(render.render_top(self.snapshot, "lineno", 3), (
            "[ Top 3 ]\n"
            "/src/session.cc:88: size=4839 KiB, count=39328, average=126 B\n"
            "/src/cache.cc:7: size=512 KiB, count=5, average=102 KiB\n"
            "/src/json.cc:210: size=96.0 KiB, count=1024, average=96 B\n"
            "212 other: size=20.7 KiB, count=212\n"
            "Total allocated size: 5468 KiB\n"))

    def test_top_traceback(self):
        self.assertEqual(render.render_top(self.snapshot, "traceback", 1, source_of=source), (
            "[ Top 1 ]\n"
            "39328 memory blocks: 4839.2 KiB\n"
            '  File "/src/main.cc", line 12, in main\n'
            "    serve(listener);\n"
            '  File "/src/session.cc", line 88, in Session::Session\n'
            "    buf = malloc(126);\n"
            "214 other: size=629 KiB, count=1241\n"
            "Total allocated size: 5468 KiB\n"))

    def test_pretty_top(self):
        self.assertEqual(render.render_top(self.snapshot, "lineno", 2, source=source), (
            "Top 2 lines\n"
            "#1: src/session.cc:88: 4839.2 KiB\n"
            "    buf = malloc(126);\n"
            "#2: src/cache.cc:7: 512.0 KiB\n"
            "    table = calloc(n, sizeof *table);\n"
            "213 other: 116.7 KiB\n"
            "Total allocated size: 5467.9 KiB\n"))

    def test_pages(self):
        first = render.render_top(self.snapshot, "lineno", 2).splitlines()
        second = render.render_top(self.snapshot, "lineno", 1, first=2).splitlines()
        self.assertEqual(second[1], render.render_top(self.snapshot, "lineno", 3).splitlines()[3])
        self.assertNotEqual(first[1], second[1])
        self.assertEqual(render.render_top(self.snapshot, "lineno", 10, first=1000),
                         "[ No more ]\nTotal allocated size: 5468 KiB\n")

    def test_without_other(self):
        lines = render.render_top(self.snapshot, "lineno", None).splitlines()
        self.assertEqual(lines[0], "[ Top 215 ]")
        self.assertEqual(len(lines), 217)
        self.assertNotIn("other:", lines[-2])

    def test_diff(self):
        old = self.snapshot.filter_traces([tm.Filter(False, "/src/cache.cc")])
        self.assertEqual(render.render_diff(old, self.snapshot, "lineno", 2), (
            "[ Top 2 differences ]\n"
            "/src/cache.cc:7: size=512 KiB (+512 KiB), count=5 (+5), average=102 KiB\n"
            "/src/session.cc:88: size=4839 KiB (+0 B), count=39328 (+0), average=126 B\n"))

    def test_traceback(self):
        block = tm.Block(0x55d0c0a812a0, 126, 0, self.snapshot.traces[0].traceback)
        expected = (
            "0x55d0c0a812a0: 126 B in domain 0 (malloc), allocated at (oldest call first):\n"
            '  File "/src/main.cc", line 12, in main\n'
            "    serve(listener);\n"
            '  File "/src/session.cc", line 88, in Session::Session\n'
            "    buf = malloc(126);\n")
        self.assertEqual(render.render_traceback(0x55d0c0a812a0, block, source=source), expected)
        self.assertEqual(render.render_traceback(0x55d0c0a812b0, block, source=source), expected)
        self.assertEqual(
            render.render_traceback(block.address, block, 1, True, source).splitlines(), [
                "0x55d0c0a812a0: 126 B in domain 0 (malloc), allocated at (most recent call "
                "first):",
                '  File "/src/session.cc", line 88, in Session::Session',
                "    buf = malloc(126);"])
        self.assertEqual(
            render.render_traceback(0x1234, None),
            "0x1234: not traced (allocated before tracing started, freed, or not a heap "
            "address).\n")

    def test_snapshot(self):
        self.assertEqual(render.render_snapshot(self.snapshot),
                         "Snapshot 1: 40569 blocks, 5468 KiB, 215 tracebacks (limit 10).\n")

    def test_traces(self):
        self.assertEqual(render.render_traces(self.snapshot, 2),
                         "/src/cache.cc:7: 102 KiB in 5 blocks\n"
                         "/src/session.cc:88: 126 B in 39328 blocks\n"
                         "213 other: 117 KiB in 1236 blocks\n")

    def test_names_write_no_lines_and_no_colours(self):
        """A symbol's name is the program's to choose."""
        hostile = "a\n\x1b[31mTotal\t"
        here = tm.Frame("/src/%s.c" % hostile, 7, "run" + hostile, "/bin/" + hostile)
        there = tm.Frame("app!%s+0x1c" % hostile, 0, hostile, "/bin/app", 0x101c, has_line=False)
        snapshot = tm.Snapshot.from_traces([(0, 16, (here,), 1), (0, 32, (there,), 1)])
        for key in ("lineno", "filename", "function", "module", "traceback"):
            text = render.render_top(snapshot, key, 10) + render.render_traces(snapshot, 10)
            self.assertNotRegex(text, r"[^\x20-\x7e\n]", key)
            self.assertIn(r"a\n\x1b[31mTotal\t", text, key)

    def test_names_are_shown_as_asked(self):
        text = render.render_top(self.snapshot, "lineno", 1, show_name=os.path.basename)
        self.assertIn("\nsession.cc:88: size=", text)


class Documents(unittest.TestCase):
    def test_top(self):
        document = render.top_document(manual_snapshot(), "lineno", 2)
        self.assertEqual(list(document), ["command", "key_type", "cumulative", "snapshot",
                                          "statistics", "other", "total_size", "total_count"])
        self.assertEqual(document["statistics"][0], {
            "filename": "/src/session.cc", "lineno": 88, "name": None,
            "function": "Session::Session", "module": None, "size": 4955328, "count": 39328})
        self.assertEqual(document["other"], {"groups": 213, "size": 119504, "count": 1236})
        self.assertEqual((document["total_size"], document["total_count"]), (5599117, 40569))
        json.dumps(document)

    def test_code_without_a_line(self):
        """Its frame has no file, and what names it is no file either."""
        frame = tm.Frame("app!run+0x1c", 0, "run", "/bin/app", 0x101c, has_line=False)
        self.assertEqual(documents.frame_document(frame), {
            "filename": None, "lineno": None, "function": "run", "module": "/bin/app",
            "address": "0x101c", "inlined": False})

    def test_traceback_key_and_diff(self):
        snapshot = manual_snapshot()
        document = render.diff_document(snapshot, snapshot, "traceback", 1)
        (line,) = document["statistics"]
        self.assertEqual((document["old"], line["size_diff"], line["count_diff"]), ("1", 0, 0))
        self.assertEqual([frame["function"] for frame in line["traceback"]],
                         ["main", "Session::Session"])

    def test_size_and_domain_keys_say_their_number(self):
        snapshot = manual_snapshot()
        self.assertEqual(render.top_document(snapshot, "size", 1)["statistics"][0]["block_size"],
                         126)
        self.assertEqual(render.top_document(snapshot, "domain", 1)["statistics"][0]["domain"], 0)

    def test_traceback(self):
        frame = Frame("/a.c", 1, "f", "/bin/x", 0x1234, True)
        block = tm.Block(0x10, 5, 1, tm.Traceback((frame,), None))
        self.assertEqual(render.traceback_document(0x12, block), {
            "command": "traceback", "address": "0x12", "block": "0x10", "size": 5, "domain": 1,
            "frames": [{"filename": "/a.c", "lineno": 1, "function": "f", "module": "/bin/x",
                        "address": "0x1234", "inlined": True}], "total_nframe": None})
        self.assertIsNone(render.traceback_document(0x12, None)["block"])

    def test_traces(self):
        traces = render.traces_document(manual_snapshot(), 1)["traces"]
        self.assertEqual([(one["size"], one["count"], one["domain"]) for one in traces],
                         [(104857, 5, 0)])

    def test_snapshot(self):
        self.assertEqual(render.snapshot_document(manual_snapshot()), {
            "command": "snapshot", "name": "1", "blocks": 40569, "size": 5599117,
            "tracebacks": 215, "traceback_limit": 10})


class PlainData(unittest.TestCase):
    def test_what_is_no_trace_is_refused(self):
        for traces, error in (([(0, 1, (), 0)], ValueError),
                              ([(0, -1, (("a", 1),), 1)], ValueError),
                              ([(0, 1 << 63, (("a", 1),), 1)], ValueError),
                              ([(-1, 1, (("a", 1),), 1)], ValueError),
                              ([(0, "1", (("a", 1),), 1)], TypeError),
                              ([(0, 1, ((1, "a"),), 1)], TypeError), ([5], TypeError)):
            with self.assertRaises(error):
                tm.Snapshot.from_traces(traces, 1)

    def test_too_much_is_one_line(self):
        snapshot = tm.Snapshot.from_traces([(0, (1 << 63) - 1, (("a", 1),), 1)] * 3, 1)
        for ask in (lambda: snapshot.size, lambda: snapshot.statistics("lineno"),
                    lambda: snapshot.statistics("lineno", True)):
            with self.assertRaisesRegex(_tm.Error, "add up to more than 2\\^63 bytes"):
                ask()


if __name__ == "__main__":
    unittest.main()
