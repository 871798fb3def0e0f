"""What top, diff, traceback and the rest say of a program whose blocks are known.

May use gdbsession.  Must never import gdb: the tests see what a person sees.
"""
import os
import re
import tempfile
import unittest

from gdbsession import ROOT, TestCase, build

SOURCE = str(ROOT / "tests" / "e2e" / "reports.c")
TOP_KEYS = {"command", "key_type", "cumulative", "snapshot", "statistics", "other", "total_size",
            "total_count"}
FRAME_KEYS = {"filename", "lineno", "function", "module", "address", "inlined"}
NOT_TRACED = ("not traced (allocated before tracing started, freed, or not a heap address).")


def line_of(mark):
    """Number of the line that carries a comment."""
    with open(SOURCE) as file:
        return next(number for number, line in enumerate(file, 1) if f"/* {mark} */" in line)


class Reports(TestCase):
    def setUp(self):
        self.gdb = self.session(build(SOURCE.replace(str(ROOT) + "/", "")))
        self.gdb.run("break checkpoint")
        self.gdb.run("run")
        self.assertStarted(self.gdb.run("tm start 10"), 10)
        self.go()

    def go(self):
        self.gdb.run("continue")

    def place(self, mark):
        return f"{self.source}:{line_of(mark)}"

    @property
    def source(self):
        """The program's source as its debug information names it."""
        return self.gdb.json("tm top -json -limit 1")["statistics"][0]["filename"]

    def test_top(self):
        self.assertEqual(self.gdb.run("tm top"), "\n".join([
            "[ Top 10 ]",
            f"{self.place('inlined')}: size=19.5 KiB, count=20, average=1000 B",
            f"{self.place('table')}: size=1000 B, count=1, average=1000 B",
            "Total allocated size: 20.5 KiB"]))
        self.assertEqual(self.gdb.run("tm top filename"), "\n".join([
            "[ Top 10 ]",
            f"{self.source}: size=20.5 KiB, count=21, average=1000 B",
            "Total allocated size: 20.5 KiB"]))
        self.assertEqual(self.gdb.run("tm top -limit 1").splitlines()[2],
                         "1 other: size=1000 B, count=1")

    def test_options_change_the_order_and_the_count(self):
        self.go()
        self.assertIn(self.place("text"), self.gdb.run("tm top -by count").splitlines()[2])
        top = self.gdb.run("tm top function -cumulative")
        self.assertRegex(top, r"main \(.*reports\.c\): size=39\.1 KiB, count=41")
        self.assertOneLine(self.gdb.run("tm top size -cumulative"), r"^-cumulative goes with")
        self.assertRegex(self.gdb.run("tm top size"), r"(?m)^1000 B: size=39\.1 KiB, count=40")
        self.assertRegex(self.gdb.run("tm top domain"), r"(?m)^domain 0 \(malloc\): ")
        self.assertEqual(self.gdb.run("tm top -domain 1"),
                         "[ Top 10 ]\nTotal allocated size: 0 B")

    def test_source(self):
        self.assertEqual(self.gdb.run("tm top -source -limit 1").splitlines()[:3], [
            "Top 1 lines", f"#1: e2e/reports.c:{line_of('inlined')}: 19.5 KiB",
            "    return malloc(size); /* inlined */"])

    def test_source_is_found_as_gdb_finds_it(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        with open(SOURCE) as file, open(os.path.join(folder, "reports.c"), "w") as copy:
            copy.write(file.read().replace("/* inlined */", "/* moved */"))
        self.gdb.run(f"set substitute-path '{os.path.dirname(self.source)}' {folder}")
        self.assertIn("return malloc(size); /* moved */", self.gdb.run("tm top -source"))
        self.assertIn("return malloc(size); /* moved */", self.gdb.run("tm traceback leaks[3]"))
        self.gdb.run("unset substitute-path")
        self.gdb.run(f"set substitute-path '{os.path.dirname(self.source)}' /nowhere")
        self.assertNotIn("return malloc", self.gdb.run("tm traceback leaks[3]"))
        self.gdb.run(f"directory {folder}")
        self.assertIn("return malloc(size); /* moved */", self.gdb.run("tm traceback leaks[3]"))

    def test_helper_symbols_come_and_go(self):
        helpers = 'print([o.filename for o in gdb.objfiles() if "tm-helper" in o.filename])'
        self.assertIn("tm-helper.so", self.gdb.python("import gdb; " + helpers))
        self.gdb.run("kill")
        self.assertEqual(self.gdb.python("import gdb; " + helpers), "[]")

    def test_output_can_be_piped(self):
        self.assertEqual(self.gdb.run("pipe tm top | head -1"), "[ Top 10 ]")
        self.assertIn("1 other", self.gdb.run("with tm limit 1 -- tm top"))

    def test_inline_and_filename_settings(self):
        self.gdb.run("set tm inline off")
        self.assertIn(f"reports.c:{line_of('leak')}: size=19.5 KiB", self.gdb.run("tm top"))
        self.gdb.run("set tm filename basename")
        self.assertIn(f"\nreports.c:{line_of('leak')}: ", self.gdb.run("tm top"))
        self.gdb.run("set tm filename relative")
        self.assertIn(f"\ntests/e2e/reports.c:{line_of('leak')}: ", self.gdb.run("tm top"))

    def test_snapshots_and_differences(self):
        self.assertEqual(self.gdb.run("tm snapshot"),
                         "Snapshot 1: 21 blocks, 20.5 KiB, 2 tracebacks (limit 10).")
        self.go()
        self.assertEqual(self.gdb.json("tm snapshot later -json"), {
            "command": "snapshot", "name": "later", "blocks": 41, "size": 40077,
            "tracebacks": 3, "traceback_limit": 10})
        text = "\n".join([
            "[ Top 10 differences ]",
            f"{self.place('inlined')}: size=39.1 KiB (+19.5 KiB), count=40 (+20), average=1000 B",
            f"{self.place('table')}: size=0 B (-1000 B), count=0 (-1)",
            f"{self.place('text')}: size=77 B (+77 B), count=1 (+1), average=77 B"])
        for line in ("tm diff 1 now", "tm diff 1", "tm diff 1 later lineno"):
            self.assertEqual(self.gdb.run(line), text)
        document = self.gdb.json("tm diff 1 later -json")
        self.assertLessEqual(TOP_KEYS | {"old"}, document.keys())
        self.assertEqual((document["command"], document["old"], document["snapshot"]),
                         ("diff", "1", "later"))
        self.assertEqual((document["statistics"][0]["size_diff"],
                          document["statistics"][0]["count_diff"]), (20000, 20))
        listed = self.gdb.run("tm snapshots").splitlines()
        self.assertEqual([line.split()[0] for line in listed], ["Name", "1", "later"])
        self.assertRegex(listed[1],
                         r"^1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +21  20\.5 KiB +2 +10  live \d+$")

    def test_they_outlive_the_process(self):
        self.gdb.run("tm snapshot")
        text = self.gdb.run("tm top 1")
        self.gdb.run("tm stop")
        self.gdb.run("kill")
        self.assertEqual(self.gdb.run("tm top"), text)
        self.assertOneLine(self.gdb.run("tm top now"), "^There is no process ")

    def test_files(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "a file.tm")
        self.assertOneLine(self.gdb.run(f'tm dump "{path}"'), "^There is no snapshot to write")
        self.gdb.run("tm snapshot")
        text = self.gdb.run("tm top 1")
        self.assertOneLine(self.gdb.run(f'tm dump "{path}"'), "^Snapshot 1 written to .*KiB|B")
        self.assertOneLine(self.gdb.run(f"tm dump {folder}/no/such"),
                           "^Cannot write .*No such file")
        other = self.session()
        self.assertEqual(other.run(f'tm load "{path}" old'),
                         "Snapshot old: 21 blocks, 20.5 KiB, 2 tracebacks (limit 10).")
        self.assertEqual(other.run("tm top"), text)
        self.assertOneLine(other.run(f"tm load {folder}/missing"), "^Cannot read .*No such file")
        self.assertOneLine(other.run(f'tm load "{SOURCE}"'), r"reports\.c .*\.$")
        found = other.run(f"complete tm load {folder}/a")
        self.assertIn(found, (f"tm load {folder}/a file.tm", f"tm load {folder}/a\\ file.tm"))
        self.assertOneLine(other.run(f"tm load {folder}/a\\ file.tm again"), "^Snapshot again: ")

    def test_traceback(self):
        block = self.gdb.evaluate("(long) leaks[3]")
        text = "\n".join([
            f"{block:#x}: 1000 B in domain 0 (malloc), allocated at (oldest call first):",
            f'  File "{self.source}", line {line_of("leak")}, in leak',
            "    leaks[i] = wrapper(1000); /* leak */",
            f'  File "{self.source}", line {line_of("inlined")}, in wrapper',
            "    return malloc(size); /* inlined */"])
        self.assertEqual(self.gdb.run("tm traceback leaks[3] -limit 2"), text)
        document = self.gdb.json("tm traceback leaks[3] + 999 -json")
        self.assertEqual((document["command"], document["address"], document["block"],
                          document["size"], document["domain"]),
                         ("traceback", f"{block + 999:#x}", f"{block:#x}", 1000, 0))
        self.assertEqual(document["frames"][-1].keys(), FRAME_KEYS)
        self.assertEqual([each["function"] for each in document["frames"]][-3:],
                         ["main", "leak", "wrapper"])
        newest = self.gdb.run("tm traceback leaks[3] -most-recent-first").splitlines()
        self.assertIn("most recent call first", newest[0])
        self.assertIn("wrapper", newest[1])
        for expression, address in (("leaks[3] + 1000", block + 1000), ("0", 0), ("0x1234", 0x1234),
                                    ("(char *) main", self.gdb.evaluate("(long) main"))):
            self.assertEqual(self.gdb.run(f"tm traceback {expression}"),
                             f"{address:#x}: {NOT_TRACED}")
        self.assertOneLine(self.gdb.run("tm traceback nosuch + 1"),
                           r'^Cannot evaluate "nosuch \+ 1": No symbol "nosuch"')

    def test_filters(self):
        self.assertEqual(self.gdb.run(f"tm filter add -exclude *reports.c:{line_of('inlined')}"),
                         f"Filter 1: exclude *reports.c:{line_of('inlined')}.")
        self.assertEqual(self.gdb.run("tm top").splitlines()[-1], "Total allocated size: 1000 B")
        self.assertEqual(self.gdb.run("tm filter list"),
                         f"1: exclude *reports.c:{line_of('inlined')}")
        self.gdb.run("tm filter delete 1")
        self.assertEqual(self.gdb.run("tm filter list"), "No filters.")
        self.gdb.run("tm skip wrapper")
        self.assertIn(self.place("leak") + ": size=19.5 KiB", self.gdb.run("tm top"))
        self.gdb.run("tm skip -clear")
        self.assertIn(self.place("inlined") + ": size=19.5 KiB", self.gdb.run("tm top"))

    def test_status_clear_and_peak(self):
        status = self.gdb.json("tm status -json")
        self.assertEqual((status["tracing"], status["traceback_limit"], status["current"],
                          status["peak"], status["blocks"], status["dropped"]),
                         (True, 10, 21000, 21000, 21, 0))
        self.assertIn("malloc", {each["function"] for each in status["redirected"]})
        self.assertEqual(set(status["redirected"][0]), {"module", "function", "address", "domain"})
        text = self.gdb.run("tm status")
        self.assertRegex(text, r"\ATracing 10 frames in process \d+ since \d{4}-.*\.\n"
                               r"Traced memory: 20\.5 KiB in 21 blocks, peak 20\.5 KiB\.\n")
        self.assertEqual(self.gdb.run("tm clear"),
                         "Traces of 21 blocks, 20.5 KiB, forgotten; tracing goes on.")
        self.assertEqual(self.gdb.json("tm status -json")["blocks"], 0)
        self.go()
        self.assertEqual(self.gdb.run("tm reset-peak"), "Peak reset from 19.6 KiB to 19.6 KiB.")
        self.assertRegex(self.gdb.run("tm stop"), r"^Tracing stopped: \d+ functions restored\.$")

    def test_settings_give_the_defaults(self):
        self.gdb.run("tm stop")
        self.gdb.run("set tm frames 3")
        self.assertStarted(self.gdb.run("tm start"), 3)
        self.go()
        self.gdb.run("set tm limit 1")
        self.assertRegex(self.gdb.run("tm top"), r"(?s)^\[ Top 1 \].*\n1 other: ")
        self.assertRegex(self.gdb.run("with tm limit unlimited -- tm top"), r"^\[ Top 2 \]")
        self.assertEqual(len(self.gdb.json("tm traces -json -limit 9")["traces"]), 2)
        self.assertTrue(re.search(r": 1000 B in 20 blocks", self.gdb.run("tm traces -limit 9")))


if __name__ == "__main__":
    unittest.main()
