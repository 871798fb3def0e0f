"""The same program however it was linked: dynamic or static, glibc or musl, stripped."""
import re
import subprocess
import unittest

from gdbsession import TestCase, build, executable_pages_differ

BLOCKS, SIZE = 50, 100


class Linkage(TestCase):
    def check(self, name, flags, compiler="gcc"):
        binary = build("linkage.c", name=f"linkage-{name}", flags=flags, compiler=compiler)
        gdb = self.session(binary)
        gdb.run("break checkpoint")
        self.assertAtBreakpoint(gdb.run("run >/dev/null"))
        self.assertStarted(gdb.run("tm start 10"), 10)
        self.assertAtBreakpoint(gdb.run("continue"))
        top = gdb.json("tm top lineno -json")
        self.assertEqual([(each["size"], each["count"]) for each in top["statistics"]
                          if (each["filename"] or "").endswith("linkage.c")],
                         [(BLOCKS * SIZE, BLOCKS)])
        self.assertNotIn("\n", gdb.run("tm stop"))
        self.assertEqual(executable_pages_differ(gdb.inferior_pid()), [])
        self.assertIn("exited normally", gdb.run("continue"))

    def test_position_independent(self):
        self.check("pie", "-O2 -g")

    def test_position_dependent(self):
        self.check("no-pie", "-O2 -g -no-pie")

    def test_static(self):
        self.check("static", "-O2 -g -static")

    def test_static_position_independent(self):
        self.check("static-pie", "-O2 -g -static-pie")

    def test_bound_at_start(self):
        self.check("now", "-O2 -g -Wl,-z,now -fno-plt")

    def test_with_frame_pointers_and_without_optimization(self):
        self.check("o0", "-O0 -g -fno-omit-frame-pointer")

    def test_musl(self):
        self.check("musl", "-O2 -g", compiler="musl-gcc")

    def test_musl_static(self):
        self.check("musl-static", "-O2 -g -static", compiler="musl-gcc")

    def test_stripped(self):
        binary = build("linkage.c", name="linkage-stripped", flags="-O2")
        subprocess.run(["strip", binary], check=True)
        gdb = self.session(binary)
        gdb.run("break puts")
        gdb.run("starti >/dev/null")
        entry = int(re.search(r"Entry point: (0x\w+)", gdb.run("info files"))[1], 16)
        gdb.run(f"tbreak *{entry}")
        gdb.run("continue")
        self.assertStarted(gdb.run("tm start 10"), 10)
        self.assertAtBreakpoint(gdb.run("continue"))
        top = gdb.json("tm top module -json")
        self.assertEqual([(each["size"], each["count"]) for each in top["statistics"]
                          if each["module"].endswith("linkage-stripped")],
                         [(BLOCKS * SIZE, BLOCKS)])
        gdb.run("tm stop")
        self.assertIn("exited normally", gdb.run("continue"))


if __name__ == "__main__":
    unittest.main()
