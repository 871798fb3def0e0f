"""`tm watch`: the process runs, and every interval there is an exact snapshot of it.

In batch and in pipes it prints blocks; on a terminal it draws in place.  Whatever
stops the program ends it, and the program does not notice that it is watched.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest

from gdbsession import FULL, TestCase, batch, build
from tmux import GdbScreen

HEAD = (r"^\[ (After|after) \d+\.\d s(, stopped for \d+\.\d ms)?: \S+ \S+ (\([+-]\S+ \S+\) )?in "
        r"\d+ blocks?( \([+-]\d+\))? \]$")
ENDING = r"^Watched for \d+\.\d s: \d+ snapshots?(, stopped for .* ms each, .* ms at most)?\."
NO_BREAKPOINTS = r"^No breakpoints(,| or) watchpoints"
NOT_TRACED = r'^The process is not being traced: use "tm start" first\.$'
START = ("break many", "run 100000 5", "delete", "tm start 5")


def program():
    return build("live.c", flags="-O1 -g", folder="/src/tm")  # its length is seen on screens


class Blocks(TestCase):
    """Where there is no terminal."""

    def started(self, *arguments):
        gdb = self.session("--args", program(), *arguments)
        gdb.run("break many")
        gdb.run("run")
        gdb.run("delete")
        self.assertStarted(gdb.run("tm start 5"), 5)
        return gdb

    def test_a_block_every_interval(self):
        gdb = self.started("100000", "5")
        before = gdb.run("info breakpoints") + gdb.run("show print thread-events") \
            + gdb.run("show confirm") + gdb.run("show pagination")
        text = gdb.run("tm watch -count 3 -interval 0.1 -limit 2")
        self.assertNotIn("\x1b", text)
        lines = text.splitlines()
        self.assertEqual(len([line for line in lines if re.match(HEAD, line)]), 3, text)
        self.assertRegex(lines[0], r"^\[ After 0\.0 s: 0 B in 0 blocks \]$")
        self.assertRegex(text, r"(?m)^\S*live\.c:\d+: size=.* \([+-].*\), count=\d+ \([+-]\d+\), ")
        self.assertRegex(text, r"(?m)^\d+ other: size=")
        self.assertRegex(lines[-1], ENDING)
        self.assertEqual(before, gdb.run("info breakpoints") + gdb.run("show print thread-events")
                         + gdb.run("show confirm") + gdb.run("show pagination"))

    def test_documents(self):
        gdb = self.started("100000", "5")
        documents = [json.loads(line) for line in
                     gdb.run("tm watch -json -count 3 -interval 0.1 -limit 2").splitlines()]
        self.assertEqual([each["command"] for each in documents], ["watch"] * 3)
        for each in documents:
            self.assertEqual(each["total_size"], each["other"]["size"]
                             + sum(line["size"] for line in each["statistics"]))
        self.assertIsNone(documents[0]["stopped_ms"])
        self.assertGreater(documents[-1]["stopped_ms"], 0)
        # Nothing has run since: the last snapshot is what the process holds now.
        status = gdb.json("tm status -json")
        self.assertEqual((status["current"], status["blocks"]),
                         (documents[-1]["total_size"], documents[-1]["total_count"]))

    def test_timeline(self):
        gdb = self.started("100000", "5")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "over time.html")
            self.assertOneLine(gdb.run(f"tm timeline '{path}'"),
                               r'^Nothing was watched yet: use "tm watch" first\.$')
            documents = [json.loads(line) for line in
                         gdb.run("tm watch -json -count 3 -interval 0.1").splitlines()]
            self.assertOneLine(gdb.run(f"tm timeline '{path}'"),
                               rf"^Timeline of 3 snapshots written to {path} \(\S+ KiB\)\.$")
            text = path.read_text()
            data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
            self.assertEqual([each[1] for each in data["rounds"]],
                             [each["total_size"] for each in documents])
            self.assertOneLine(gdb.run("tm timeline /nowhere/x.html"), "^Cannot write /nowhere/")
            self.assertEqual(gdb.json(f"tm timeline -json '{path}'")["snapshots"], 3)

    def test_keys(self):
        gdb = self.started("100000", "5")
        self.assertRegex(gdb.run("tm watch -count 2 -interval 0.1 -limit 1 function"),
                         r"(?m)^(fill|many|grow) \(.*live\.c\): size=")
        self.assertRegex(gdb.run("tm watch -count 2 -interval 0.1 traceback"),
                         r"(?m)^\S*live\.c:\d+ < \S*live\.c:\d+ < ")

    def test_a_breakpoint_ends_it(self):
        gdb = self.started("100000", "5")
        gdb.run("break round_done if number == 40")
        text = gdb.run("tm watch -interval 0.1 -limit 1")
        self.assertRegex(text, r"(?m)^Breakpoint \d+, round_done \(number=number@entry=40\)")
        self.assertRegex(text.splitlines()[-1], ENDING + "  Ended where the program stopped.$")
        self.assertEqual(gdb.evaluate("number"), 40)

    def test_the_end_of_the_process_ends_it(self):
        gdb = self.started("20", "5")
        text = gdb.run("tm watch -interval 0.1")
        self.assertRegex(text, r"(?m)^\[Inferior 1 \(process \d+\) exited normally\]$")
        self.assertRegex(text.splitlines()[-1], ENDING + "  Ended with the process.$")
        self.assertRegex(gdb.run("info breakpoints"), NO_BREAKPOINTS)

    def watch_until(self, gdb, line, blocks):
        """Lets it go on for some blocks."""
        gdb.send(line)
        gdb.wait_until(lambda text: text.count("[ After") >= blocks)

    def test_an_interrupt_ends_it(self):
        gdb = self.started("100000", "5")
        pid = gdb.inferior_pid()
        self.watch_until(gdb, "tm watch -interval 0.1 -limit 1", 3)
        os.kill(pid, signal.SIGINT)
        text = gdb.wait()
        self.assertIn("Program received signal SIGINT, Interrupt.", text)
        self.assertRegex(text.splitlines()[-1], ENDING + "$")
        self.assertRegex(gdb.run("tm snapshot"), r"\ASnapshot 1: ")

    def interrupted_everywhere(self, gdb, arguments):
        gdb.run("set print thread-events on")
        gdb.run("set confirm on")
        return gdb.python(
            "import sys\n"
            f"sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})\n"
            "import interrupting\n"
            f"interrupting.interrupt_everywhere({arguments})")

    def test_an_interrupt_at_any_moment_leaves_nothing_over(self):
        gdb = self.started("100000", "5")
        text = self.interrupted_everywhere(
            gdb, "'tm watch -count 1', 'slices', '_prepare', '_undo_all', '_delete'")
        self.assertRegex(text, r"\Ainterrupted at [2-9]\d lines$")
        self.assertRegex(gdb.run("tm snapshot"), r"\ASnapshot 1: ")

    def test_an_interrupt_of_the_work_meanwhile(self):
        gdb = self.started("100000", "5")
        text = self.interrupted_everywhere(gdb, "'tm watch -count 2 -interval 0.1', 'do_work'")
        self.assertRegex(text, r"interrupted at \d+ lines$")
        self.assertRegex(gdb.run("tm snapshot"), r"\ASnapshot 1: ")

    def test_signals_of_others_do_not_end_it(self):
        gdb = self.started("100000", "5")
        pid = gdb.inferior_pid()
        self.watch_until(gdb, "tm watch -interval 0.1 -limit 1 -count 7", 2)
        for _ in range(4):
            os.kill(pid, signal.SIGURG)
            time.sleep(0.02)
        text = gdb.wait()
        self.assertNotIn("SIGURG", text)
        seconds = re.findall(r"\[ After (\S+) s", text)
        self.assertEqual(len(seconds), 7, text)
        self.assertGreaterEqual(float(seconds[-1]), 0.6, "a snapshot before its time")

    def test_a_signal_that_stops_ends_it(self):
        gdb = self.started("100000", "5")
        pid = gdb.inferior_pid()
        self.watch_until(gdb, "tm watch -interval 0.1 -limit 1", 2)
        os.kill(pid, signal.SIGUSR1)
        text = gdb.wait()
        self.assertIn("Program received signal SIGUSR1", text)
        self.assertRegex(text.splitlines()[-1], "Ended where the program stopped.$")

    def test_the_program_does_not_notice(self):
        """Its epoll_wait returns no EINTR, and its timeouts come in spite of many stops."""
        gdb = self.started("5", "300", "epoll")
        text = gdb.run("tm watch -interval 0.1 -limit 1")
        self.assertIn("exited normally", text)
        self.assertIn("5 rounds, 0 interrupted", text)
        self.assertGreater(text.count("[ After"), 1)

    def test_an_exec_ends_it(self):
        script = ("import os; print('ready', flush=True); input();"
                  "os.execv('/bin/sleep', ['sleep', '100'])")
        process = self.program("/usr/bin/python3", "-c", script)
        process.wait_for("ready")
        gdb = self.session()
        gdb.attach(process)
        self.assertStarted(gdb.run("tm start 5"), 5)
        self.watch_until(gdb, "tm watch -interval 0.2 -limit 1", 2)
        process.write("\n")
        text = gdb.wait()
        self.assertRegex(text, r"(?m)^Process \d+ is now .*/sleep: its traces are gone")
        self.assertRegex(text.splitlines()[-1], NOT_TRACED)
        self.assertRegex(gdb.run("info breakpoints"), NO_BREAKPOINTS)

    def test_refusals(self):
        gdb = self.session(program())
        self.assertOneLine(gdb.run("tm watch"), r"^There is no process .*\.$")
        for line, wanted in (("-interval 0", r"^-interval must be a number of seconds from 0.1 to "
                              r"86400, not 0\.$"), ("-interval x", "seconds"),
                             ("-count 0", "from 1 on"), ("size 3", "Unexpected"),
                             ("-interval", "needs a value")):
            self.assertOneLine(gdb.run("tm watch " + line), wanted)
        gdb.run("set non-stop on")
        gdb.run("break many")
        gdb.run("run 100000 5")
        self.assertStarted(gdb.run("tm start"), 1)
        self.assertOneLine(gdb.run("tm watch"), r"^In non-stop mode .*\.$")

    def test_a_core(self):
        gdb = self.started("100000", "5")
        with tempfile.TemporaryDirectory() as folder:
            core = pathlib.Path(folder, "core")
            gdb.run(f"generate-core-file {core}")
            gdb = self.session(program(), core)
            self.assertOneLine(gdb.run("tm watch"), r'^This is a core file: "tm watch" needs a ')
            self.assertRegex(gdb.run("tm status").splitlines()[0], r" since \S+ \d\d:\d\d:\d\d\.$")

    def test_signals_that_cannot_be_used(self):
        """Handled or blocked ones are the program's own."""
        script = ("import signal, time;"
                  "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG, signal.SIGCHLD]);"
                  "signal.signal(signal.SIGWINCH, lambda *each: None);"
                  "print('ready', flush=True); time.sleep(100)")
        process = self.program("/usr/bin/python3", "-c", script)
        process.wait_for("ready")
        gdb = self.session()
        gdb.attach(process)
        self.assertStarted(gdb.run("tm start"), 1)
        self.assertOneLine(gdb.run("tm watch"),
                           r"handles or blocks every signal .*\(SIGURG, SIGWINCH, SIGCHLD\)\.$")

    def test_in_batch(self):
        status, text = batch(*START, "tm watch -count 2 -interval 0.1", "kill",
                             arguments=[program()])
        self.assertEqual(status, 0, text)
        self.assertEqual(len(re.findall("(?m)" + HEAD, text)), 2, text)
        self.assertNotIn("\x1b", text)
        self.assertNotIn("SIGURG", text)

    def test_under_gdbserver(self):
        server = subprocess.Popen(["gdbserver", "--once", "127.0.0.1:0", program(), "100000", "5"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True)
        self.addCleanup(server.stderr.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        found = (re.search(r"Listening on port (\d+)", line) for line in server.stderr)
        port = next(match.group(1) for match in found if match)
        gdb = self.session(program())
        for line in (f"target remote 127.0.0.1:{port}", "break many", "continue", "delete"):
            gdb.run(line)
        self.assertStarted(gdb.run("tm start 5"), 5)
        text = gdb.run("tm watch -count 3 -interval 0.1 -limit 1")
        self.assertEqual(len(re.findall("(?m)" + HEAD, text)), 3, text)
        self.assertNotIn("SIGINT", text)
        gdb.run("break round_done if number > 50")
        text = gdb.run("tm watch -interval 0.2 -limit 1")
        self.assertRegex(text.splitlines()[-1], "Ended where the program stopped.$")
        gdb.run("kill")


class OnTerminal(TestCase):
    def screen(self, columns, rows=24, **options):
        return self.enterContext(GdbScreen(
            "break many", "run", "delete", "tm start 5",
            program=["--args", program(), "100000", "5"], columns=columns, rows=rows, **options))

    def check_table(self, text, columns):
        """One table, in its place, that fits."""
        lines = text.splitlines()
        self.assertEqual(len(re.findall("(?m)^After ", text)), 1, text)
        self.assertEqual(text.count("Ctrl-C ends the watch"), 1, text)
        self.assertLessEqual(max(map(len, lines)), columns)
        self.assertRegex(text, r"(?m)^[▁▂▃▄▅▆▇█]{2,}  \S+ \S+ – \S+ \S+$")
        self.assertRegex(text, r"(?m)^\+ +\d\S* [KM]iB  \+\S+ [KM]?i?B .*live\.c:66$")

    def test_widths_resizing_and_interrupt(self):
        screen = self.screen(60)
        screen.line("tm watch -interval 0.1 -limit 4")
        self.check_table(screen.wait_for(r"(?s)^After .*, stopped for \d.*^\+ .*66$"), 60)
        for columns in (200, 80) if FULL else (200,):
            before = screen.text()
            screen.resize(columns, 24)
            screen.wait_for(r"^After (?!%s)" % re.search(r"After (\S+) s", before).group(1))
            self.check_table(screen.wait_for(r"█ +\S*live\.c:66$|█ .*% /\S*live\.c:66$"
                                             if columns > 100 else "live.c:66$"), columns)
        screen.press("C-c")
        text = screen.wait_for(r"^Watched for .*\n(.*\n)*\(gdb\)$")
        self.assertIn("Program received signal SIGINT", text)
        after = text[text.index("Ctrl-C ends the watch"):]
        self.assertRegex(after, r"(?s)\d other\n.*received signal SIGINT.*\nWatched for ")
        # RET does not do it again.
        screen.press("Enter")
        screen.line("echo still here\\n")
        text = screen.wait_for("^still here$")
        self.assertEqual(text.count("Watched for"), 1)

    def test_no_colour(self):
        screen = self.screen(80, environment={"NO_COLOR": "1"}.items())
        screen.line("tm watch -interval 0.1 -limit 4 -count 4")
        screen.wait_for("^Watched for ")
        text = screen.text(styled=True)
        self.assertNotIn("\x1b", text[text.index("tm watch"):])


if __name__ == "__main__":
    unittest.main()
