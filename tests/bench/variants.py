"""The ways a program is run to be measured: alone, under tm, under each peer.

A variant makes a command and an environment of a program's command; what it needs and does
not find makes it unavailable, with the reason.  May use: the standard library.
"""
import os
import pathlib
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
BUILD = ROOT / "build" / "bench"
GDB = "/usr/bin/gdb"
PYTHON = "/usr/bin/python3"
LIBRARIES = pathlib.Path("/usr/lib/x86_64-linux-gnu")

JEMALLOC = LIBRARIES / "libjemalloc.so.2"
TCMALLOC = LIBRARIES / "libtcmalloc.so.4"
MALLOC_DEBUG = LIBRARIES / "libc_malloc_debug.so.0"


class Variant:
    """One way to run a program."""

    tells_status = True  # whether it ends with the program's status
    slow = 1  # about how many times less work it can do in the same time
    base = "native"  # what its cost is added to

    def __init__(self, name):
        self.name = name

    def missing(self):
        """Why it cannot run here, or None."""
        return None

    def command(self, program, folder):
        """(command, additions to the environment) for a program's command."""
        return program, {}


class Tm(Variant):
    """From gdb at the program's entry point; gdb detaches at once.  0 frames: without tm."""

    def __init__(self, name, frames):
        super().__init__(name)
        self.frames = frames

    def command(self, program, folder):
        plugin = ROOT / "gdb-plugin" / "tm-gdb.py"
        return ([GDB, "-nx", "-q", "-batch", "-ex", f"source {plugin}",
                 "-x", str(BENCH / "at_entry.py"), "--args", *program],
                {"TM_BENCH_FRAMES": str(self.frames or "")})


class Floor(Variant):
    """The floor prototype, under the program that keeps frame pointers."""

    def __init__(self, frames, blocks):
        super().__init__(f"floor {frames}")
        self.environment = {"FLOOR_FRAMES": str(frames), "FLOOR_BLOCKS": str(blocks),
                            "LD_PRELOAD": str(BUILD / "floor.so")}

    def command(self, program, folder):
        return [program[0] + "-fp", *program[1:]], self.environment


class Heaptrack(Variant):
    slow = 3
    tells_status = False

    def missing(self):
        return None if shutil.which("heaptrack") else "heaptrack is not installed"

    def command(self, program, folder):
        return ["heaptrack", "-o", f"{folder}/heaptrack", *program], {}


class Preload(Variant):
    """A peer that is a library and some environment; NAME=%s is a file of its own."""

    def __init__(self, name, library, slow=1, base="native", **environment):
        super().__init__(name)
        self.preloaded, self.slow, self.base = library, slow, base
        self.environment = environment

    def missing(self):
        return None if self.preloaded.exists() else f"{self.preloaded.name} is not installed"

    def command(self, program, folder):
        made = {name: value.replace("%s", f"{folder}/{self.preloaded.name}")
                for name, value in self.environment.items()}
        return program, {"LD_PRELOAD": str(self.preloaded), **made}


class Valgrind(Variant):
    slow = 30

    def __init__(self, tool):
        super().__init__("valgrind " + tool)
        self.tool = tool

    def missing(self):
        return None if shutil.which("valgrind") else "valgrind is not installed"

    def command(self, program, folder):
        return ["valgrind", "-q", f"--tool={self.tool}", "--log-file=/dev/null",
                f"--{self.tool}-out-file={folder}/{self.tool}", *program], {}


class Tracemalloc(Variant):
    """CPython's own, for python3 alone."""

    slow = 8

    def __init__(self, frames):
        super().__init__(f"tracemalloc {frames}")
        self.frames = frames

    def command(self, program, folder):
        return [program[0], "-X", f"tracemalloc={self.frames}", *program[1:]], {}


def mtrace():
    return Preload("mtrace", MALLOC_DEBUG, slow=8, MALLOC_TRACE="%s")


def allocators():
    """jemalloc and tcmalloc, each alone and with its profiler."""
    return [
        Preload("jemalloc", JEMALLOC),
        Preload("jemalloc prof", JEMALLOC, slow=40, base="jemalloc",
                MALLOC_CONF="prof:true,lg_prof_sample:0"),
        Preload("tcmalloc", TCMALLOC),
        Preload("gperftools", TCMALLOC, slow=150, base="tcmalloc", HEAPPROFILE="%s",
                HEAP_PROFILE_ALLOCATION_INTERVAL="0", HEAP_PROFILE_INUSE_INTERVAL="0"),
    ]


class Failed(Exception):
    """A run ended badly; the text is one line."""


def run(variant, program, environment=None, timeout=600):
    """Runs the program; returns (standard output, standard error)."""
    with tempfile.TemporaryDirectory(prefix="run-", dir=BUILD) as folder:
        command, additions = variant.command([str(each) for each in program], folder)
        try:
            done = subprocess.run(command, env={**os.environ, **(environment or {}), **additions},
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, errors="replace",
                                  timeout=timeout, cwd=folder)
        except subprocess.TimeoutExpired:
            raise Failed(f"longer than {timeout} s") from None
    if done.returncode != 0 and variant.tells_status:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise Failed(f"status {done.returncode}: {last[:80]}")
    return done.stdout, done.stderr
