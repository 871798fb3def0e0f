"""All commands, one by one: each has help and says the same in `help X` and `X -h`,
survives wrong usage with one clear line, completes, and refuses what it cannot do.

May use gdbsession.  Must never import gdb: the tests see what a person sees.
"""
import pathlib
import re
import shutil
import tempfile
import time
import unittest

from gdbsession import LIMIT, PLUGIN, Session, TestCase, batch
from terminal import Terminal, seen

COMMANDS = ["start", "stop", "clear", "reset-peak", "status", "snapshot", "snapshots", "delete",
            "dump", "load", "top", "diff", "traceback"]
NEED_A_PROCESS = ["stop", "clear", "reset-peak", "snapshot", "traceback 1"]
NFRAMES_REFUSED = ["0", "-1", "1001", "2147483648", "0x7fffffff", "nonsense", "1.5"]
NOT_TRACED = r'^The process is not being traced: use "tm start" first\.$'
SNAPSHOT = """
from tm.snapshots import registry
class Nothing:
    blocks = size = tracebacks = traceback_limit = dropped = sample_period = min_size = 0
    name, time, origin = None, 0.0, "nowhere"
for name in %r:
    registry.add(Nothing(), name)
"""


def all_commands(session):
    """Names of every sub-command, those of `tm filter` and the like included."""
    names = []
    for line in session.run("tm").splitlines():
        name = re.fullmatch(r"tm (\S+) -- .*\.", line).group(1)
        names.append(name)
        text = session.run(f"help tm {name}")
        if "SUBCOMMAND" in text.splitlines()[1]:
            names += re.findall(r"(?m)^tm (\S+ \S+) -- .*\.$", text)
    return names


