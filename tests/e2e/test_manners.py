"""How commands behave on a terminal and in every kind of session: styles, the pager and
its `q`, widths, JSON, and one line of refusal where something cannot be.

May use terminal and gdbsession.  Must never import gdb: the tests see what a person sees.
"""
import json
import os
import re
import tempfile
import unittest

from gdbsession import TestCase, batch, build
from terminal import Terminal, seen
from test_commands_walk import all_commands

BUG = r"Python Exception|Error occurred in Python|Traceback \(most"
GREEN, BOLD, RESET = "\x1b[32m", "\x1b[1m", "\x1b[m"
PAGER = "--Type <RET> for more, q to quit, c to continue without paging--"

# Of each command a line that means something in a session with snapshot 1; {0} is a folder.
LINES = {
    "start": "start 5", "stop": "stop", "unload": "unload", "clear": "clear",
    "reset-peak": "reset-peak", "status": "status", "doctor": "doctor", "snapshot": "snapshot",
    "snapshots": "snapshots", "delete": "delete 2", "dump": "dump {0}/file 1",
    "load": "load {0}/file", "top": "top function", "diff": "diff 1 now traceback",
    "traceback": "traceback leaks[3]", "traces": "traces -limit 3", "tree": "tree",
    "stats": "stats", "check": "check 1 now -max-growth 1MiB",
    "export": "export collapsed {0}/stacks 1", "filter add": "filter add *.c",
    "filter list": "filter list", "filter delete": "filter delete 1",
    "filter clear": "filter clear", "skip": "skip nothing", "domain list": "domain list",
    "domain add": "domain add pool -alloc nosuch -free nosuch",
    "domain remove": "domain remove nosuch", "watch": "watch", "timeline": "timeline {0}/page",
}
# Where they mean something, reports are told apart from what changes the process.
ENDS = ("stop", "unload", "clear", "start", "domain add")


