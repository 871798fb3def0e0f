"""`tm unload` leaves nothing: no mapping, no registration, no symbol file; or it refuses.

May use gdbsession.
"""
import re
import time
import unittest

from gdbsession import FULL, TestCase, build, executable_pages_differ

CYCLES = 1000 if FULL else 50
UNLOADED = r"\AHelper unloaded: [\d.]+ (KiB|MiB|B) given back\.\Z"
STANDS = (r"^Thread \d+ (stands in the helper, or will come back to it|is throwing an exception "
          r"at this moment|is in the allocator at this moment): let the program run on a little, "
          r"and try again\.$")

CYCLE = """
import gdb, os, signal, threading, time
pid = gdb.selected_inferior().pid
refused = 0

def run_on(seconds):
    timer = threading.Timer(seconds, os.kill, (pid, signal.SIGINT))
    timer.start()
    gdb.execute("continue", to_string=True)
    timer.join()

def count():
    with open("/proc/%%d/maps" %% pid) as maps:
        return sum(1 for line in maps)

def insist(line):
    global refused
    for attempt in range(100):
        try:
            gdb.execute(line, to_string=True)
            return
        except gdb.error as error:
            if "let the program run on a little" not in str(error):
                raise
            refused += 1
            run_on(0.002)
    raise gdb.GdbError("refused for ever: " + line)

for cycle in range(%d):
    insist("tm start 5")
    run_on(0.01)
    gdb.execute("tm stop", to_string=True)
    insist("tm unload")
    if cycle in (4, %d):
        print("mappings", count())
print("refused", refused)
"""


class Unload(TestCase):
    def setUp(self):
        self.process = self.program(build("unload.cc"))
        self.process.wait_for("ready")
        self.gdb = self.session()

    def finish(self):
        self.gdb.run("detach")
        self.process.process.stdin.close()
        self.assertEqual(self.process.finish(), (0, "ready\n0 wrong, many rounds\n"))

    def mappings(self):
        with open(f"/proc/{self.process.pid}/maps") as maps:
            return maps.read()

    def unload(self):
        """Unloads; where a thread stands in the helper, after letting it run on so many times."""
        for attempt in range(200):
            text = self.gdb.run("tm unload")
            if re.match(UNLOADED, text):
                return attempt
            self.assertOneLine(text, STANDS)
            self.gdb.run_until_interrupted(self.process, 0.005)
        self.fail("never unloaded")

    def start(self, frames):
        """Starts; where a thread is in the allocator and libgcc needs it, a little later."""
        for attempt in range(200):
            text = self.gdb.run(f"tm start {frames}")
            if not re.match(STANDS, text):
                break
            self.gdb.run_until_interrupted(self.process, 0.005)
        self.assertStarted(text, frames)

    def test_nothing_is_left(self):
        self.gdb.attach(self.process)
        before = self.mappings()
        symbol_files = self.gdb.run("info files").count("tm-helper.so")
        self.assertEqual(symbol_files, 0)
        self.start(5)
        self.assertIn("tm-helper.so", self.gdb.run("info files"))
        self.assertOneLine(self.gdb.run("tm unload"), r'^Tracing is on: "tm stop" comes first\.$')
        self.gdb.run("tm stop")
        ran_on = self.unload()
        self.assertNotIn("tm-helper.so", self.gdb.run("info files"))
        self.assertEqual(self.gdb.json("tm status -json")["helper_memory"], 0)
        self.assertEqual(self.gdb.run("tm unload"),
                         "There is no helper in the process: nothing to unload.")
        self.assertEqual(executable_pages_differ(self.process.pid), [])
        if not ran_on:  # else the program's own arenas may have grown
            self.assertEqual(len(before.splitlines()), len(self.mappings().splitlines()))
        self.finish()

    def test_over_and_over(self):
        self.gdb.attach(self.process)
        text = self.gdb.python(CYCLE % (CYCLES, CYCLES - 1), timeout=200 + CYCLES * 3)
        counts = [int(count) for count in re.findall(r"mappings (\d+)", text)]
        self.assertEqual(len(counts), 2, text)
        # Arenas of the program's own allocator may split a mapping.
        self.assertLessEqual(counts[1], counts[0] + 2, text)
        self.assertEqual(executable_pages_differ(self.process.pid), [])
        self.finish()

    def test_after_exceptions(self):
        """libgcc has sorted our unwind tables by then; it must forget them all the same."""
        self.gdb.attach(self.process)
        self.start(5)
        self.gdb.run_until_interrupted(self.process, 0.3)
        self.gdb.run("tm stop")
        self.unload()
        self.gdb.run_until_interrupted(self.process, 0.3)
        self.start(3)
        self.gdb.run_until_interrupted(self.process, 0.3)
        self.gdb.run("tm stop")
        self.unload()
        self.gdb.run("continue&")
        time.sleep(0.2)
        self.gdb.run("interrupt")
        # Before gdb has seen the signal, detaching would leave it to the program.
        self.gdb.wait_until(lambda text: "received signal SIGINT" in text)
        self.finish()


class Refusals(TestCase):
    def setUp(self):
        self.gdb = self.session(build("altstack.c"))

    def test_no_process(self):
        self.assertEqual(self.gdb.run("tm unload"), 'There is no process for "tm unload".')

    def stopped_in(self, *places):
        self.gdb.run("break checkpoint")
        self.gdb.run("run")
        self.assertStarted(self.gdb.run("tm start 5"), 5)
        for place in places:
            self.gdb.run(f"break {place}")
            self.gdb.run("continue")
        self.gdb.run("delete")
        self.gdb.run("tm stop")

    def check(self):
        pid = self.gdb.inferior_pid()
        self.assertEqual(self.gdb.run("tm unload"),
                         f"Thread {pid} stands in the helper, or will come back to it: let the "
                         "program run on a little, and try again.")
        self.gdb.run("tbreak puts")
        self.gdb.run("continue")
        self.assertRegex(self.gdb.run("tm unload"), UNLOADED)
        self.assertIn("exited normally", self.gdb.run("continue"))

    def test_a_thread_stands_in_the_helper(self):
        self.stopped_in("tm_unwind")
        self.check()

    def test_a_thread_will_come_back(self):
        self.stopped_in("_int_malloc")
        self.check()

    def test_a_signal_handler_runs_over_it(self):
        """On a stack of its own, where only the signal frame leads back to the helper."""
        self.stopped_in("table_put_usual")
        self.gdb.run("break handler")
        self.assertAtBreakpoint(self.gdb.run("signal SIGUSR1"))
        self.check()


if __name__ == "__main__":
    unittest.main()
