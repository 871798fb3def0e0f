"""Wrong usage: one clear line each, and nothing changed, in the process or in gdb."""
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from gdbsession import (BUILD, LIMIT, PLUGIN, PROGRAMS, ROOT, TestCase, batch, build,
                        executable_pages_differ)

SETTINGS = ("scheduler-locking", "unwindonsignal", "print thread-events", "confirm", "pagination")


class WithoutProcess(TestCase):
    def test_each_command_says_that_there_is_no_process(self):
        gdb = self.session()
        for line in ("tm stop", "tm clear", "tm reset-peak", "tm snapshot", "tm traceback 1"):
            with self.subTest(line=line):
                self.assertOneLine(gdb.run(line), r"(?i)\bno\b.*(process|snapshot|tracing)")

    def test_top_needs_a_process_or_a_snapshot(self):
        self.assertOneLine(self.session().run("tm top"), r"(?i)\bno\b.*(process|snapshot)")

    def test_batch_fails_with_the_same_line(self):
        status, output = batch("tm snapshot")
        self.assertNotEqual(status, 0)
        self.assertOneLine(output.strip(), r"(?i)\bno\b.*process")

    def test_unknown_subcommand_names_the_nearest(self):
        self.assertOneLine(self.session().run("tm snapshto"), r"snapshot")


class WithProcess(TestCase):
    """Every refusal leaves the process untouched: its bytes, its answers, and gdb's settings."""

    def setUp(self):
        self.process = self.program(build("misuse.c"))
        self.process.wait_for("ready")
        self.gdb = self.session()
        self.gdb.attach(self.process)

    def settings(self):
        return [self.gdb.run(f"show {name}") for name in SETTINGS] \
            + [self.gdb.run("frame"), self.gdb.run("info breakpoints")]

    def refused(self, line, pattern):
        """LINE is refused with one line that PATTERN matches, and changes nothing."""
        before = self.settings()
        bytes_before = executable_pages_differ(self.process.pid)
        with open(f"/proc/{self.process.pid}/maps") as maps:
            maps_before = maps.read()
        text = self.gdb.run(line)
        self.assertOneLine(text, pattern)
        self.assertEqual(self.settings(), before)
        self.assertEqual(executable_pages_differ(self.process.pid), bytes_before)
        with open(f"/proc/{self.process.pid}/maps") as maps:
            self.assertEqual(maps.read(), maps_before)
        return text

    def finish(self):
        """The program goes on and ends as if nobody had been there."""
        self.gdb.run("detach")
        self.process.write("a\n")
        self.process.process.stdin.close()
        status, output = self.process.finish()
        self.assertEqual((status, output), (0, "ready\nline\nline\n1 lines\n"))

    def test_number_of_frames(self):
        for frames in ("0", "-1", "2147483648", "1001"):
            with self.subTest(frames=frames):
                self.refused(f"tm start {frames}", r"(?i)frames?.*\b1\b.*\b1000\b")
        self.refused("tm start nonsense", r"nonsense")
        self.finish()

    def test_already_tracing(self):
        self.assertStarted(self.gdb.run("tm start 7"), 7)
        self.refused("tm start 9", r"(?i)already tracing.*\b7\b")
        self.gdb.run("tm stop")
        self.assertEqual(executable_pages_differ(self.process.pid), [])
        self.finish()

    def test_not_tracing(self):
        for line in ("tm stop", "tm clear", "tm reset-peak", "tm snapshot", "tm top"):
            with self.subTest(line=line):
                self.refused(line, r"(?i)not tracing|tm start")
        self.finish()

    def test_unknown_key_type(self):
        self.gdb.run("tm start")
        self.refused("tm top nonsense", r"nonsense")
        self.finish()

    def test_snapshots_that_are_not_there(self):
        self.gdb.run("tm start")
        self.refused("tm diff 1 7", r"(?i)no snapshot.*\b1\b")
        self.assertRegex(self.gdb.run("tm snapshot"), r"\ASnapshot 1: ")
        self.refused("tm diff 1 7", r"(?i)no snapshot.*\b7\b")
        self.refused("tm delete 7", r"(?i)no snapshot.*\b7\b")
        self.finish()

    def test_traceback_of_what_is_not_traced(self):
        self.gdb.run("tm start")
        self.assertEqual(self.gdb.run("tm traceback 0"),
                         "0x0: not traced (allocated before tracing started, freed, or not a "
                         "heap address).")
        self.refused("tm traceback no_such_symbol", r"no_such_symbol")
        self.refused("tm traceback", r"(?i)address|argument|expression")
        self.finish()

    def test_process_running_in_the_background(self):
        self.gdb.run("continue &")
        for line in ("tm start", "tm start 10", "tm stop"):
            with self.subTest(line=line):
                self.assertOneLine(self.gdb.run(line), r"(?i)running.*(interrupt|stop)")
        self.gdb.run("interrupt")
        end = time.monotonic() + LIMIT
        while executable_pages_differ(self.process.pid):
            # gdb takes its own breakpoints out when it sees the stop.
            self.assertLess(time.monotonic(), end, self.gdb.run("info threads"))
            self.gdb.run("echo")
        self.finish()

    def second_instruction(self, function):
        """Address of the second instruction of the bytes that a jump would replace."""
        addresses = [int(match, 16) for match in re.findall(
            r"^\s*(0x[0-9a-f]+)", self.gdb.run(f"x/3i {function}"), re.MULTILINE)]
        first_word = self.gdb.evaluate(f"*(unsigned int *){addresses[0]}")
        return addresses[2] if first_word == 0xfa1e0ff3 else addresses[1]  # endbr64 stays

    def test_breakpoint_inside_the_patched_bytes(self):
        address = self.second_instruction("malloc")
        number = re.match(r"Breakpoint (\d+)", self.gdb.run(f"break *{address}"))[1]
        self.refused("tm start", rf"(?i)breakpoint {number}\b")
        self.gdb.run(f"delete {number}")
        self.assertStarted(self.gdb.run("tm start 1"), 1)
        self.finish()

    def test_breakpoint_at_the_entry_is_fine(self):
        self.gdb.run("break *malloc")
        self.assertStarted(self.gdb.run("tm start 1"), 1)
        self.gdb.send("continue")
        self.process.write("a\n")
        self.assertAtBreakpoint(self.gdb.wait())
        self.gdb.run("delete")
        self.gdb.run("tm stop")
        self.gdb.run("detach")
        self.process.process.stdin.close()
        self.assertEqual(self.process.finish()[0], 0)


