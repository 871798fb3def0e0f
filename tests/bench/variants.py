"""The ways a program is run to be measured: alone, under tm, under each peer.

A variant makes a command and an environment of a program's command; what it needs and does
not find makes it unavailable, with the reason.  May use: the standard library.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BENCH = ROOT / "tests" / "bench"
BUILD = ROOT / "build" / "bench"
GDB = "/usr/bin/gdb"
PYTHON = "/usr/bin/python3"
PRELOAD = ROOT / "build" / "libtm-preload.so"
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


class TmFromStart(Variant):
    """The library that traces from the start."""

    def __init__(self, frames):
        super().__init__(f"tm {frames}")
        self.trace = str(frames)

    def missing(self):
        return None if PRELOAD.exists() else f"{PRELOAD.name} is not built"

    def command(self, program, folder):
        return program, {"LD_PRELOAD": str(PRELOAD), "TM_TRACE": self.trace}


class TmSampled(TmFromStart):
    """The same with a sample of the blocks alone, about one for each `period` of bytes."""

    def __init__(self, frames, period):
        super().__init__(frames)
        self.name, self.period = f"tm {frames} sampled", period

    def command(self, program, folder):
        program, additions = super().command(program, folder)
        return program, {**additions, "TM_SAMPLE": self.period}


class Floor(Variant):
    """The floor prototype, under the program that keeps frame pointers."""

    def __init__(self, frames, blocks):
        super().__init__(f"floor {frames}")
        self.environment = {"FLOOR_FRAMES": str(frames), "FLOOR_BLOCKS": str(blocks),
                            "LD_PRELOAD": str(BUILD / "floor.so")}

    def missing(self):
        return None if (BUILD / "floor.so").exists() else "floor.so is not built"

    def command(self, program, folder):
        return [program[0] + "-fp", *program[1:]], self.environment


class Idle(Variant):
    """Instructions that do nothing, in malloc and free together: see idle.c."""

    def __init__(self, count):
        super().__init__(f"{count} idle instructions")
        self.preloaded = BUILD / f"idle-{count}.so"
        self.environment = {"LD_PRELOAD": str(self.preloaded)}

    def missing(self):
        return None if self.preloaded.exists() else f"{self.preloaded.name} is not built"

    def command(self, program, folder):
        return program, self.environment


class Heaptrack(Variant):
    """With its interpreter beside it, as it is used."""

    slow = 3
    tells_status = False

    def __init__(self):
        super().__init__("heaptrack")

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


def profilers():
    """The heap profilers of jemalloc and tcmalloc, recording every allocation."""
    return [
        Preload("jemalloc prof", JEMALLOC, slow=40, base="jemalloc",
                MALLOC_CONF="prof:true,lg_prof_sample:0"),
        Preload("gperftools", TCMALLOC, slow=150, base="tcmalloc", HEAPPROFILE="%s",
                HEAP_PROFILE_ALLOCATION_INTERVAL="0", HEAP_PROFILE_INUSE_INTERVAL="0"),
    ]


def allocators():
    """The profilers, each behind its allocator alone."""
    jemalloc, tcmalloc = profilers()
    return [Preload("jemalloc", JEMALLOC), jemalloc, Preload("tcmalloc", TCMALLOC), tcmalloc]


class Failed(Exception):
    """A run ended badly; the text is one line."""


# What the peers and programs come from, by the file that tells that it is there.
PACKAGES = {"heaptrack": "heaptrack", "valgrind": "valgrind", "addr2line": "binutils",
            "eu-addr2line": "elfutils", "llvm-symbolizer": "llvm", "sqlite3": "sqlite3",
            "redis-server": "redis-server", "redis-benchmark": "redis-tools",
            "xmllint": "libxml2-utils", "perl": "perl", "gawk": "gawk", "g++": "g++",
            str(JEMALLOC): "libjemalloc2", str(TCMALLOC): "libgoogle-perftools4",
            os.path.realpath(PYTHON) + "d": "python3-dbg"}


def not_installed():
    """A line for each thing that is not on this machine, with how to have it."""
    return [f"{os.path.basename(name)}: apt-get install {package}"
            for name, package in PACKAGES.items() if not shutil.which(name)
            and not os.path.exists(name)]


def environment_of(*parts):
    """The environment, with all libraries of the parts preloaded, the last part's first."""
    preloaded = [part["LD_PRELOAD"] for part in reversed(parts) if "LD_PRELOAD" in part]
    result = dict(os.environ)
    for part in parts:
        result.update(part)
    if preloaded:
        result["LD_PRELOAD"] = " ".join(preloaded)
    return result


def run(variant, program, environment=None, timeout=60):
    """Runs the program; returns (standard output, standard error).

    What it has started ends with it: a peer's evaluation must not disturb the next run.
    """
    with tempfile.TemporaryDirectory(prefix="run-", dir=BUILD) as folder:
        command, additions = variant.command([str(each) for each in program], folder)
        process = subprocess.Popen(command, env=environment_of(environment or {}, additions),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, errors="replace",
                                   cwd=folder, start_new_session=True)
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"longer than {timeout} s") from None
        finally:
            end_session(process)
    if process.returncode != 0 and variant.tells_status:
        last = (errors.strip() or "no message").splitlines()[-1]
        raise Failed(f"status {process.returncode}: {last[:80]}")
    return output, errors


def processes_of_session(session):
    """The folders in /proc of the processes of a session."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            # The name, in parentheses, may hold anything.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        if int(fields[3]) == session:
            found.append(folder)
    return found


def end_session(process):
    """Ends a process that was started in a session of its own, and all that it started; also
    what gdb has started, which puts it into a group of its own."""
    for folder in processes_of_session(process.pid):
        try:
            os.kill(int(folder.name), signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()