class Walk(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.gdb = cls.enterClassContext(Session())
        cls.names = all_commands(cls.gdb)

    def leaves(self):
        return [name for name in self.names
                if not any(other.startswith(name + " ") for other in self.names)]

    def test_bare_tm_lists_the_commands(self):
        self.assertEqual([name for name in self.names if name in COMMANDS], COMMANDS)

    def test_gdb_lists_the_same_commands(self):
        text = self.gdb.run("help tm")
        for name in self.names:
            if " " not in name:
                self.assertRegex(text, rf"(?m)^tm {name} -- ")

    def test_help_and_h_say_the_same(self):
        self.assertEqual(self.gdb.run("tm -h"), self.gdb.run("help tm"))
        for name in self.names:
            with self.subTest(name):
                text = self.gdb.run(f"help tm {name}")
                for option in ("-h", "-help"):
                    self.assertEqual(self.gdb.run(f"tm {name} {option}"), text)
                self.assertRegex(text, rf"\A[A-Z].*\.\nUsage: tm {name}\b")

    def test_help_is_plain_and_fits_a_terminal(self):
        for name in self.names:
            text = self.gdb.run(f"help tm {name}")
            self.assertTrue(text.isascii(), name)
            for line in text.splitlines():
                self.assertLessEqual(len(line), 90, f"{name}: {line}")

    def test_unknown_options_are_refused(self):
        for name in self.leaves():
            with self.subTest(name):
                text = self.gdb.run(f"tm {name} -nosuchoption")
                self.assertOneLine(text, r"^Unknown option \"-nosuchoption\": .*[.?]$")

    def test_too_much_is_refused(self):
        for name in self.leaves():
            with self.subTest(name):
                text = self.gdb.run(f"tm {name} 1 2 3 4 5 -limit")
                self.assertOneLine(text, r"[.?]$")
                self.assertNotRegex(text, "Python|Traceback")

    def test_odd_lines_are_refused(self):
        for name in self.leaves():
            for line in ('"', "'", "-", "-- --", "\\ x", "(((", "-json -json extra words here",
                         "\N{SNOWMAN}", "$nosuch_function(1)"):
                with self.subTest(name=name, line=line):
                    text = self.gdb.run(f"tm {name} {line}")
                    self.assertNotRegex(text, r"Python Exception|Error occurred in Python")
        self.assertIn("tm start", self.gdb.run("tm"))

    def test_unknown_commands_name_the_nearest(self):
        self.assertOneLine(self.gdb.run("tm snapshto"), r'^Undefined tm command: "snapshto".*'
                                                        r'"tm snapshot"')
        self.assertOneLine(self.gdb.run("tm topp lineno"), '"topp".*"tm top"')
        self.assertOneLine(self.gdb.run("tm xyzzy"), r'^Undefined tm command: "xyzzy"\.  .*"tm ')

    def test_nframe_has_a_range(self):
        for text in NFRAMES_REFUSED:
            self.assertOneLine(self.gdb.run(f"tm start {text}"),
                               rf'^NFRAME must be a number from 1 to 1000, not .*{text}')

    def test_options_complete(self):
        for name in self.leaves():
            with self.subTest(name):
                usage = self.gdb.run(f"help tm {name}")
                options = sorted(set(re.findall(r"(?m)^  (-[-a-z]+)", usage)))
                self.assertIn("-help", options)
                text = self.gdb.run(f"complete tm {name} -")
                self.assertEqual(text.splitlines(), [f"tm {name} {each}" for each in options])

    def test_words_complete(self):
        def complete(text):
            return self.gdb.run(f"complete {text}").splitlines()

        self.assertEqual(complete("tm snap"), ["tm snapshot", "tm snapshots"])
        self.assertEqual(complete("tm top -cumul"), ["tm top -cumulative"])
        self.assertEqual(complete("tm top f"), ["tm top filename", "tm top function"])
        self.assertEqual(complete("tm top lineno -by s"), ["tm top lineno -by size"])
        self.assertEqual(complete("tm top -by count l"), ["tm top -by count lineno"])
        self.assertEqual(complete("set tm filename b"), ["set tm filename basename"])


class Names(TestCase):
    def test_snapshot_names(self):
        gdb = self.session()
        self.assertOneLine(gdb.run("tm snapshots"), r"^No snapshots\.$")
        for line in ("tm delete 7", "tm diff 1 7", "tm diff 1"):
            self.assertOneLine(gdb.run(line), r'^No snapshot "[17]".*there are none')
        gdb.python(SNAPSHOT % ["before", "after"])
        self.assertEqual(gdb.run("complete tm delete b"), "tm delete before")
        self.assertEqual(gdb.run("complete tm diff before a"), "tm diff before after")
        self.assertEqual(gdb.run("complete tm diff before no"), "tm diff before now")
        self.assertOneLine(gdb.run("tm diff before 7"),
                           r'^No snapshot "7": there are before, after')
        self.assertOneLine(gdb.run("tm top nonsense"),
                           r'^"nonsense" is neither a key type \(lineno, .*before, after')
        self.assertOneLine(gdb.run("tm delete before 7"), r'^No snapshot "7"')
        self.assertEqual([each["name"] for each in gdb.json("tm snapshots -json")["snapshots"]],
                         ["before", "after"])
        self.assertEqual(gdb.run("tm delete before after"), "")
        self.assertEqual(gdb.json("tm snapshots -json"), {"command": "snapshots", "snapshots": []})


class Refusals(TestCase):
    def test_without_a_process(self):
        gdb = self.session()
        for name in NEED_A_PROCESS:
            self.assertOneLine(gdb.run(f"tm {name}"), r"^There is no process .*\.$")
        for line in ("tm top", "tm top now", "tm top filename -json"):
            self.assertOneLine(gdb.run(line), r"^There is no process .*\.$")
        self.assertOneLine(gdb.run("tm status"), r"^Not tracing: there is no process\.$")
        self.assertIs(gdb.json("tm status -json")["tracing"], False)

    def test_not_traced(self):
        gdb = self.session("/bin/true")
        gdb.run("starti")
        for name in NEED_A_PROCESS:
            self.assertOneLine(gdb.run(f"tm {name}"), NOT_TRACED)
        self.assertOneLine(gdb.run("tm top"), NOT_TRACED)
        self.assertOneLine(gdb.run("tm status"), r"^Not tracing\.$")

    def sleeps(self, gdb):
        """Whether the process is in the system call that sleep(1) makes."""
        text = gdb.python("print(gdb.selected_inferior().pid)")
        pid = text.splitlines()[-1]  # below what gdb has to say of the start
        with open(f"/proc/{pid}/syscall") as file:
            return file.read().startswith("230 ")  # clock_nanosleep

    def test_running_in_the_background(self):
        gdb = self.session("--args", "/bin/sleep", "1000")
        gdb.run("set libthread-db-search-path /nowhere")
        gdb.run("run &")
        end = time.monotonic() + LIMIT
        while not self.sleeps(gdb):
            self.assertLess(time.monotonic(), end)
        gdb.run("echo")
        for name in NEED_A_PROCESS + ["start", "status", "top", "diff now"]:
            if name == "diff now":
                gdb.python(SNAPSHOT % ["x"])
                name = "diff x now"
            self.assertOneLine(gdb.run(f"tm {name}"), r"^The process is running: stop it first")
        gdb.run("kill")

    def test_expressions(self):
        gdb = self.session("/bin/true")
        gdb.run("set var $n = 5")
        self.assertOneLine(gdb.run("tm start $n - 5"), r"^NFRAME .* 1 to 1000, not \$n - 5 = 0\.$")
        self.assertOneLine(gdb.run("tm start 1 +"), r"^NFRAME must be")
        self.assertOneLine(gdb.run('tm start "abc"'), r"^NFRAME must be")
        self.assertOneLine(gdb.run("tm top -limit $nosuch()"), r"^-limit must be")

    def test_missing_build_names_the_remedy(self):
        with tempfile.TemporaryDirectory() as folder:
            plugin = pathlib.Path(folder, "gdb-plugin")
            shutil.copytree(PLUGIN.parent, plugin, ignore=shutil.ignore_patterns("native"))
            gdb = self.session(plugin=False)
            text = gdb.run(f"source {plugin / 'tm-gdb.py'}")
            self.assertOneLine(text, r'^tm is not loaded: _tm\.abi3\.so is missing: run "make" in ')
            self.assertOneLine(gdb.run("tm"), r'^Undefined command: "tm"')


class Settings(TestCase):
    def test_values_are_checked_and_kept(self):
        gdb = self.session()
        self.assertEqual(gdb.run("set tm frames 25"), "")
        for text in ("0", "-1", "1001"):
            self.assertOneLine(gdb.run(f"set tm frames {text}"), "from 1 to 1000")
        self.assertEqual(gdb.run("show tm frames"), "The number of frames a traceback keeps is 25.")
        gdb.run("set tm limit unlimited")
        self.assertEqual(gdb.run("show tm limit"),
                         "The number of lines a report of tm shows is unlimited.")
        shown = gdb.run("show tm")
        for name in ("frames", "limit", "inline", "filename", "skip-allocators", "follow-exec"):
            self.assertRegex(shown, rf"(?m)^{name}:  .*\.$")
        self.assertOneLine(gdb.run("set tm nosuch 1"), r'^Undefined set tm command: "nosuch"')

    def test_sourced_by_a_script(self):
        gdb = self.session(plugin=False)
        self.assertEqual(gdb.python(f"gdb.execute('source {PLUGIN}')"), "")
        self.assertEqual(gdb.run("tm snapshots"), "No snapshots.")

    def test_a_second_sourcing_keeps_settings_and_snapshots(self):
        gdb = self.session()
        gdb.run("set tm limit 7")
        gdb.run("set tm inline off")
        gdb.python(SNAPSHOT % ["kept"])
        for _ in range(2):
            self.assertEqual(gdb.run(f"source {PLUGIN}"), "")
            self.assertRegex(gdb.run("show tm limit"), r" 7\.$")
            self.assertRegex(gdb.run("show tm inline"), r" off\.$")
            self.assertEqual([each["name"] for each in gdb.json("tm snapshots -json")["snapshots"]],
                             ["kept"])
            self.assertLessEqual(set(COMMANDS), set(all_commands(gdb)))

    def test_a_second_sourcing_keeps_an_armed_start(self):
        gdb = self.session("/bin/true")
        self.assertOneLine(gdb.run("tm start 6"), r"^The next run will be traced with 6 frames")
        self.assertEqual(gdb.run(f"source {PLUGIN}"), "")
        self.assertOneLine(gdb.run("tm status"), r'^Not tracing yet: .*"run".* 6 frames\.$')
        self.assertOneLine(gdb.run("tm stop"), r'^The next "run" is not traced\.$')
        self.assertOneLine(gdb.run("tm status"), r"^Not tracing: there is no process\.$")

    def test_errors_fail_a_batch(self):
        status, text = batch("tm status")
        self.assertEqual(status, 0, text)
        status, text = batch("tm top")
        self.assertEqual((status, text.count("\n")), (1, 1), text)


class Return(TestCase):
    def setUp(self):
        self.gdb = self.enterContext(Terminal(settings=["set pagination off", "set width 0"]))

    def show(self, line):
        return seen(self.gdb.run(line))

    def test_ret_repeats_what_is_useful(self):
        self.show("file /usr/bin/python3")
        self.show("set args -c 'import json' </dev/null")
        self.show("tbreak Py_RunMain")
        self.show("run")
        self.assertRegex(self.show("tm start 3"), r"(?m)^Tracing 3 frames: ")
        self.assertEqual(self.show(""), "")
        self.show("tbreak Py_FinalizeEx")
        self.show("continue")
        first = self.show("tm top traceback -limit 2")
        self.assertRegex(first, r"^\[ Top 2 \]")
        second = self.show("")
        self.assertRegex(second, r"^\[ 3 to 4 of \d+ \]")
        third = self.show("")
        self.assertRegex(third, r"^\[ 5 to 6 of \d+ \]")
        self.assertEqual(self.show("tm top traceback -limit 2"), first)
        self.assertRegex(self.show("tm snapshot"), r"^Snapshot 1: ")
        self.assertEqual(self.show(""), "")


if __name__ == "__main__":
    unittest.main()
