"""Dump files: they come back as they went, and nothing else is ever taken for one.

May use the standard library, tm and _tm.  Must never need gdb.
"""

import hashlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import _tm
import tm
from tm import dumpfile, render
from tm.tracebacks import Frame

FULL = bool(os.environ.get("TM_TEST_FULL"))


def random_snapshot(chance):
    names = ["/src/a.c", "é.c", "日本語", "\udcff", "", "x" * 1000]
    frames = [Frame(chance.choice(names), chance.randrange(1 << 40),
                    chance.choice((None, "main", "f<int>")), chance.choice((None, "/lib/x.so")),
                    chance.choice((None, 0, (1 << 64) - 1)), chance.random() < 0.3,
                    chance.random() < 0.7) for _ in range(10)]
    traces = []
    for _ in range(chance.choice((0, 1, 30))):
        path = tuple(chance.choice(frames) for _ in range(chance.randint(1, 6)))
        trace = (chance.randrange(3), chance.randrange(1 << 40), path, chance.choice((None, 9)))
        traces += [trace] * chance.choice((1, 4))
    return tm.Snapshot.from_traces(traces, chance.randint(1, 1000))


def frame_facts(frame):
    return (frame.filename, frame.lineno, frame.function, frame.module, frame.address,
            frame.inlined, frame.has_line, frame.line)


def facts(snapshot):
    return [(trace.domain, trace.size, trace.traceback.total_nframe,
             [frame_facts(frame) for frame in trace.traceback], count)
            for trace, count in snapshot.rows()]


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(folder.name, "snapshot.tm")
        synced = mock.patch("os.fsync")  # hundreds of real ones take long on a busy disk
        self.synced = synced.start()
        self.addCleanup(synced.stop)

    def write(self, contents):
        with open(self.path, "wb") as file:
            file.write(contents)

    def read(self):
        with open(self.path, "rb") as file:
            return file.read()

    def load_error(self):
        """The one line that loading the file gives, or None when it loads."""
        try:
            snapshot = tm.Snapshot.load(self.path)
        except tm.TmError as error:
            text = str(error)
            self.assertNotIn("\n", text)
            self.assertIn(self.path, text)
            self.assertTrue(text.endswith("."), text)
            return text
        self.exercise(snapshot)
        return None

    def exercise(self, snapshot):
        """Whatever was loaded can be worked with."""
        try:
            for key_type in ("lineno", "traceback", "function", "size"):
                list(snapshot.groups(key_type)[:5])
            snapshot.groups("lineno", True)
            str(snapshot.blocks)
        except _tm.Error as error:
            self.assertNotIn("\n", str(error))


