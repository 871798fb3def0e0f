"""Exports read back: by a protobuf reader of our own making, by JSON, by `go tool pprof`
where Debian's golang-go is installed.

May use the standard library, tm and _tm.  Must never need gdb.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from unittest import mock

import tm
from tm import exports
from tm.errors import TmError
from tm.exports import pprof, stacks
from tm.tracebacks import Frame

HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m\"'\u202e\udcff<!--\0&amp;\n"


def frame(filename, lineno, function, address=None, inlined=False):
    return Frame(filename, lineno, function, "/bin/server", address, inlined)


MAIN = frame("/src/main.c", 12, "main", 0x1100)
SERVE = frame("/src/serve.c", 20, "serve", 0x1200)
TAKE = frame("/src/pool.h", 3, "take", 0x1300, True)
POOL = frame("/src/pool.c", 9, "pool_get", 0x1300)
EVIL = frame(HOSTILE, 1, HOSTILE, 0x1400)
STRIPPED = Frame("x.so+0x1234", 0, None, "/lib/x.so", 0x9234, has_line=False)


def snapshot(*traces, name="1"):
    """Of (size, count, frames most recent first)."""
    made = tm.Snapshot.from_traces([(0, size, frames, len(frames))
                                    for size, count, frames in traces for _ in range(count)], 10)
    made.modules = [{"path": "/bin/server", "start": 0x1000, "end": 0x2000, "bias": 0,
                     "build_id": "abcd"}]
    made.pid, made.name = 42, name
    return made


NEW = snapshot((126, 100, (TAKE, POOL, SERVE, MAIN)), (4096, 3, (SERVE, MAIN)),
               (7, 1, (EVIL, MAIN)), (50, 2, (STRIPPED,)))
OLD = snapshot((126, 40, (TAKE, POOL, SERVE, MAIN)), (4096, 5, (SERVE, MAIN)), name="0")
TOTAL, BLOCKS = 126 * 100 + 4096 * 3 + 7 + 100, 106


# ---- reading protobuf ---------------------------------------------------------

def read_varint(data, at):
    number = shift = 0
    while True:
        number |= (data[at] & 0x7f) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return number, at


def read_message(data):
    """The fields of a message: number -> list of ints and bytes."""
    fields, at = {}, 0
    while at < len(data):
        key, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        fields.setdefault(key >> 3, []).append(value)
    return fields


def read_packed(data):
    numbers, at = [], 0
    while at < len(data):
        number, at = read_varint(data, at)
        numbers.append(number - (1 << 64) if number >> 63 else number)
    return numbers


class Pprof(unittest.TestCase):
    def profile(self, *arguments):
        fields = read_message(gzip.decompress(pprof.contents(*arguments)))
        self.strings = [text.decode() for text in fields[pprof.STRING_TABLE]]
        return fields

    def test_numbers_are_encoded_as_protobuf_says(self):
        self.assertEqual(pprof.varint(0), b"\0")
        self.assertEqual(pprof.varint(300), b"\xac\x02")
        self.assertEqual(pprof.varint(-1), b"\xff" * 9 + b"\x01")

    def test_totals(self):
        fields = self.profile(NEW)
        types = [read_message(each) for each in fields[pprof.SAMPLE_TYPE]]
        self.assertEqual([(self.strings[each[1][0]], self.strings[each[2][0]]) for each in types],
                         [("inuse_objects", "count"), ("inuse_space", "bytes")])
        values = [read_packed(read_message(each)[2][0]) for each in fields[pprof.SAMPLE]]
        self.assertEqual([sum(column) for column in zip(*values)], [BLOCKS, TOTAL])
        self.assertEqual(TOTAL, NEW.size)

    def test_inlined_calls_are_lines_of_one_location(self):
        fields = self.profile(NEW)
        locations = {each[1][0]: each for each in map(read_message, fields[pprof.LOCATION])}
        functions = {each[1][0]: each for each in map(read_message, fields[pprof.FUNCTION])}
        sample = read_message(fields[pprof.SAMPLE][0])
        shown = []
        for number in read_packed(sample[1][0]):
            lines = map(read_message, locations[number][4])
            shown.append([(self.strings[functions[line[1][0]][2][0]], line[2][0])
                          for line in lines])
        self.assertEqual(shown, [[("take", 3), ("pool_get", 9)], [("serve", 20)], [("main", 12)]])

    def test_mappings_have_their_build_ids(self):
        fields = self.profile(NEW)
        mappings = [read_message(each) for each in fields[pprof.MAPPING]]
        self.assertEqual([(self.strings[each[5][0]], self.strings[each.get(6, [0])[0]],
                           each.get(2), each.get(3)) for each in mappings],
                         [("/bin/server", "abcd", [0x1000], [0x2000]),
                          ("/lib/x.so", "", None, None)])

    def test_differences_are_negative_samples_of_the_base(self):
        fields = self.profile(NEW, OLD)
        values = [read_packed(read_message(each)[2][0]) for each in fields[pprof.SAMPLE]]
        self.assertEqual([sum(column) for column in zip(*values)],
                         [NEW.blocks - OLD.blocks, NEW.size - OLD.size])
        self.assertIn("pprof::base", self.strings)

    def test_go_tool_pprof_agrees(self):
        if not shutil.which("go"):
            self.skipTest("go is not installed: Debian package golang-go, 390 MB, too large to ask "
                          "for")
        with tempfile.TemporaryDirectory() as folder:
            for name, one in (("new", NEW), ("old", OLD)):
                one.export("pprof", os.path.join(folder, name))
            NEW.export("pprof", os.path.join(folder, "both"), OLD)

            def go(*arguments):
                return subprocess.run(
                    ["go", "tool", "pprof", "-unit=B", "-nodefraction=0", *arguments], cwd=folder,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
                    env=dict(os.environ, PPROF_TMPDIR=folder, HOME=folder)).stdout

            top = go("-top", "new")
            self.assertIn("of %dB total" % TOTAL, top)
            self.assertRegex(top, r"(?m)^ *12600B .* take \(inline\)$")
            self.assertRegex(go("-top", "-sample_index=inuse_objects", "new"),
                             r"of %dB? total" % BLOCKS)
            self.assertRegex(go("-tags", "new"), r"(?s)bytes: Total .*12600.*: 126B\b")
            difference = NEW.size - OLD.size
            for text in (go("-top", "-diff_base", "old", "new"), go("-top", "both")):
                self.assertIn("accounting for %dB," % difference, text)
                self.assertIn("of %dB total" % OLD.size, text)
                self.assertRegex(text, r"(?m)^ *-8192B .* serve$")


class Stacks(unittest.TestCase):
    def test_collapsed(self):
        text = stacks.collapsed(NEW).decode()
        self.assertIn("main;serve;pool_get;take 12600\n", text)
        self.assertIn("\nx.so+0x1234 100\n", "\n" + text)
        parts = [re.fullmatch(r"[^\0-\x1f\x7f]+ (\d+)", line) for line in text.splitlines()]
        self.assertEqual(sum(int(part.group(1)) for part in parts), NEW.size)

    def test_collapsed_differences(self):
        lines = stacks.collapsed(NEW, OLD).decode().splitlines()
        self.assertIn("main;serve 20480 12288", lines)
        self.assertIn("main;serve;pool_get;take 5040 12600", lines)
        before, after = (sum(int(line.rsplit(" ", 2)[place]) for line in lines)
                         for place in (1, 2))
        self.assertEqual((before, after), (OLD.size, NEW.size))

    def test_semicolons_in_names_do_not_cut_stacks(self):
        one = snapshot((8, 1, (frame("/a.c", 1, "a;b"), MAIN)))
        self.assertEqual(stacks.collapsed(one), b"main;a:b 8\n")

    def test_speedscope(self):
        document = json.loads(stacks.speedscope(NEW))
        names = [each["name"] for each in document["shared"]["frames"]]
        for profile, total in zip(document["profiles"], (NEW.size, NEW.blocks)):
            self.assertEqual(profile["type"], "sampled")
            self.assertEqual((sum(profile["weights"]), profile["endValue"]), (total, total))
            self.assertEqual(len(profile["samples"]), len(profile["weights"]))
            self.assertIn(["main", "serve", "pool_get", "take"],
                          [[names[key] for key in sample] for sample in profile["samples"]])

    def test_dhat(self):
        document = json.loads(stacks.dhat(NEW))
        self.assertEqual((document["dhatFileVersion"], document["ftbl"][0]), (2, "[root]"))
        self.assertEqual(sum(point["tb"] for point in document["pps"]), NEW.size)
        self.assertEqual(sum(point["tbk"] for point in document["pps"]), NEW.blocks)
        largest = max(document["pps"], key=lambda point: point["tb"])
        self.assertEqual([document["ftbl"][number] for number in largest["fs"]], [
            "0x1300: take (/src/pool.h:3)", "0x1300: pool_get (/src/pool.c:9)",
            "0x1200: serve (/src/serve.c:20)", "0x1100: main (/src/main.c:12)"])

    def test_filters_count(self):
        left = NEW.filter_traces([tm.Filter(False, "/src/pool.h")])
        self.assertNotIn(b"take", stacks.collapsed(left))
        self.assertNotIn(b"take", stacks.speedscope(left))


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(folder.name, "file")

    def test_every_format_survives_hostile_names_and_nothing_at_all(self):
        for format in exports.FORMATS:
            for one in (NEW, snapshot((1, 1, (EVIL,))), tm.Snapshot.from_traces([])):
                with self.subTest(format=format, blocks=one.blocks):
                    written = exports.export(one, format, self.path)
                    self.assertEqual(written, os.path.getsize(self.path))

    def test_files_are_whole_or_not_there(self):
        with open(self.path, "w") as file:
            file.write("before")
        with mock.patch("os.fsync", side_effect=OSError("disk full")):
            with self.assertRaises(OSError):
                NEW.export("collapsed", self.path)
        with open(self.path) as file:
            self.assertEqual(file.read(), "before")
        self.assertEqual(os.listdir(self.folder), ["file"])

    def test_what_cannot_be_is_refused(self):
        with self.assertRaisesRegex(ValueError, "unknown format: 'svg'"):
            NEW.export("svg", self.path)
        for format in ("speedscope", "dhat"):
            with self.assertRaisesRegex(TmError, "no place for differences: pprof, coll"):
                NEW.export(format, self.path, OLD)
        self.assertEqual(os.listdir(self.folder), [])


if __name__ == "__main__":
    unittest.main()
