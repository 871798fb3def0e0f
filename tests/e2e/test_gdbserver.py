"""A process under gdbserver is traced as one of gdb's own, also when its files are elsewhere.

May use gdbsession, gdbserver, and unshare where the kernel lets it make a mount
namespace.
"""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from gdbsession import LIMIT, PROGRAMS, TestCase, build, executable_pages_differ


class Server(TestCase):
    def serve(self, *command):
        """Starts a gdbserver; returns the port it listens on."""
        if not shutil.which("gdbserver"):
            self.skipTest("gdbserver is not installed")
        server = self.program(*command)
        while True:
            port = re.search(rb"Listening on port (\d+)\n", server.output)
            if port:
                return int(port.group(1))
            self.assertTrue(server.read(LIMIT), f"gdbserver does not listen: {server.output}")

    def connect(self, gdb, port, how="remote"):
        text = gdb.run(f"target {how} 127.0.0.1:{port}")
        self.assertIn("Remote debugging using 127.0.0.1:", text)
        self.assertNotIn("could not connect", text)

    def check_reports(self, gdb):
        """cores.c at its checkpoint: its blocks, their lines, one by one too."""
        status = gdb.json("tm status -json")
        self.assertEqual((status["tracing"], status["traceback_limit"], status["dropped"]),
                         (True, 10, 0))
        self.assertEqual({os.path.basename(entry["module"]) for entry in status["redirected"]},
                         {"libc.so.6"})
        self.assertRegex(gdb.run("tm snapshot"), r"\ASnapshot \d+: \d+ blocks, ")
        top = gdb.json("tm top function -json -limit unlimited")
        counts = {each["function"]: each["count"] for each in top["statistics"]}
        self.assertEqual([counts[name] for name in ("small", "table", "text")], [388, 386, 386])
        block = gdb.evaluate("(unsigned long)kept[1][1]")
        text = gdb.run(f"tm traceback {block:#x} + 5")
        self.assertRegex(text, rf"\A{block:#x}: 48 B in domain 0 \(malloc\), allocated at .*:\n"
                         r"(.*\n)*.*cores\.c\", line \d+, in fill\n(.*\n)*"
                         r".*cores\.c\", line \d+, in table")

    def check_gone(self, gdb):
        self.assertNotIn("\n", gdb.run("tm stop"))
        self.assertEqual(executable_pages_differ(gdb.inferior_pid()), [])
        self.assertRegex(gdb.run("tm unload"), r"\AHelper unloaded: ")
        with open(f"/proc/{gdb.inferior_pid()}/maps") as maps:
            self.assertEqual([line for line in maps if re.search(r"r-xp \S+ 00:00 0 *$", line)], [])


class Remote(Server):
    def test_from_main_to_the_end(self):
        port = self.serve("gdbserver", "--once", "127.0.0.1:0", build("cores.c"))
        gdb = self.session(build("cores.c"))
        self.connect(gdb, port)
        self.assertOneLine(gdb.run("tm start 10"), r"^No allocator function was found")
        gdb.run("tbreak main")
        gdb.run("continue")
        self.assertEqual([check for check in gdb.json("tm doctor -json")["checks"]
                          if check["result"] != "ok"], [])
        self.assertStarted(gdb.run("tm start 10"), 10)
        gdb.run("tbreak checkpoint")
        gdb.run("continue")
        self.check_reports(gdb)
        self.check_gone(gdb)
        self.assertIn("exited normally", gdb.run("continue"))

    def test_another_program_under_the_same_name(self):
        """What is on this machine is not what the process has: it must not be believed."""
        with tempfile.TemporaryDirectory(dir=PROGRAMS) as folder:
            program = os.path.join(folder, "program")
            shutil.copy(build("cores.c"), program)
            port = self.serve("gdbserver", "--once", "127.0.0.1:0", program)
            os.rename(program, program + ".old")
            shutil.copy(build("again.c"), program)
            gdb = self.session(program + ".old")
            gdb.run("set sysroot /nowhere")
            self.connect(gdb, port)
            gdb.run("set sysroot target:")
            gdb.run("tbreak main")
            gdb.run("continue")
            self.assertStarted(gdb.run("tm start 10"), 10)
            gdb.run("tbreak checkpoint")
            gdb.run("continue")
            self.assertNotIn("again.c", gdb.run("tm top"))


class Extended(Server):
    def setUp(self):
        self.gdb = self.session()
        self.connect(self.gdb, self.serve("gdbserver", "--multi", "127.0.0.1:0"),
                     "extended-remote")

    def test_attach(self):
        process = self.program(build("again.c"))
        process.wait_for("ready")
        self.assertIn("there is none", self.gdb.run("tm doctor"))
        self.gdb.run(f"attach {process.pid}")
        self.assertStarted(self.gdb.run("tm start 5"), 5)
        self.gdb.run("detach")
        for each in range(1, 4):
            process.write("x")
            process.wait_for("kept\n" * each)
        self.gdb.run(f"attach {process.pid}")
        self.assertEqual([(each["count"], each["size"])
                          for each in self.gdb.json("tm top -json")["statistics"]
                          if each["function"] == "keep_one"], [(3, 9000)])
        self.assertIn("in keep_one", self.gdb.run("tm traceback kept[2]"))
        self.check_gone(self.gdb)
        self.gdb.run("detach")
        process.process.stdin.close()
        self.assertEqual(process.finish(), (0, "ready\nkept\nkept\nkept\n3 blocks\n"))

    def test_run(self):
        self.gdb.run(f"file '{build('cores.c')}'")
        self.gdb.run(f"set remote exec-file {build('cores.c')}")
        self.assertRegex(self.gdb.run("tm start 10"), r"^The next run will be traced")
        self.gdb.run("break checkpoint")
        self.assertRegex(self.gdb.run("run"), r"(?m)^Tracing 10 frames: ")
        self.check_reports(self.gdb)
        self.check_gone(self.gdb)


class Elsewhere(Server):
    """A program in a folder that only gdbserver sees, in a mount namespace of its own."""

    def test_files_are_fetched(self):
        if subprocess.run(["unshare", "--mount", "--map-root-user", "true"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            self.skipTest("no mount namespace can be made here")
        folder = self.enterContext(tempfile.TemporaryDirectory(dir=PROGRAMS))
        port = self.serve("unshare", "--mount", "--map-root-user", "sh", "-c",
                          'mount -t tmpfs none "$1" && cp "$2" "$1/program"'
                          ' && exec gdbserver --once 127.0.0.1:0 "$1/program"',
                          "sh", folder, build("cores.c"))
        gdb = self.session()
        self.connect(gdb, port)
        gdb.run("break checkpoint")
        gdb.run("tbreak main")
        gdb.run("continue")
        self.assertStarted(gdb.run("tm start 10"), 10)
        gdb.run("continue")
        self.check_reports(gdb)
        self.assertIn(f"{folder}/program",
                      {each["module"] for each in gdb.json("tm top module -json")["statistics"]})
        self.assertNotIn("\n", gdb.run("tm stop"))
        self.assertRegex(gdb.run("tm unload"), r"\AHelper unloaded: ")
        gdb.run("delete")
        self.assertIn("exited normally", gdb.run("continue"))


if __name__ == "__main__":
    unittest.main()