class BrokenInstallation(TestCase):
    def test_helper_file_missing(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        shutil.copytree(ROOT / "gdb-plugin", folder / "gdb-plugin")
        (folder / "build").mkdir()
        shutil.copy(BUILD / "_tm.abi3.so", folder / "build")
        process = self.program(build("misuse.c"))
        process.wait_for("ready")
        gdb = self.session(plugin=False)
        gdb.run(f"source {folder / 'gdb-plugin' / PLUGIN.name}")
        gdb.attach(process)
        self.assertOneLine(gdb.run("tm start"), r"tm-helper\.so")
        self.assertEqual(executable_pages_differ(process.pid), [])
        gdb.run("detach")
        process.process.stdin.close()
        self.assertEqual(process.finish(), (0, "ready\n0 lines\n"))

    def test_extension_module_missing(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        shutil.copytree(ROOT / "gdb-plugin", folder / "gdb-plugin")
        gdb = self.session(plugin=False)
        text = gdb.run(f"source {folder / 'gdb-plugin' / PLUGIN.name}")
        self.assertOneLine(text, r"_tm\.abi3\.so|make")


class OtherArchitecture(TestCase):
    SOURCE = "\t.globl _start\n_start:\n\tmovl $29, %eax\n\tint $0x80\n\tjmp _start\n"

    def test_32_bit_program(self):
        PROGRAMS.mkdir(parents=True, exist_ok=True)
        source, binary = PROGRAMS / "i386.S", PROGRAMS / "i386"
        source.write_text(self.SOURCE)
        subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-o", binary, source], check=True)
        try:
            process = self.program(binary)
        except OSError:
            self.skipTest("this kernel runs no 32-bit programs")
        gdb = self.session()
        gdb.attach(process)
        before = gdb.run("info registers")
        self.assertOneLine(gdb.run("tm start"), r"(?i)x86-64")
        self.assertEqual(gdb.run("info registers"), before)


if __name__ == "__main__":
    unittest.main()
