"""libtm-preload.so: programs traced from their start, without a debugger.

A debugger that comes later, or opens the core, finds every block with its line;
programs do what they do without; a bad TM_TRACE is one line and no tracing.
"""
import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import unittest

from gdbsession import BUILD, FULL, PROGRAMS, ROOT, TestCase, build
from test_cores import kernel_writes_plain_files
import test_ledger

LIBRARY = BUILD / "libtm-preload.so"
if re.search("[ :]", str(LIBRARY)):  # which LD_PRELOAD takes for the end of a name, see ld.so(8)
    FOLDER = tempfile.TemporaryDirectory(prefix="tm-preload-")
    LIBRARY = shutil.copy(LIBRARY, FOLDER.name)
BLOCKS = {"malloc": (1001 * 5, 5), "calloc": (1002 * 10, 10), "realloc": (5001 * 5, 5),
          "aligned_alloc": (1088, 1), "posix_memalign": (1005, 1), "reallocarray": (1001, 1)}


def traced(frames=25):
    return {"LD_PRELOAD": str(LIBRARY), "TM_TRACE": str(frames)}


def outcome(command, environment, text=""):
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, cwd=ROOT, timeout=120,
                          env=dict(os.environ, LC_ALL="C.UTF-8", **environment))
    return done.returncode, done.stdout, done.stderr


