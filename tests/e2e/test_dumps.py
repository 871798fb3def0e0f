"""A snapshot that was dumped on one machine reads the same on another: no program, no
sources, another folder, a gdb that knows nothing.  And no file does harm.

May use gdbsession.  Must never import gdb: the tests see what a person sees.
"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from gdbsession import BUILD, ROOT, TestCase

KEYS = ("lineno", "filename", "traceback", "function", "module", "size", "domain")
REPORTS = [f"tm top {key} {{0}} -limit unlimited" for key in KEYS] + [
    "tm top function {0} -cumulative", "tm top lineno {0} -cumulative -by count -limit 2",
    "tm top {0} -source", "tm traces {0} -limit unlimited", "tm top traceback {0} -json",
    "tm traces {0} -json", "tm diff {1} {0}", "tm diff {1} {0} traceback",
    "tm diff {1} {0} function -cumulative", "tm diff {1} {0} size -json"]
LOAD_EACH = """
import gdb
path, good = {path!r}, open({path!r}, "rb").read()
damaged = [good[:length] for length in range(len(good))]
damaged += [good[:place] + bytes([good[place] ^ flip]) + good[place + 1:]
            for place in range(len(good)) for flip in {flips!r}]
lines = set()
for contents in damaged:
    with open(path, "wb") as file:
        file.write(contents)
    try:
        print("loaded:", len(contents), gdb.execute("tm load " + path, to_string=True))
    except gdb.error as error:
        lines.add(str(error))
with open(path, "wb") as file:
    file.write(good)
print("files:", len(damaged))
for line in sorted(lines):
    print("error:", line.replace("\\n", "NEWLINE"))
"""


class Elsewhere(TestCase):
    """The machine where the program runs is a folder that goes away."""

    def setUp(self):
        self.here, self.away = (
            pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix=prefix)))
            for prefix in ("tm-there-", "tm-away-"))
        shutil.copy(ROOT / "tests" / "e2e" / "reports.c", self.here)
        subprocess.run(["gcc", "-O2", "-g", "-o", "reports", "reports.c"], cwd=self.here,
                       check=True)
        gdb = self.session(self.here / "reports", cwd=self.here)
        for command in ("break checkpoint", "run", "tm start 10", "continue", "tm snapshot old",
                        "continue", "tm snapshot new"):
            gdb.run(command)
        self.told = self.reports(gdb)
        self.assertIn("    return malloc(size); /* inlined */", self.told[REPORTS[2]])
        for name in ("old", "new"):
            self.assertRegex(gdb.run(f"tm dump {self.here}/{name}.tm {name}"),
                             rf"\ASnapshot {name} written to .*/{name}\.tm \(.*B\)\.\Z")
        gdb.run("kill")
        gdb.close()
        for name in ("old", "new"):
            shutil.move(self.here / f"{name}.tm", self.away)
        shutil.rmtree(self.here)
        self.here.mkdir()  # what is left for the test to clean up

    def reports(self, gdb):
        return {line: gdb.run(line.format("new", "old")) for line in REPORTS}

    def test_the_same_text(self):
        gdb = self.session(cwd=self.away)
        for name in ("old", "new"):
            self.assertRegex(gdb.run(f"tm load {name}.tm {name}"),
                             rf"\ASnapshot {name}: \d+ blocks, .*, \d tracebacks \(limit 10\)\.\Z")
        found = self.reports(gdb)
        for line, text in self.told.items():
            self.assertEqual(found[line], text, line)
            self.assertGreater(len(text.splitlines() if "-json" not in line else text), 1, line)
        listed = gdb.run("tm snapshots").splitlines()
        self.assertTrue(listed[1].endswith(f"{self.away}/old.tm"), listed)

    def test_without_gdb(self):
        code = ("import tm\n"
                "new, old = tm.Snapshot.load('new.tm'), tm.Snapshot.load('old.tm')\n"
                "for one in new.statistics('lineno'): print(one)\n"
                "for one in new.compare_to(old, 'lineno'): print(one)\n")
        paths = [str(ROOT / "gdb-plugin"), str(BUILD)]
        done = subprocess.run(["/usr/bin/python3", "-c", code], cwd=self.away, text=True,
                              capture_output=True, env={"PYTHONPATH": ":".join(paths)})
        wanted = [line for report in (REPORTS[0], "tm diff {1} {0}")
                  for line in self.told[report].splitlines() if ": size=" in line]
        self.assertEqual((done.stdout.splitlines(), done.stderr), (wanted, ""))


class Damage(TestCase):
    def test_truncated_at_every_length_and_every_byte_flipped(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "small.tm")
        gdb = self.session()
        gdb.python(f"import tm\ntm.Snapshot.from_traces([(0, 5, (('a.c', 1), ('b.c', 2)), 2)], 10)"
                   f".dump({path!r})")
        size = os.path.getsize(path)
        self.assertLess(size, 1000)
        lines = gdb.python(LOAD_EACH.format(path=path, flips=(0x01, 0x80, 0xff))).splitlines()
        self.assertEqual(lines[0], f"files: {size * 4}", lines)
        self.assertGreater(len(lines), 3)
        for line in lines[1:]:
            self.assertRegex(line, rf"^error: {path} (is|has) .*\.$")
            self.assertNotIn("NEWLINE", line)
        self.assertEqual(gdb.run("tm snapshots"), "No snapshots.")
        self.assertEqual(gdb.run(f"tm load {path}"),
                         "Snapshot 1: 1 block, 5 B, 1 traceback (limit 10).")


if __name__ == "__main__":
    unittest.main()