class RoundTrip(Folder):
    def test_everything_comes_back(self):
        for number in range(200):
            chance = random.Random(number)
            snapshot = random_snapshot(chance)
            snapshot.name, snapshot.time, snapshot.dropped = "before", 12.5, 3
            snapshot.modules = [{"path": "/bin/x", "start": 1 << 47, "build_id": "ab"}]
            snapshot.dump(self.path)
            loaded = tm.Snapshot.load(self.path)
            self.assertEqual(facts(loaded), facts(snapshot))
            for name in ("name", "time", "dropped", "modules", "traceback_limit", "blocks",
                         "size", "tracebacks"):
                self.assertEqual(getattr(loaded, name), getattr(snapshot, name))
            self.assertEqual(loaded.origin, self.path)

    def test_source_lines_come_along(self):
        source = os.path.join(self.folder, "there.c")
        with open(source, "w", encoding="utf-8") as file:
            file.write("one\n\tzwei = é;  \n")
        frames = ((source, 2), (source, 3), ("/not/there.c", 1))
        snapshot = tm.Snapshot.from_traces([(0, 5, frames, 3)], 10)
        text = snapshot.traces[0].traceback.format()
        self.assertIn("    zwei = é;", text)
        shown = render.render_top(snapshot, "traceback", 1)
        snapshot.dump(self.path)
        for _ in range(2):  # what was loaded is dumped again
            with mock.patch("linecache.getline", lambda *_where: ""):
                loaded = tm.Snapshot.load(self.path)
                self.assertEqual(loaded.traces[0].traceback.format(), text)
                self.assertEqual(render.render_top(loaded, "traceback", 1), shown)
                loaded.dump(self.path)
        with mock.patch("linecache.getline", lambda *_where: "found here"):
            self.assertEqual(tm.Snapshot.load(self.path).traces[0].traceback.format(),
                             ['  File "/not/there.c", line 1', "    found here",
                              '  File "%s", line 3' % source, "    found here",
                              '  File "%s", line 2' % source, "    zwei = é;"])

    def test_attributes_of_plain_data_are_kept(self):
        snapshot = random_snapshot(random.Random(1))
        snapshot.note = {"why": ["leak", 1, 2.5, None, True]}
        snapshot.handle = object()
        snapshot.huge = 10 ** 5000
        snapshot.dump(self.path)
        loaded = tm.Snapshot.load(self.path)
        self.assertEqual(loaded.note, snapshot.note)
        self.assertFalse(hasattr(loaded, "handle"))
        self.assertFalse(hasattr(loaded, "huge"))

    def test_a_very_regular_snapshot(self):
        """What compresses extremely well is not taken for an attack."""
        path = (("a.c", 1),)
        snapshot = tm.Snapshot.from_traces(
            [trace for _ in range(60000) for trace in ((0, 1, path, 1), (0, 2, path, 1))], 1)
        snapshot.dump(self.path)
        self.assertEqual(tm.Snapshot.load(self.path).size, 180000)

    def test_replaces_a_file_whole_or_not_at_all(self):
        snapshot = random_snapshot(random.Random(2))
        snapshot.dump(self.path)
        before = self.read()
        for failing in ("os.fsync", "os.replace", "os.fchmod"):
            with mock.patch(failing, side_effect=OSError("disk full")):
                with self.assertRaises(OSError):
                    random_snapshot(random.Random(3)).dump(self.path)
            self.assertEqual(self.read(), before)
            self.assertEqual(os.listdir(self.folder), [os.path.basename(self.path)])

    def test_contents_and_name_reach_the_disk(self):
        random_snapshot(random.Random(2)).dump(self.path)
        self.assertEqual(self.synced.call_count, 2)

    def test_files_get_ordinary_permissions(self):
        umask = os.umask(0o027)
        self.addCleanup(os.umask, umask)
        random_snapshot(random.Random(4)).dump(self.path)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640)


