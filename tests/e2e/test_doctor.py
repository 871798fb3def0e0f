"""`tm doctor` finds what would make `tm start` fail, names the remedy, and changes nothing.

May use gdbsession.
"""
import resource
import subprocess
import unittest

from gdbsession import PROGRAMS, ROOT, TestCase, build, executable_pages_differ

CHECKS = ["gdb", "extension", "helper", "process", "architecture", "stopped", "memory map",
          "caller", "allocators", "redirection", "breakpoints", "memory limit", "kernel",
          "symbols", "tracing"]


class Doctor(TestCase):
    def setUp(self):
        self.process = self.program(build("misuse.c"))
        self.process.wait_for("ready")
        self.gdb = self.session()

    def maps(self):
        with open(f"/proc/{self.process.pid}/maps") as maps:
            return maps.read()

    def examine(self, gdb=None):
        """The checks by name, and that the text says the same as the document."""
        gdb = gdb or self.gdb
        document = gdb.json("tm doctor -json")
        checks = {check["check"]: check for check in document["checks"]}
        self.assertEqual(document["problems"],
                         sum(check["result"] == "problem" for check in checks.values()))
        lines = gdb.run("tm doctor").splitlines()
        self.assertEqual(len(lines), len(checks) + 1)
        for line, (name, check) in zip(lines, checks.items()):
            self.assertRegex(line, rf"^{check['result']} +{name} ")
            self.assertIn(check["text"], line)
            self.assertIn(check["remedy"] or "", line)
            if check["result"] == "problem":
                self.assertTrue(check["remedy"] or ":" in check["text"], f"no remedy: {line}")
        return checks

    def problems(self, gdb=None):
        return {name: f"{check['text']}: {check['remedy']}"
                for name, check in self.examine(gdb).items() if check["result"] == "problem"}

    def test_all_is_well(self):
        self.gdb.attach(self.process)
        before = self.maps(), self.gdb.run("info registers"), self.gdb.run("info breakpoints")
        checks = self.examine()
        self.assertEqual(list(checks), CHECKS)
        self.assertEqual({check["result"] for check in checks.values()}, {"ok"})
        self.assertEqual(self.gdb.run("tm doctor").splitlines()[-1],
                         'Nothing stands in the way of "tm start".')
        self.assertEqual((self.maps(), self.gdb.run("info registers"),
                          self.gdb.run("info breakpoints")), before)
        self.assertEqual(executable_pages_differ(self.process.pid), [])
        promised = checks["redirection"]["text"].split()[0]
        self.assertIn(f": {promised} functions in ", self.gdb.run("tm start"))
        self.assertEqual(self.examine()["tracing"]["result"], "note")
        self.assertEqual(self.gdb.run("tm doctor").splitlines()[-1], "Tracing is on.")
        self.gdb.run("tm stop")
        self.assertIn("will be used again", self.examine()["tracing"]["text"])
        self.assertEqual(self.problems(), {})

    def test_no_process(self):
        self.assertEqual(self.problems(), {"process": "there is none: `run` the program, or "
                                           "`attach` to a process"})

    def test_core(self):
        self.gdb.attach(self.process)
        core = PROGRAMS / f"doctor.{self.process.pid}.core"
        self.addCleanup(core.unlink)
        self.gdb.run(f"gcore {core}")
        self.assertEqual(list(self.problems(self.session(build("misuse.c"), core))), ["process"])

    def test_a_thread_is_running(self):
        self.gdb.attach(self.process)
        self.gdb.run("continue&")
        self.assertEqual(self.problems(), {"stopped": "1 thread of 1 running: stop them with "
                                           "`interrupt -a` or Ctrl-C"})

    def test_breakpoint_inside_what_must_change(self):
        self.gdb.attach(self.process)
        place = self.gdb.evaluate("(unsigned long)&calloc") + 2
        self.gdb.run(f"break *{place:#x}")
        problems = self.problems()
        self.assertEqual(list(problems), ["breakpoints"])
        self.assertRegex(problems["breakpoints"], r"delete it \(`delete 1`\)")

    def test_address_space_is_used_up(self):
        self.gdb.attach(self.process)
        with open(f"/proc/{self.process.pid}/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        for more, result in ((1 << 20, "problem"), (100 << 20, "note"), (1 << 30, "ok")):
            limit = (used + more, resource.RLIM_INFINITY)
            resource.prlimit(self.process.pid, resource.RLIMIT_AS, limit)
            check = self.examine()["memory limit"]
            self.assertEqual(check["result"], result, check)
            self.assertEqual("prlimit --pid" in (check["remedy"] or ""), result != "ok")

    def test_no_debug_information(self):
        program = build("misuse.c", "misuse-stripped", "-O2 -s")
        self.gdb = self.session(program)
        self.gdb.run("starti")
        check = self.examine()["symbols"]
        self.assertEqual((check["result"], check["remedy"]),
                         ("note", "compile it with -g, or install its debug package, to see lines"))

    def test_no_allocator(self):
        source, program = PROGRAMS / "nothing.c", PROGRAMS / "nothing"
        source.write_text("void _start(void) { for (;;) __asm__ volatile(\"pause\"); }\n")
        subprocess.run(["gcc", "-nostdlib", "-static", "-o", program, source], cwd=ROOT, check=True)
        self.gdb = self.session(program)
        self.gdb.run("starti")
        problems = self.problems()
        self.assertEqual(list(problems), ["allocators"])
        self.assertIn("tm domain add", problems["allocators"])

    def test_a_function_that_cannot_be_redirected(self):
        """Too short for a jump, and other code directly behind it."""
        program = build("shortfree.c", flags="-O2 -g")
        self.gdb = self.session(program)
        self.gdb.run("break main")
        self.gdb.run("tm start")
        self.assertIn("warning: Not redirected: cfree: ", self.gdb.run("run"))
        self.gdb.run("tm stop")
        check = self.examine()["redirection"]
        self.assertEqual(check["result"], "note")
        self.assertIn("cfree", check["text"])

    def test_no_thread_can_make_calls(self):
        self.gdb.run(f"file '{build('misuse.c')}'")
        self.gdb.run("tbreak main")
        self.gdb.run("run </dev/null")
        self.gdb.run("catch syscall read")
        self.assertIn("call to syscall read", self.gdb.run("continue"))
        problems = self.problems()
        self.assertEqual(list(problems), ["caller"])
        self.assertIn("let it run on a little", problems["caller"])


if __name__ == "__main__":
    unittest.main()