class OnATerminal(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.executable = build("tests/e2e/reports.c")

    def open(self, **options):
        terminal = self.enterContext(Terminal(self.executable, **options))
        for line in ("set pagination off", "break checkpoint", "run", "tm start 10", "continue",
                     "tm snapshot", "continue"):
            terminal.run(line)
        return terminal

    def test_words_are_styled_as_gdb_styles_them(self):
        gdb = self.open()
        top = gdb.run("tm top -limit 1")
        self.assertIn(f"{BOLD}[ Top 1 ]{RESET}", top)
        self.assertRegex(top, rf"{re.escape(GREEN)}/[^\x1b]*reports\.c{re.escape(RESET)}:20: size=")
        self.assertIn("\x1b[33mwrapper\x1b[m (", gdb.run("tm top function"))
        self.assertRegex(gdb.run("tm traceback leaks[3]"),
                         r"\x1b\[34m0x[0-9a-f]+\x1b\[m: 1000 B in (.*\n)+.*line 26, in "
                         r"\x1b\[33mleak\x1b\[m\r\n    leaks\[i\]")
        for line in ("diff 1", "traces", "tree", "top -source", "top traceback"):
            self.assertIn(GREEN, gdb.run(f"tm {line}"), line)
        self.assertIn(GREEN, gdb.run("with print pretty on -- tm top"))
        gdb.run("set style filename foreground red")
        gdb.run("set style filename background blue")
        gdb.run("set style filename intensity bold")
        self.assertIn("\x1b[31;44;1m/", gdb.run("tm top"))
        self.assertNotIn("\x1b[3", gdb.run("tm top -json") + gdb.run("tm status -json"))

    def test_it_is_plain_where_it_must_be(self):
        gdb = self.open()
        plain = seen(gdb.run("tm top"))
        folder = self.enterContext(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "text")

        def kept():
            with open(path) as file:
                text = file.read()
            os.unlink(path)
            return text.strip("\n")

        for line in (f"pipe tm top | cat >{path}", f"| tm top | cat >{path}",
                     f"with width 0 -- pipe tm top | cat >{path}",
                     f"python open('{path}', 'w').write(gdb.execute('tm top', True, True))"):
            gdb.run(line)
            self.assertEqual(kept(), plain, line)
        gdb.run(f"set logging file {path}")
        for redirect in ("on", "off"):
            gdb.run(f"set logging redirect {redirect}")
            gdb.run("set logging enabled on")
            gdb.run("tm top")
            gdb.run("set logging enabled off")
            self.assertIn(plain, kept())
        for line in ("set style enabled off", "python os.environ['NO_COLOR'] = '1'"):
            gdb.run("set style enabled on")
            gdb.run(line)
            self.assertNotIn(GREEN, gdb.run("tm top"), line)

    def test_names_cannot_control_the_terminal(self):
        gdb = self.session()
        text = gdb.python("from tm.commands.output import write\n"
                          "write('a\\x1b[2Jb\\x1b]0;c\\x07\\x1b[1;31md\\x1b[m\\r\\te\\x9b2J')")
        self.assertEqual(text, "a\\x1b[2Jb\\x1b]0;c\\x07\x1b[1;31md\x1b[m\\x0d\te\\x9b2J")

    def test_no_color_in_the_environment(self):
        gdb = self.open(environment={"NO_COLOR": "1"})
        self.assertNotIn(GREEN, gdb.run("tm top"))

    def test_quitting_at_the_pager_leaves_all_as_it_was(self):
        gdb = self.open()
        gdb.run("set pagination on")
        gdb.run("set height 3")
        before = seen(gdb.run("tm check 1 now -max-growth 1MiB"))
        for name in ("top", "diff 1", "traceback leaks[3]", "tree", "stats", "status", "doctor",
                     "top traceback", "top -source", "", "start -h"):
            gdb.type(f"tm {name}\n")
            gdb.wait(PAGER)
            gdb.type("q\n")
            self.assertRegex(seen(gdb.wait()), r"Quit\Z|\A\Z", name)
        self.assertEqual(seen(gdb.run("tm check 1 now -max-growth 1MiB")), before)
        gdb.run("set height 0")
        self.assertRegex(seen(gdb.run("tm stop")), r"\ATracing stopped: ")

    def test_widths(self):
        gdb = self.open()
        for columns in (60, 80, 200):
            gdb.run(f"set width {columns}")
            for name in ("status", "stats"):
                for line in seen(gdb.run(f"tm {name}")).split("\n"):
                    self.assertLessEqual(len(line), columns, f"tm {name} at {columns}: {line}")

    def test_ret_does_nothing_where_nothing_is_useful(self):
        gdb = self.open()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        for line in ("tm snapshot", f"tm dump {folder}/a", f"tm load {folder}/a", "tm clear",
                     "tm delete 1", "tm stop", "tm start", "tm diff 2"):
            self.assertNotIn("rror", seen(gdb.run(line)))
            self.assertEqual(seen(gdb.run("")), "", line)


class InEveryKindOfSession(TestCase):
    """Each command works, or says in one line why it cannot."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.executable = build("tests/e2e/reports.c")

    def walk(self, gdb, folder, but=()):
        names = all_commands(gdb)
        leaves = {name for name in names
                  if not any(other.startswith(name + " ") for other in names)}
        self.assertEqual(leaves, set(LINES))
        leaves -= set(but)
        answers = {}
        for name in sorted(leaves, key=lambda name: (name in ENDS, list(LINES).index(name))):
            line = LINES[name].format(folder)
            takes_json = "-json" in gdb.run(f"help tm {name}")
            text = gdb.run(f"tm {line}" + (" -json" if takes_json else ""))
            self.assertNotRegex(text, BUG, line)
            answers[name] = text
            if takes_json and text.startswith("{"):
                document = json.loads(text)
                self.assertEqual(document["command"], name, line)
                self.assertNotIn("\n", text)
            elif takes_json:
                self.assertOneLine(text, r"^[A-Z\"].*[.?]$")
        return answers

    def test_live(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        gdb = self.session(self.executable)
        for line in ("break checkpoint", "run", "tm start 10", "continue", "tm snapshot",
                     "tm snapshot", "tm dump " + folder + "/file", "continue"):
            gdb.run(line)
        gdb.run(f"generate-core-file {folder}/core")
        answers = self.walk(gdb, folder, but=["watch"])  # which has a test of its own
        for name in ("status", "snapshot", "top", "diff", "traceback", "tree", "stats", "check",
                     "export", "load", "traces", "snapshots", "doctor", "filter list"):
            self.assertTrue(answers[name].startswith("{"), f"{name}: {answers[name]}")
        self.assertOneLine(answers["start"], r"^Already tracing, ")

        gdb = self.session(self.executable, f"{folder}/core")
        gdb.run(f"tm load {folder}/file 1")
        answers = self.walk(gdb, folder)
        for name in ("status", "snapshot", "top", "diff", "traceback", "tree", "stats", "check",
                     "export", "load", "traces", "snapshots"):
            self.assertTrue(answers[name].startswith("{"), f"{name}: {answers[name]}")
        for name in ("start", "stop", "clear", "reset-peak", "unload", "watch"):
            self.assertOneLine(answers[name], r"^This is a core file: .*\.$")

        gdb = self.session()
        gdb.run(f"tm load {folder}/file 1")
        answers = self.walk(gdb, folder)
        for name in ("status", "top", "tree", "stats", "export", "load", "traces", "snapshots"):
            self.assertTrue(answers[name].startswith("{"), f"{name}: {answers[name]}")
        for name in ("stop", "clear", "reset-peak", "unload", "snapshot", "diff", "traceback",
                     "check"):
            self.assertOneLine(answers[name], r"^There is no process .*\.$")

    def test_a_failing_line_fails_a_batch(self):
        path = os.path.join(self.enterContext(tempfile.TemporaryDirectory()), "file")
        common = ["break checkpoint", "run", "tm start", "continue", "tm snapshot", "continue",
                  f"tm dump {path} 1"]
        for line, wanted in (("tm check 1 now -max-growth 1MiB", 0),
                             ("tm check 1 now -max-growth 1KiB", 1)):
            status, text = batch(*common, line, arguments=[self.executable])
            self.assertEqual(status, wanted, f"{line}: {text}")
            self.assertNotRegex(text, rf"[\x1b\r]|{BUG}")


if __name__ == "__main__":
    unittest.main()