class Hostile(Folder):
    def setUp(self):
        super().setUp()
        snapshot = random_snapshot(random.Random(5))
        small = tm.Snapshot.from_traces([(0, 5, (("a.c", 1), ("b.c", 2)), 2)] * 3, 10)
        snapshot.dump(self.path)
        self.large = self.read()
        small.dump(self.path)
        self.small = self.read()

    def sealed(self, payload, payload_size=None, method=dumpfile.ZSTD, body=None):
        """A file with the right checksum around any payload."""
        body = _tm.compress(payload) if body is None else body
        values = [dumpfile.MAGIC, dumpfile.FORMAT, dumpfile._HEADER.size,
                  len(payload) if payload_size is None else payload_size, len(body), method, 0,
                  b"1"]
        digest = hashlib.sha256(dumpfile._HEADER.pack(*values, b"") + body).digest()
        return dumpfile._HEADER.pack(*values, digest) + body

    def payload(self, contents):
        self.write(contents)
        return dumpfile._unpacked(*dumpfile._read_file(self.path))

    def test_truncated_at_every_length(self):
        for length in range(len(self.small)):
            self.write(self.small[:length])
            self.assertIsNotNone(self.load_error())

    def test_every_bit_flipped(self):
        for place in range(len(self.small)):
            for bit in range(8):
                damaged = bytearray(self.small)
                damaged[place] ^= 1 << bit
                self.write(damaged)
                self.assertIsNotNone(self.load_error())

    def test_trailing_bytes(self):
        self.write(self.small + b"x")
        self.assertIn("should have", self.load_error())

    def test_damage_below_a_right_checksum(self):
        chance = random.Random(6)
        errors = 0
        for original in (self.payload(self.small), self.payload(self.large)):
            for _ in range(20000 if FULL else 1500):
                payload = bytearray(original)
                for _ in range(chance.choice((1, 1, 3))):
                    at = chance.randrange(len(payload))
                    if chance.random() < 0.5:
                        payload[at] = chance.choice((0, 1, 0x7f, 0x80, 0xff, chance.randrange(256)))
                    else:
                        payload[at:at + 8] = chance.choice((0, 1, 1 << 63, (1 << 64) - 1,
                                                            1 << 32)).to_bytes(8, "little")
                self.write(self.sealed(bytes(payload)))
                errors += self.load_error() is not None
        self.assertGreater(errors, 100)

    def test_random_bytes(self):
        chance = random.Random(7)
        for length in (0, 1, 7, 8, 103, 104, 105, 1000):
            self.write(chance.randbytes(length))
            self.assertIsNotNone(self.load_error())
            self.write(self.sealed(chance.randbytes(length)))
            self.assertIsNotNone(self.load_error())

    def test_another_format_names_both_versions(self):
        damaged = bytearray(self.small)
        damaged[8] = 9
        self.write(damaged)
        error = self.load_error()
        self.assertIn("has format 9, written by tm %s" % tm.__version__, error)
        self.assertIn("reads format 2", error)

    def test_how_it_was_sampled(self):
        snapshot = tm.Snapshot.from_traces([(0, 1000, (("a.c", 1),), 1)], 10)
        snapshot.sample_period, snapshot.min_size = 4096, 16
        self.assertGreater(snapshot.size, 4096)
        snapshot.dump(self.path)
        with open(self.path, "rb") as file:
            self.assertEqual(file.read()[8], 2)
        loaded = tm.Snapshot.load(self.path)
        self.assertEqual((loaded.sample_period, loaded.min_size, loaded.size, loaded.recorded),
                         (4096, 16, snapshot.size, 1))
        self.assertEqual(loaded.statistics("lineno")[0].size_error, snapshot.size_error)
        for name, values in (("sample_period", (1, 1023, -1, 2 ** 40 + 1, 2 ** 70, 4096.0, "4096",
                                                True, None, [])),
                             ("min_size", (-1, 2 ** 40 + 1, 1.5, "x", None))):
            for value in values:
                vars(snapshot).update({"sample_period": 0, "min_size": 0, name: value})
                with mock.patch.object(dumpfile, "FORMAT_SAMPLED", 1):
                    snapshot.dump(self.path)
                self.assertRegex(self.load_error(), "is damaged: its %s cannot be" % name)

    def test_a_file_of_an_older_version_was_not_sampled(self):
        snapshot = tm.Snapshot.from_traces([(0, 5, (("a.c", 1),), 1)], 10)
        facts = dumpfile._facts(snapshot)
        del facts["sample_period"], facts["min_size"]
        with mock.patch.object(dumpfile, "_facts", lambda snapshot: facts):
            snapshot.dump(self.path)
        loaded = tm.Snapshot.load(self.path)
        self.assertEqual((loaded.sample_period, loaded.min_size, loaded.size), (0, 0, 5))

    def test_it_claims_to_be_huge(self):
        payload = self.payload(self.small)
        for size in (1 << 40, (1 << 64) - 1, len(payload) + 1, len(payload) - 1, 0):
            self.write(self.sealed(payload, size))
            self.assertIsNotNone(self.load_error())

    def test_a_bomb(self):
        """A small file that unpacks to very much is refused, in little memory."""
        body = _tm.compress(bytes(1 << 28))
        self.assertLess(len(body), 1 << 15)
        self.write(self.sealed(b"", 1 << 28, body=body))
        code = ("import resource, sys, tm\n"
                "resource.setrlimit(resource.RLIMIT_AS, (%d, %d))\n"
                "try:\n"
                "    tm.Snapshot.load(sys.argv[1])\n"
                "except tm.TmError as error:\n"
                "    print(error)\n" % (1 << 27, 1 << 27))
        done = subprocess.run([sys.executable, "-c", code, self.path], text=True,
                              capture_output=True, timeout=60, env=dict(
                                  os.environ, PYTHONPATH=os.pathsep.join(sys.path)))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("it claims to hold 268435456 bytes", done.stdout)

    def test_what_is_no_file(self):
        for path in ("/dev/zero", "/dev/null", self.folder):
            with self.assertRaises((tm.TmError, IsADirectoryError)):
                tm.Snapshot.load(path)
        with self.assertRaises(FileNotFoundError):
            tm.Snapshot.load(self.path + "x")

    def test_nothing_in_a_file_replaces_methods(self):
        snapshot = tm.Snapshot.from_traces([(0, 5, (("a.c", 1),), 1)], 10)
        vars(snapshot).update({"statistics": 1, "blocks": 2, "fine": 3})
        snapshot.dump(self.path)
        loaded = tm.Snapshot.load(self.path)
        self.assertEqual((loaded.blocks, loaded.fine), (1, 3))
        self.assertTrue(callable(loaded.statistics))

    def test_memory_stays_bounded(self):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.test_it_claims_to_be_huge()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.assertLess(after - before, 64 << 10)


if __name__ == "__main__":
    unittest.main()
