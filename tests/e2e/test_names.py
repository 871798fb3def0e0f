"""Names in a real gdb: files replaced or damaged after the start, the vDSO, debuginfod, Ctrl-C.

May use gdbsession.  Must never import gdb: the tests see what a person sees.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from gdbsession import TestCase, build


class Names(TestCase):
    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())
        self.program_file = os.path.join(self.folder, "again")
        shutil.copy(build("again.c"), self.program_file)

    def keep_a_block(self):
        """A process whose file is changed by `change` before it is attached to."""
        process = self.program(self.program_file)
        process.wait_for("ready")
        gdb = self.session()
        gdb.attach(process)
        self.assertStarted(gdb.run("tm start 5"), 5)
        gdb.run("detach")
        process.write("x")
        process.wait_for("kept")
        return gdb, process

    def replace(self, *command):
        """Another file under the same name, as an upgrade leaves it."""
        other = os.path.join(self.folder, "other")
        subprocess.run([*command, other], check=True)
        os.rename(other, self.program_file)

    def functions(self, gdb):
        return [each["function"] for each in gdb.json("tm top -json")["statistics"]]

    @unittest.skipUnless(os.getuid() == 0, "only root may open the file behind a mapping")
    def test_replaced_file_is_read_through_its_mapping(self):
        gdb, process = self.keep_a_block()
        self.replace("cp", "/bin/true")
        gdb.attach(process)
        text = gdb.run("tm top")
        self.assertNotIn("warning", text)
        self.assertEqual(self.functions(gdb), ["keep_one"])

    def test_replaced_file_that_cannot_be_read_is_told_once(self):
        gdb, process = self.keep_a_block()
        self.replace("cp", "/bin/true")
        gdb.attach(process)
        gdb.python("import tm.inferior; tm.inferior.mapped_files = dict")
        text = gdb.run("tm top")
        self.assertRegex(text, r"again\+0x[0-9a-f]+: size=3000 B")
        self.assertEqual(text.count("warning: "), 1)
        self.assertRegex(text, r"warning: \S+/again is not the file any more that the "
                               r"process has mapped: names in it are missing\. Put that file back")
        self.assertNotIn("warning", gdb.run("tm top function"))

    def test_dynamic_symbols_of_a_file_that_is_gone_come_from_memory(self):
        shutil.copy(build("again.c", "again-exported", "-O2 -g -rdynamic -Dstatic="),
                    self.program_file)
        gdb, process = self.keep_a_block()
        os.unlink(self.program_file)
        gdb.attach(process)
        gdb.python("import tm.inferior; tm.inferior.mapped_files = "
                   f"lambda: {{{self.program_file + ' (deleted)'!r}: '/nowhere'}}")
        text = gdb.run("tm top")
        self.assertRegex(text, r"again!keep_one\+0x[0-9a-f]+: size=3000 B")
        self.assertEqual(text.count("is not the file any more that the process has mapped"), 1)

    def test_damaged_debug_information_is_told_once(self):
        part = os.path.join(self.folder, "part")
        with open(part, "wb") as file:
            file.write(bytes(50))
        subprocess.run(["objcopy", "--update-section", f".debug_line={part}", self.program_file],
                       check=True)
        gdb, process = self.keep_a_block()
        gdb.attach(process)
        text = gdb.run("tm top function")
        self.assertRegex(text, r"(?m)^keep_one .*size=3000 B")
        self.assertEqual(text.count("warning: The debug information of "
                                    f"{self.program_file} is damaged"), 1)
        self.assertNotIn("warning", gdb.run("tm top"))

    def test_vdso_has_names_live_and_in_a_core(self):
        gdb, process = self.keep_a_block()
        gdb.attach(process)
        self.check_vdso(gdb)
        core = os.path.join(self.folder, "core")
        gdb.run(f"generate-core-file {core}")
        after = self.session(self.program_file, core)
        self.check_vdso(after)
        self.assertEqual(self.functions(after), ["keep_one"])

    def check_vdso(self, gdb):
        found = gdb.python(
            "import gdb, tm.frames, tm.inferior as i, tm.process as p; "
            "modules = tm.frames.modules_of_process(p.find_helper().header['modules']); "
            "vdso = next(m for m in modules if m.path == '[vdso]'); "
            "tm.frames._resolver.use([vdso]); "
            "at = int(gdb.parse_and_eval('(long) &__vdso_gettimeofday')); "
            "print(tm.frames._resolver.resolve([(at + 4, True)])[0][0], tm.frames.complaints())")
        self.assertRegex(found, r"^\[vdso\]!(__vdso_)?gettimeofday\+0x4 \[\]$")

    def serve_debug_info(self):
        """Takes the program's debug info away, to a server; its port and its log."""
        build_id = re.search(r"Build ID: ([0-9a-f]+)", subprocess.run(
            ["readelf", "-n", self.program_file], check=True, text=True,
            stdout=subprocess.PIPE).stdout)[1]
        served = os.path.join(self.folder, "served", "buildid", build_id, "debuginfo")
        os.makedirs(os.path.dirname(served))
        subprocess.run(["objcopy", "--only-keep-debug", self.program_file, served], check=True)
        subprocess.run(["strip", self.program_file], check=True)
        log = os.path.join(self.folder, "log")
        with open(log, "w") as file:
            server = subprocess.Popen(
                [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0",
                 "--directory", os.path.join(self.folder, "served")],
                stdout=subprocess.PIPE, stderr=file, text=True)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        return re.search(r"port (\d+)", server.stdout.readline())[1], log

    def test_debuginfod_is_asked_when_gdb_may(self):
        port, log = self.serve_debug_info()
        gdb, process = self.keep_a_block()
        gdb.attach(process)
        gdb.python(f"import os; os.environ['DEBUGINFOD_URLS'] = 'http://127.0.0.1:{port}'; "
                   f"os.environ['DEBUGINFOD_CACHE_PATH'] = {self.folder!r} + '/cache'")
        for setting in ("enabled off", "enabled ask"):
            gdb.run(f"set debuginfod {setting}")
            self.assertRegex(gdb.run("tm top"), r"again\+0x[0-9a-f]+: size=3000 B")
        with open(log) as file:
            self.assertEqual(file.read(), "")
        gdb.run(f"set debuginfod urls http://127.0.0.1:{port}")
        gdb.run("set debuginfod enabled on")
        self.assertRegex(gdb.run("tm top"), r"tests/e2e/again\.c:\d+: size=3000 B")
        with open(log) as file:
            self.assertEqual(file.read().count("GET /buildid/"), 1)


if __name__ == "__main__":
    unittest.main()
