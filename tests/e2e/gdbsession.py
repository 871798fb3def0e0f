"""A real gdb, a real program, and the few verbs that the end-to-end tests need.

Each Session is a fresh `gdb -nx` with fixed settings that takes one command at a
time and returns what it printed.  Programs are compiled from tests/e2e or
examples into build/tests/e2e when they are older than their source.

May use the standard library.  Must never import gdb or the plugin: the tests see
what a person at the prompt sees.
"""
import codecs
import contextlib
import fcntl
import json
import os
import pathlib
import re
import select
import shlex
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("TM_TEST_BUILD", ROOT / "build"))
PLUGIN = ROOT / "gdb-plugin" / "tm-gdb.py"
PROGRAMS = ROOT / "build" / "tests" / "e2e"
PROMPT = "\x01(gdb)\x02"
LIMIT = 200  # seconds that only what hangs takes, on the busiest machine
FULL = bool(os.environ.get("TM_TEST_FULL"))
CALM = ["set confirm off", "set pagination off", "set width 0", "set height 0",
        "set style enabled off", "set debuginfod enabled off", "set startup-with-shell on",
        "set disable-randomization off", "set print thread-events off",
        "set print inferior-events off", "set python print-stack none"]


def build(source, name=None, flags="-O2 -g -pthread", libs="", compiler=None, folder=ROOT):
    """The path of the program compiled from tests/e2e/SOURCE (or a path below the root).

    Its debug information says that the root is FOLDER.  Tests that run at the same time may
    want the same one: it is there as a whole, and once.
    """
    path = ROOT / source if "/" in source else ROOT / "tests" / "e2e" / source
    program = PROGRAMS / (name or path.stem)
    compiler = compiler or ("g++" if path.suffix == ".cc" else "gcc")
    command = [compiler, *shlex.split(flags), "-Wall", "-Wextra", "-o", str(program),
               f"-fdebug-prefix-map={ROOT}={folder}", str(path.relative_to(ROOT)),
               *shlex.split(libs)]
    stamp = program.with_name(program.name + ".command")
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    with open(program.with_name(program.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh = program.exists() and program.stat().st_mtime > path.stat().st_mtime \
            and stamp.exists() and stamp.read_text() == repr(command)
        if not fresh:
            made = str(program) + ".new"
            done = subprocess.run([made if word == str(program) else word for word in command],
                                  cwd=ROOT, env=dict(os.environ, PWD=str(ROOT)), text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if done.returncode:
                raise AssertionError(f"{shlex.join(command)}\n{done.stdout}")
            os.replace(made, program)
            stamp.write_text(repr(command))
    return str(program)


class Program:
    """A child process with its output at hand."""

    def __init__(self, *command, env=None, stdin=subprocess.PIPE):
        environment = dict(os.environ, LC_ALL="C.UTF-8", **(env or {}))
        self.process = subprocess.Popen([str(each) for each in command], stdin=stdin,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env=environment, cwd=ROOT)
        self.pid = self.process.pid
        self.output = b""

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.process.kill()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            # A debugger that a failed test left behind hears of the end first, and keeps it.
            tracer = self.tracer()
            if tracer:
                os.kill(tracer, signal.SIGKILL)
            self.process.wait()
        self.process.stdout.close()
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def read(self, timeout):
        if not select.select([self.process.stdout], [], [], max(0, timeout))[0]:
            return None
        chunk = os.read(self.process.stdout.fileno(), 65536)
        self.output += chunk
        return chunk

    def wait_for(self, text, timeout=LIMIT):
        """Reads until the program printed TEXT; returns all it printed so far."""
        end = time.monotonic() + timeout
        while text.encode() not in self.output:
            if self.read(end - time.monotonic()) in (None, b""):
                raise AssertionError(f"program did not print {text!r}; it printed "
                                     f"{self.output.decode(errors='replace')!r}")
        return self.output.decode()

    def write(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def finish(self, timeout=LIMIT):
        """Waits for the end; returns (exit status, all output)."""
        end = time.monotonic() + timeout
        while True:
            chunk = self.read(end - time.monotonic())
            if chunk is None:
                raise AssertionError("program did not end; it printed "
                                     + self.output.decode(errors="replace"))
            if not chunk:
                break
        return self.process.wait(max(1, end - time.monotonic())), self.output.decode()

    def wait_for_state(self, wanted, seconds=LIMIT):
        """Waits until the main thread is in this state of proc(5): S asleep, t stopped."""
        end = time.monotonic() + seconds
        while self.state() != wanted:
            if time.monotonic() > end:
                raise AssertionError(f"state {self.state()!r} instead of {wanted!r}")
            time.sleep(0.001)

    def wait_for_tracer(self):
        """Waits until a debugger has begun to attach."""
        end = time.monotonic() + LIMIT
        while not self.tracer():
            if time.monotonic() > end:
                raise AssertionError("no debugger attaches")
            time.sleep(0.001)

    def tracer(self):
        """The process that traces this one, or 0."""
        with open(f"/proc/{self.pid}/status") as status:
            return int(re.search(r"TracerPid:\t(\d+)", status.read())[1])

    def state(self):
        """The kernel's word for what the process does: R, S, t …"""
        with open(f"/proc/{self.pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]


class Session:
    """One gdb; `run` takes a command line and returns its text without the last newline."""

    def __init__(self, *arguments, plugin=True, cwd=ROOT, settings=()):
        self.home = tempfile.TemporaryDirectory(prefix="tm-gdb-home-")
        environment = dict(os.environ, LC_ALL="C.UTF-8", TERM="dumb", HOME=self.home.name)
        for name in ("DEBUGINFOD_URLS", "PYTHONPATH", "PYTHONHOME"):
            environment.pop(name, None)
        command = ["/usr/bin/gdb", "-nx", "-q", "-iex", f"set prompt {PROMPT}"]
        for setting in [*CALM, *settings]:
            command += ["-iex", setting]
        self.process = subprocess.Popen([*command, *map(str, arguments)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env=environment, cwd=cwd)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.log = ""
        self.pending = ""
        self.greeting = self.wait()
        if plugin:
            text = self.run(f"source {PLUGIN}")
            if text:
                raise AssertionError(f"sourcing the plugin printed: {text}")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        if self.process.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()  # end of file: gdb detaches or kills, and leaves
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.home.cleanup()

    def send(self, line):
        self.log += f"(gdb) {line}\n"
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def wait(self, timeout=LIMIT):
        """What gdb printed up to its next prompt."""
        self.wait_until(lambda text: PROMPT in text, timeout)
        text, self.pending = self.pending.split(PROMPT, 1)
        self.log += text
        return text.rstrip("\n")

    def wait_until(self, there, timeout=LIMIT):
        """Reads on until there(what gdb printed since the last prompt that was waited for)."""
        end = time.monotonic() + timeout
        while not there(self.pending):
            ready = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]
            chunk = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            if not chunk:
                why = "gdb ended" if ready else f"no answer in {timeout} s"
                raise AssertionError(f"{why}:\n{self.log}{self.pending}")
            self.pending += self.decoder.decode(chunk)

    def run(self, line, timeout=LIMIT):
        self.send(line)
        return self.wait(timeout)

    def json(self, line, timeout=LIMIT):
        text = self.run(line, timeout)
        try:
            return json.loads(text)
        except ValueError:
            raise AssertionError(f"`{line}` printed no JSON document: {text!r}") from None

    def python(self, code, timeout=LIMIT):
        """Runs Python inside gdb; returns what it printed."""
        with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
            script.write(code)
            script.flush()
            return self.run(f"source {script.name}", timeout)

    def evaluate(self, expression):
        """An integer expression of the inferior."""
        text = self.run(f"output/d {expression}")
        try:
            return int(text)
        except ValueError:
            raise AssertionError(f"{expression}: {text}") from None

    def attach(self, program):
        text = self.run(f"attach {program.pid}")
        if not re.search(r"^0x|\bin\b|\bat\b", text, re.MULTILINE):
            raise AssertionError(text)
        return text

    def run_until_interrupted(self, program, seconds, timeout=LIMIT):
        """Lets the process run for a while, then stops it wherever it is."""
        self.send("continue")
        time.sleep(seconds)
        os.kill(program.pid, signal.SIGINT)
        return self.wait(timeout)

    def inferior_pid(self):
        return int(self.python("print(gdb.selected_inferior().pid)"))


def batch(*commands, arguments=(), timeout=LIMIT):
    """`gdb -batch` with the plugin: (exit status, output)."""
    command = ["/usr/bin/gdb", "-nx", "-q", "-batch"]
    for setting in CALM:
        command += ["-iex", setting]
    for line in [f"source {PLUGIN}", *commands]:
        command += ["-ex", line]
    with tempfile.TemporaryDirectory(prefix="tm-gdb-home-") as home:
        done = subprocess.run([*command, *map(str, arguments)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              cwd=ROOT, timeout=timeout,
                              env=dict(os.environ, LC_ALL="C.UTF-8", TERM="dumb", HOME=home))
    return done.returncode, done.stdout


class TestCase(unittest.TestCase):
    """Ends the sessions and programs that a test opened, whatever happened."""

    maxDiff = None

    def program(self, *command, **options):
        return self.enterContext(Program(*command, **options))

    def session(self, *arguments, **options):
        return self.enterContext(Session(*arguments, **options))

    def assertStarted(self, text, frames):
        self.assertRegex(text, rf"\ATracing {frames} frames?: \d+ functions? in \d+ modules? "
                         r"redirected, helper at 0x[0-9a-f]+ \(\d+ ms\)\.\Z")

    def assertAtBreakpoint(self, text):
        self.assertRegex(text, r"(?m)^(Thread .* hit )?Breakpoint \d+(\.\d+)?, ")

    def assertOneLine(self, text, pattern):
        self.assertEqual(text.count("\n"), 0, f"more than one line: {text!r}")
        self.assertRegex(text, pattern)


def executable_pages_differ(pid):
    """Names of the mapped files whose executable pages are not the file's bytes any more."""
    different = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            bounds, rights, offset, device, inode, *path = line.rstrip("\n").split(None, 5)
            if "x" not in rights or not path or not path[0].startswith("/"):
                continue
            start, end = (int(each, 16) for each in bounds.split("-"))
            # The file itself, wherever the process has it from; only root may open it so.
            place = f"/proc/{pid}/map_files/{start:x}-{end:x}"
            with open(place if os.getuid() == 0 else path[0], "rb") as file:
                file.seek(int(offset, 16))
                wanted = file.read(end - start)
            memory.seek(start)
            found = memory.read(end - start)
            if found[:len(wanted)] != wanted or any(found[len(wanted):]):
                different.append(path[0])
    return different


__all__ = ["BUILD", "FULL", "LIMIT", "PLUGIN", "PROGRAMS", "Program", "ROOT", "Session", "TestCase",
           "batch", "build", "executable_pages_differ"]
