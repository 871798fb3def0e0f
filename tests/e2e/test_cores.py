"""A core tells what the live process told: every report, the same to the letter.

May use gdbsession.  Must never change the machine: where the kernel does not
write plain core files, the test of its cores is skipped.
"""
import os
import resource
import tempfile
import unittest

from gdbsession import FULL, TestCase, build

KEYS = ("lineno", "filename", "traceback", "function", "module", "size", "domain")
THREADS, BLOCKS = 3, 400


def kernel_writes_plain_files():
    """Why the kernel's own cores cannot be tested here, or ''."""
    with open("/proc/sys/kernel/core_pattern") as file:
        pattern = file.read().strip()
    if not pattern or pattern[0] in "|/" or "%" in pattern:
        return f"the kernel's core_pattern is {pattern!r}, which is the whole machine's"
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        return "core files are forbidden here (ulimit -Hc is 0)"
    return ""


class Cores(TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix="tm-core-"))
        self.program_path = build("cores.c")

    def launch(self, *commands):
        gdb = self.session(self.program_path, settings=[f"set cwd {self.folder}"])
        gdb.run("break checkpoint")
        for command in commands:
            gdb.run(command)
        gdb.run("run")
        return gdb

    def gcore(self, gdb):
        core = os.path.join(self.folder, "gcore.core")
        self.assertIn("Saved corefile", gdb.run(f"gcore {core}"))
        return core

    def die(self, gdb):
        """Kills the process where it stands, and returns the core that the kernel wrote."""
        why = kernel_writes_plain_files()
        if why:
            self.skipTest(why)
        gdb.python("import resource\n"
                   "hard = resource.prlimit(gdb.selected_inferior().pid, resource.RLIMIT_CORE)[1]\n"
                   "resource.prlimit(gdb.selected_inferior().pid, resource.RLIMIT_CORE,"
                   " (hard, hard))")
        self.assertIn("Program terminated with signal SIGABRT", gdb.run("signal SIGABRT"))
        cores = [name for name in os.listdir(self.folder) if name.startswith("core")]
        self.assertEqual(len(cores), 1, cores)
        return os.path.join(self.folder, cores[0])

    def addresses(self, gdb):
        text = gdb.python(f"for i in range({THREADS}):\n"
                          f"    for j in range({BLOCKS}):\n"
                          "        print(int(gdb.parse_and_eval('(long) kept[%d][%d]' % (i, j))))")
        return [int(line) + place % 9 for place, line in enumerate(text.split())]

    def reports(self, gdb, addresses):
        """Everything there is to say, as JSON and as text."""
        told = {key: gdb.json(f"tm top {key} -json -limit unlimited") for key in KEYS}
        told["cumulative"] = gdb.json("tm top function -cumulative -json -limit 0")
        told["traces"] = gdb.json("tm traces -json -limit unlimited")
        told["text"] = gdb.run("tm top -source")
        told["status"] = gdb.json("tm status -json")
        for address in addresses:
            told[address] = gdb.json(f"tm traceback {address:#x} -json")
        told["shown"] = gdb.run("tm traceback kept[0][1]")
        return told

    def assertSame(self, live, dead):
        self.assertEqual(live.keys(), dead.keys())
        for key in live:
            self.assertEqual(live[key], dead[key], key)

    def check_core(self, core, live, addresses):
        gdb = self.session(self.program_path, core)
        self.assertSame(live, self.reports(gdb, addresses))
        self.assertOneLine(gdb.run("tm start"), r"^This is a core file: ")
        self.assertOneLine(gdb.run("tm stop"), r"^This is a core file: ")
        self.assertOneLine(gdb.run("tm clear"), r"^This is a core file: ")
        self.assertRegex(gdb.run("tm snapshot first"), r"\ASnapshot first: \d+ blocks, .*\Z")
        self.assertRegex(gdb.run("tm snapshots"), r"core\Z")
        self.assertEqual(gdb.json("tm diff first now -json")["statistics"][0]["size_diff"], 0)
        file = os.path.join(self.folder, "first.tm")
        self.assertRegex(gdb.run(f"tm dump {file}"), r"\ASnapshot first written to ")
        return file

    def test_gcore_and_the_kernel(self):
        gdb = self.launch("tm start 10")
        addresses = self.addresses(gdb)
        self.assertGreaterEqual(len(addresses), 1000)
        live = self.reports(gdb, addresses)
        self.assertEqual(sum(1 for address in addresses if live[address]["block"]),
                         THREADS * BLOCKS - BLOCKS // 10)
        self.assertEqual(gdb.json("tm snapshot -json")["tracebacks"],
                         live["status"]["tracebacks"])
        first = self.check_core(self.gcore(gdb), live, addresses)
        os.rename(first, first + ".gcore")
        fewer = addresses if FULL else addresses[::10]
        for address in set(addresses) - set(fewer):
            del live[address]
        self.check_core(self.die(gdb), live, fewer)

    def test_without_the_program_s_file(self):
        gdb = self.launch("tm start 10")
        live = gdb.json("tm top traceback -json -limit 0")
        dead = self.session("-c", self.gcore(gdb))
        self.assertEqual(dead.json("tm top traceback -json -limit 0"), live)

    def inside(self, place):
        """A process that is stopped in the main thread's next allocation, at a place in it."""
        gdb = self.launch("tm start 10")
        self.assertRegex(gdb.run(f"break {place}"), r"\ABreakpoint ")
        text = gdb.run("continue")
        self.assertAtBreakpoint(text)
        for step in range(7):
            gdb.run("stepi")
        return gdb

    def check_death_inside(self, place):
        gdb = self.inside(place)
        addresses = self.addresses(gdb)[::20]
        live = self.reports(gdb, addresses)
        self.check_core(self.gcore(gdb), live, addresses)
        self.check_core(self.die(gdb), live, addresses)

    def test_death_inside_the_helper(self):
        self.check_death_inside("tm_unwind")

    def test_death_inside_the_table(self):
        self.check_death_inside("table_put_usual")

    def test_death_inside_malloc(self):
        self.check_death_inside("_int_malloc")


class CoresWithoutTable(TestCase):
    def core_of(self, *commands):
        folder = self.enterContext(tempfile.TemporaryDirectory(prefix="tm-core-"))
        core = os.path.join(folder, "core")
        gdb = self.session(build("cores.c"))
        gdb.run("break checkpoint")
        gdb.run("run")
        for command in commands:
            gdb.run(command)
        gdb.run(f"gcore {core}")
        gdb.close()
        return self.session(build("cores.c"), core)

    def check(self, gdb, why):
        for command in ("tm top", "tm snapshot", "tm traceback 0x1000", "tm traces"):
            self.assertEqual(gdb.run(command), f"This core has no trace table: {why}.")
        self.assertFalse(gdb.json("tm status -json")["tracing"])

    def test_never_traced(self):
        self.check(self.core_of(), "the process was not being traced, or the core was written "
                   "without its anonymous memory")

    def test_stopped(self):
        self.check(self.core_of("tm start", "tm stop"),
                   "tracing had been stopped when it was written")

    def test_table_left_out(self):
        """coredump_filter (core(5)) 0x10: the first pages of files alone."""
        gdb = self.core_of(
            "tm start", "python open('/proc/%d/coredump_filter' % gdb.selected_inferior().pid,"
            " 'w').write('0x10')")
        self.check(gdb, "the process was not being traced, or the core was written without its "
                   "anonymous memory")


if __name__ == "__main__":
    unittest.main()