def end_process(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Preload(TestCase):
    @classmethod
    def setUpClass(cls):
        cls.binary = build("preloaded.c")
        text = (ROOT / "tests" / "e2e" / "preloaded.c").read_text().splitlines()
        cls.names = {number: match[1] for number, line in enumerate(text, 1)
                     if (match := re.search(r"line: (\w+) \*/", line))}

    def start(self, *arguments, frames=25):
        program = self.program(self.binary, *arguments, env=traced(frames))
        program.wait_for("ready")
        return program

    def blocks(self, gdb):
        """{name of the line: (bytes, blocks)} of this program's own lines."""
        top = gdb.json("tm top lineno -json -limit unlimited")
        return {self.names[each["lineno"]]: (each["size"], each["count"])
                for each in top["statistics"]
                if (each["filename"] or "").endswith("preloaded.c")}

    def test_sampling(self):
        environment = dict(traced(), TM_SAMPLE="1.5KiB", TM_MIN_SIZE="100")
        program = self.program(self.binary, "blocks", env=environment)
        program.wait_for("ready")
        gdb = self.session()
        gdb.attach(program)
        status = gdb.json("tm status -json")
        self.assertEqual((status["sample_period"], status["min_size"]), (1536, 100))
        self.assertEqual(status["current"], gdb.json("tm top -json")["total_size"])
        self.assertIn("(-sample 1536 -min-size 100)", gdb.run("tm status"))

    def test_later_debugger(self):
        program = self.start("blocks")
        gdb = self.session()
        gdb.attach(program)
        self.assertEqual(self.blocks(gdb), BLOCKS)
        status = gdb.json("tm status -json")
        self.assertEqual((status["tracing"], status["traceback_limit"]), (True, 25))
        self.assertEqual((status["dropped"], status["untracked_frees"]), (0, 0))
        self.assertEqual({each["module"] for each in status["redirected"]}, {str(LIBRARY)})
        self.assertIn("malloc", [each["function"] for each in status["redirected"]])
        text = gdb.run("tm traceback kept[1]")
        self.assertIn("5001 B in domain 0 (malloc)", text)
        self.assertRegex(text, r"(?s), in main\n.*, in keep_blocks\n.*realloc\(kept\[i\], 5001\)")
        self.assertOneLine(gdb.run("tm start 5"), "^Already tracing")
        self.assertIn("tm_hook_alloc", gdb.run("info line tm_hook_alloc"))
        gdb.run("tm clear")
        program.write("\n")
        gdb.send("continue")
        program.wait_for("again")
        os.kill(program.pid, 2)
        gdb.wait()
        self.assertEqual(self.blocks(gdb), {"later": (1007, 1)})

    def test_stop_and_start(self):
        program = self.start("blocks")
        gdb = self.session()
        gdb.attach(program)
        self.assertRegex(gdb.run("tm stop"), r"\ATracing stopped: \d+ functions restored\.\Z")
        self.assertFalse(gdb.json("tm status -json")["tracing"])
        self.assertStarted(gdb.run("tm start 3"), 3)
        program.write("\n")
        gdb.send("continue")
        program.wait_for("again")
        os.kill(program.pid, 2)
        gdb.wait()
        self.assertEqual(self.blocks(gdb), {"later": (1007, 1)}, "and not twice")
        gdb.run("detach")
        program.write("\n")
        self.assertEqual(program.finish()[0], 0)

    def test_start_where_nothing_was_traced(self):
        program = self.program(self.binary, env={"LD_PRELOAD": str(LIBRARY)})
        program.wait_for("ready")
        gdb = self.session()
        gdb.attach(program)
        self.assertStarted(gdb.run("tm start 3"), 3)
        program.write("\n")
        gdb.send("continue")
        program.wait_for("again")
        os.kill(program.pid, 2)
        gdb.wait()
        self.assertEqual(self.blocks(gdb), {"later": (1007, 1)})

    def test_unload(self):
        program = self.start("blocks")
        gdb = self.session()
        gdb.attach(program)
        gdb.run("tm stop")
        text = gdb.run("tm unload")
        if "or will come back to it" in text and os.confstr("CS_GNU_LIBC_VERSION") != "glibc 2.36":
            self.skipTest("main's callers have words of the library's start on the stack")
        self.assertIn("unloaded", text)
        self.assertNotEqual(gdb.evaluate("((long (*)(long))malloc)(10)"), 0)
        self.assertStarted(gdb.run("tm start 3"), 3)
        self.assertNotEqual(gdb.evaluate("((long (*)(long))malloc)(10)"), 0)
        gdb.run("detach")
        program.write("\n\n")
        self.assertEqual(program.finish()[0], 0)

    def test_threads(self):
        program = self.start("threads")
        gdb = self.session()
        gdb.attach(program)
        self.assertEqual(self.blocks(gdb)["thread"],
                         (sum(150 * (500 + i) for i in range(50)), 50 * 150))
        self.assertEqual(gdb.json("tm status -json")["dropped"], 0)
        gdb.run("detach")
        program.write("\n")
        self.assertEqual(program.finish()[0], 0)

    def test_fork(self):
        program = self.start("forks")
        child = int(re.search(r"child (\d+)", program.wait_for("child "))[1])
        self.addCleanup(end_process, child)
        gdb = self.session()
        gdb.attach(program)
        self.assertEqual(self.blocks(gdb), {"before": (11110, 10), "parent": (99990, 30)})
        gdb.run("detach")
        gdb.run(f"attach {child}")
        self.assertEqual(self.blocks(gdb), {"before": (5555, 5), "child": (44440, 20)})
        status = gdb.json("tm status -json")
        self.assertEqual((status["dropped"], status["untracked_frees"]), (0, 0))

    def test_fork_in_the_middle_of_a_walk(self):
        """Such a child may die, see helper/DESIGN.md; but that is for a few instructions."""
        command = [build("forkstep.c", flags="-O1 -g -mno-red-zone")]
        code, output, errors = outcome(command, traced())
        self.assertEqual((code, errors), (0, ""))
        forks, killed = map(int, re.match(r"(\d+) forks, (\d+) killed$", output).groups())
        self.assertGreater(forks, 300)
        self.assertLess(killed, forks / 8)

    def test_exec(self):
        program = self.start("exec")
        gdb = self.session()
        gdb.attach(program)
        self.assertEqual(self.blocks(gdb), BLOCKS)

    def test_plugins_at_one_address(self):
        paths = [build("preloaded.c", name=f"preloaded-{size}.so",
                       flags=f"-O2 -g -shared -fPIC -DPLUGIN={size} "
                             "-fno-optimize-sibling-calls")
                 for size in (3000, 40)]
        program = self.program(self.binary, "plugins", *paths, env=traced())
        program.write("\n")
        places = re.findall(r"0x\w+", program.wait_for("ready"))
        self.assertLess(len(set(places)), 4, "no library came where another had been")
        gdb = self.session()
        gdb.attach(program)
        for turn in range(4):
            found = gdb.json(f"tm traceback kept[{turn * 10 + 9}] -json")
            self.assertEqual(found["size"], (3000, 40)[turn % 2])
            functions = [frame["function"] for frame in found["frames"]]
            self.assertEqual(functions[3:5], ["main", "plugins"], functions)
            self.assertEqual(len(functions), 6, functions)
        self.assertEqual(functions[-1], "plugin_allocate")

    def test_library_of_operator_new_comes_later(self):
        plugin = build("preloaded_plugin.cc", name="preloaded-plugin.so",
                       flags="-O2 -g -shared -fPIC -DPLUGIN=77")
        program = self.program(self.binary, "plugins", plugin, plugin, env=traced())
        program.wait_for("before")
        gdb = self.session()
        gdb.attach(program)
        gdb.run("tm stop")
        self.assertStarted(gdb.run("tm start 5"), 5)
        program.write("\n")
        gdb.send("continue")
        program.wait_for("ready")
        os.kill(program.pid, 2)
        gdb.wait()
        for block in (9, 39):
            found = gdb.json(f"tm traceback kept[{block}] -json")
            self.assertEqual((found["size"], found["frames"][-1]["function"]),
                             (77, "plugin_allocate"))
        self.assertRegex(gdb.run("tm stop"), r"\ATracing stopped: ")

    def test_exceptions(self):
        for name, libraries in (("newdelete", ""), ("newdelete-jemalloc",
                                                    "-Wl,--no-as-needed -ljemalloc")):
            program = build("newdelete.cc", name=name, flags="-O2 -g -std=c++17", libs=libraries)
            self.assertEqual(outcome([program], traced()), outcome([program], {}))

    def test_cxx_lines(self):
        program = build("newdelete.cc", flags="-O2 -g -std=c++17", libs="")
        gdb = self.session(program)
        gdb.run(f"set environment LD_PRELOAD {LIBRARY}")
        gdb.run("set environment TM_TRACE 10")
        gdb.run("break checkpoint if number == 1")
        gdb.run("run")
        top = gdb.json("tm top lineno -json -limit unlimited")
        sizes = sorted(each["size"] for each in top["statistics"]
                       if (each["filename"] or "").endswith("newdelete.cc"))
        self.assertEqual(sizes, sorted([*range(1001, 1009), 256]))

    def test_tracked_blocks(self):
        library = build("track.c", name="libtrack.so",
                        flags="-O2 -g -shared -fPIC -DLIBRARY -Iinclude")
        other = build("track_other.cc", name="track_other.o", flags="-O2 -g -c -Iinclude")
        program = build("track.c", name="track", flags="-O2 -g -Iinclude",
                        libs=f"'{other}' '{library}' '-Wl,-rpath,{PROGRAMS}'")
        self.assertEqual(outcome([program], traced(5)),
                         (0, "1\n0 0 0 0 -1 -1 0 0 0 0 0 \n", ""))

    def test_core(self):
        why = kernel_writes_plain_files()
        if why:
            self.skipTest(why)
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        with tempfile.TemporaryDirectory(prefix="tm-core-") as folder:
            program = self.program("env", "-C", folder, self.binary, "abort", env=traced())
            program.wait_for("ready")
            resource.prlimit(program.pid, resource.RLIMIT_CORE, (hard, hard))
            program.write("\n")
            self.assertEqual(program.finish()[0], -6)
            cores = [name for name in os.listdir(folder) if name.startswith("core")]
            self.assertEqual(len(cores), 1)
            gdb = self.session(self.binary, os.path.join(folder, cores[0]))
            self.assertEqual(self.blocks(gdb), BLOCKS)
            self.assertIn("preloaded.c", gdb.run("tm top lineno"))
            self.assertIn("5001 B in domain 0 (malloc)", gdb.run("tm traceback kept[1]"))


class Ledger(test_ledger.Ledger):
    """The table equals the program's own list, as it does when a debugger started it."""

    test_one_frame = None

    def program(self, *command):
        return super().program(*command, env=traced())

    def session(self):
        self.gdb = super().session()
        return self.gdb

    def assertStarted(self, text, frames):
        self.assertOneLine(text, f"^Already tracing.*{frames} frames")
        self.gdb.run("tm clear")


class RealPrograms(TestCase):
    PYTHON = ("import json, threading, random, subprocess, sys\n"
              "random.seed(3)\n"
              "rows = [{'n': i, 's': 'x' * random.randrange(2000)} for i in range(2000)]\n"
              "found = []\n"
              "work = lambda: found.append(len(json.dumps(json.loads(json.dumps(rows)))))\n"
              "all_ = [threading.Thread(target=work) for _ in range(4)]\n"
              "[each.start() for each in all_]; [each.join() for each in all_]\n"
              "print(found, subprocess.check_output(['echo', 'child']))\n")
    SQL = ("create table t(a integer primary key, b text);\n"
           "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)\n"
           "insert into t select i, printf('%d-%s', i, hex(i * 7919)) from n;\n"
           "create index x on t(b);\n"
           "select count(*), sum(length(b)), max(b) from t where b > '5';\n")
    BASH = "for i in $(seq 50); do a[i]=$(echo $i | tr 1-9 a-i); done; echo ${a[*]}; (exit 3)"

    def check(self, *command, text=""):
        plain, status = outcome(command, {}, text), "traced"
        self.assertEqual(outcome(command, traced(), text), plain, status)
        self.assertEqual(outcome(command, {"LD_PRELOAD": str(LIBRARY)}, text), plain, "untraced")

    def test_python(self):
        self.check("/usr/bin/python3", "-c", self.PYTHON)

    def test_sqlite(self):
        self.check("sqlite3", ":memory:", text=self.SQL)

    def test_bash(self):
        self.check("bash", "-c", self.BASH)

    def test_compiler(self):
        self.check("g++", "-O1", "-S", "-x", "c++", "-", "-o", "-",
                   text="#include <map>\nint f(std::map<int, int> &m) { return m[1]; }\n")

    def test_fifty_threads_again_and_again(self):
        program = build("preloaded.c")
        for _ in range(20 if FULL else 3):
            self.assertEqual(outcome([program, "threads"], traced()), (0, "ready\n", ""))

    def test_invalid_value(self):
        for value in ("0", "1001", "abc", "25x", "-1", " 5", "99999999999999999999"):
            status, output, error = outcome(["echo", "hello"], traced(value))
            self.assertEqual((status, output), (0, "hello\n"))
            self.assertEqual(error, f"tm: TM_TRACE={value} is not a number of frames from 1 to "
                             "1000: the program runs untraced.\n")

    def test_invalid_sampling(self):
        for name, values, what in (
                ("TM_SAMPLE", ("0", "1", "1023", "x", "-5", "5x", "1KiBx", "2TiB", "9" * 30, ".5K",
                               "1.5.5M"), "a size from 1KiB to 1TiB"),
                ("TM_MIN_SIZE", ("x", "-1", "2TiB", "1 "), "a size up to 1TiB")):
            for value in values:
                status, output, error = outcome(["echo", "hello"], dict(traced(), **{name: value}))
                self.assertEqual((status, output), (0, "hello\n"))
                self.assertEqual(error, f"tm: {name}={value} is not {what}: the program runs "
                                 "untraced.\n")
        for value in ("1KiB", "1k", "2M", "1024B", "1TiB", "1.25M"):
            self.assertEqual(outcome(["echo", "hello"], dict(traced(), TM_SAMPLE=value)),
                             (0, "hello\n", ""))

    def test_without_value(self):
        for environment in ({"LD_PRELOAD": str(LIBRARY)}, traced("")):
            program = self.program(build("preloaded.c"), "blocks", env=environment)
            program.wait_for("ready")
            gdb = self.session()
            gdb.attach(program)
            self.assertFalse(gdb.json("tm status -json")["tracing"])
            self.assertStarted(gdb.run("tm start 5"), 5)
            gdb.run("tm stop")
            gdb.run("detach")
            program.write("\n\n")
            self.assertEqual(program.finish()[0], 0)


if __name__ == "__main__":
    unittest.main()
