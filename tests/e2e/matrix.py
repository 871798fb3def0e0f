"""The matrix: every kind of process there is, from start to its end, as a table.

`make test-matrix` runs this file and prints it; test_matrix.py holds the rows
against what is wanted.  May use gdbsession; needs to be root for the rows that
unshare, chroot and change the user.
"""
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import debian_source
from gdbsession import BUILD, LIMIT, ROOT, Program, Session, build, executable_pages_differ

COLUMNS = ("start", "snapshot", "top", "traceback", "stop", "program")
BLOCKS, SIZE, STATUS = 50, 100, 7
NEEDS_ROOT = "only root may do that"


class Kind:
    """One row: how the program is built, and how it is run."""

    def __init__(self, name, flags="-g", libs="", compiler="gcc", strip=False, mode="",
                 wrap=None, needs=(), launch=None, why_not=None, source="matrix.c"):
        self.name, self.flags, self.libs, self.compiler = name, flags, libs, compiler
        self.strip, self.mode, self.wrap, self.needs = strip, mode, wrap, needs
        self.launch = launch or start_and_attach
        self.why_not, self.source = why_not, source

    @property
    def has_lines(self):
        return not self.strip

    def missing(self):
        """Why this machine cannot have the row, or None."""
        for path in self.needs:
            if not (os.path.exists(path) or shutil.which(path)):
                return f"there is no {path}"
        return self.why_not() if self.why_not else None

    def program(self):
        slug = re.sub(r"\W+", "-", self.name)
        flags = "-O1 -fno-builtin -fno-optimize-sibling-calls " + self.flags
        libs = self.libs() if callable(self.libs) else self.libs
        path = build(self.source, name=f"matrix-{slug}", flags=flags, libs=libs,
                     compiler=self.compiler)
        if self.strip:
            stripped = path + "-stripped"
            subprocess.run(["strip", "-o", stripped, path], check=True)
            return stripped
        return path


# ---- how a program is run -----------------------------------------------------

def as_it_is(stack, path):
    return [path]


def without_the_helper(stack, path):
    """A mount namespace in which neither the helper nor the program's file is where we see it."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tm-ns-"))
    elsewhere = stack.enter_context(tempfile.TemporaryDirectory(prefix="tm-from-"))
    copy = shutil.copy(path, elsewhere + "/program")
    script = (f"mount -t tmpfs none {folder} && cp {copy} {folder}/program && "
              f"mount -t tmpfs none '{BUILD}' && exec {folder}/program \"$@\"")
    return ["unshare", "-m", "sh", "-c", script, "sh"]


def in_a_pid_namespace(stack, path):
    return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", path]


def in_a_chroot(stack, path):
    """A folder with the program and its libraries, and nothing else."""
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tm-root-")))
    shutil.copy(path, folder / "program")
    for library in re.findall(r"(/\S+) \(0x", subprocess.check_output(["ldd", path], text=True)):
        target = folder / library.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    return ["chroot", str(folder), "/program"]


def as_nobody(stack, path):
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tm-nobody-"))
    os.chmod(folder, 0o755)
    copy = shutil.copy(path, folder + "/program")
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copy]


def not_root():
    return None if os.getuid() == 0 else NEEDS_ROOT


def no_namespaces(*options):
    """Why `unshare OPTIONS` cannot be used here, in a container for example; None: it can."""
    done = subprocess.run(["unshare", *options, "--fork", "true"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)
    return not_root() or (done.stderr.strip() if done.returncode else None)


class Target:
    """A running program, its gdb, and the process that is traced."""

    def __init__(self, program, gdb, pid):
        self.program, self.gdb, self.pid = program, gdb, pid

    def interrupt(self):
        os.kill(self.pid, 2)
        return self.gdb.wait()

    def end(self):
        """Without gdb, to the end: exit status and output."""
        self.gdb.run("detach")
        self.program.write("b")
        return self.program.finish()


class Served(Target):
    """One that gdbserver started; its own lines stand between the program's."""

    def end(self):
        self.gdb.send("continue")
        self.program.write("b")
        status = int(re.search(r"exited with code (\d+)", self.gdb.wait())[1], 8)
        self.gdb.run("disconnect")
        output = self.program.finish()[1]
        return status, re.search(r"ready\n(.*\n)*?sum .*\n", output)[0]


def traced_pid(program):
    """The program itself, or what `unshare --fork` started."""
    with open(f"/proc/{program.pid}/task/{program.pid}/children") as children:
        found = children.read().split()
    return int(found[0]) if found else program.pid


def start_and_attach(stack, kind):
    """The program waits for its first word; gdb attaches to it."""
    command = (kind.wrap or as_it_is)(stack, kind.program())
    program = stack.enter_context(Program(*command, *filter(None, [kind.mode])))
    program.wait_for("ready")
    target = Target(program, None, traced_pid(program))
    target.gdb = stack.enter_context(Session())
    text = target.gdb.run(f"attach {target.pid}")
    if "ptrace" in text or "No such process" in text:
        raise AssertionError(text)
    return target


def start_under_gdbserver(stack, kind):
    program = stack.enter_context(Program("gdbserver", "--once", "127.0.0.1:0", kind.program()))
    port = re.search(r"port (\d+)\n", wait_for_line(program, "Listening on port "))[1]
    gdb = stack.enter_context(Session())
    gdb.run(f"target remote 127.0.0.1:{port}")
    target = Served(program, gdb, traced_pid(program))
    gdb.send("continue")
    program.wait_for("ready")
    target.interrupt()
    return target


def wait_for_line(program, beginning):
    """The program's output, once a whole line that begins like this is there."""
    text = program.wait_for(beginning)
    while "\n" not in text.rpartition(beginning)[2]:
        if not program.read(LIMIT):
            raise AssertionError(f"only a part of a line: {text!r}")
        text = program.output.decode()
    return text


# ---- the rows -----------------------------------------------------------------

MUSL = {"compiler": "musl-gcc", "needs": ("musl-gcc",)}
KINDS = [
    Kind("glibc, dynamic"),
    Kind("glibc, static", "-g -static"),
    Kind("glibc, static-pie", "-g -static-pie"),
    Kind("glibc, not PIE", "-g -no-pie"),
    Kind("glibc, stripped", strip=True),
    Kind("glibc, static, stripped", "-g -static", strip=True),
    Kind("musl, dynamic", **MUSL),
    Kind("musl, static", "-g -static", **MUSL),
    Kind("musl, stripped", strip=True, **MUSL),
    Kind("jemalloc, shared", libs="-ljemalloc"),
    Kind("jemalloc, linked in", libs="-Wl,-Bstatic -ljemalloc -Wl,-Bdynamic -lm -lstdc++"),
    Kind("tcmalloc, shared", libs="-Wl,--no-as-needed -ltcmalloc_minimal"),
    Kind("tcmalloc, linked in", libs="-Wl,--whole-archive -l:libtcmalloc_minimal.a "
         "-Wl,--no-whole-archive -lstdc++ -lm -lpthread"),
    Kind("mimalloc, shared", libs="-Wl,--no-as-needed -lmimalloc"),
    # Debian has it as a shared library alone.
    Kind("mimalloc, linked in", libs=lambda: f"'{debian_source.mimalloc()}' -lpthread",
         why_not=lambda: debian_source.why_not("mimalloc")),
    Kind("own malloc", "-g -DOWN"),
    Kind("other mount namespace", wrap=without_the_helper,
         why_not=lambda: no_namespaces("--mount")),
    Kind("other PID namespace", wrap=in_a_pid_namespace,
         why_not=lambda: no_namespaces("--pid", "--mount-proc")),
    Kind("chroot", wrap=in_a_chroot, why_not=not_root),
    Kind("other user", wrap=as_nobody, why_not=not_root),
    Kind("seccomp filter", mode="filter"),
    Kind("seccomp filter, static", "-g -static", mode="filter"),
    Kind("strict seccomp", mode="strict"),
    Kind("address space limit", mode="limit"),
    Kind("32-bit", "-m32 -nostdlib -static", source="matrix32.c"),
    Kind("gdbserver", launch=start_under_gdbserver, needs=("gdbserver",)),
]


def source_lines():
    source = (ROOT / "tests" / "e2e" / "matrix.c").read_text().splitlines()
    return {match[1]: number for number, text in enumerate(source, 1)
            for match in [re.search(r"/\* line: (\w+) \*/", text)] if match}


class Row:
    """Runs one kind; `cells` says of each column "ok", or quotes what was said instead."""

    def __init__(self, kind):
        self.kind, self.cells = kind, {}
        self.missing = kind.missing()

    def run(self):
        if self.missing:
            self.cells = {column: f"not here: {self.missing}" for column in COLUMNS}
            return self
        with contextlib.ExitStack() as stack:
            try:
                self.target = self.kind.launch(stack, self.kind)
                self.gdb = self.target.gdb
                self.trace()
            except (AssertionError, OSError) as problem:
                for column in COLUMNS:
                    self.cells.setdefault(column, f"FAILED: {problem}")
        return self

    def trace(self):
        self.cell("start", self.gdb.run("tm start 10"), r"\ATracing 10 frames: .*\Z")
        self.gdb.send("continue")
        self.target.program.write("a")
        text = wait_for_line(self.target.program, "allocated ")
        self.block = int(text.rpartition("allocated ")[2].split()[0], 16)
        self.target.interrupt()
        self.cell("snapshot", self.gdb.run("tm snapshot 1"),
                  r"\ASnapshot 1: \d+ blocks?, .*\Z", self.is_counted)
        self.cell("top", self.gdb.run("tm top lineno -json -limit unlimited"), r"\A\{",
                  self.is_right_top)
        self.cell("traceback", self.gdb.run(f"tm traceback {self.block + 3:#x} -json"), r"\A\{",
                  self.is_right_traceback)
        self.cell("stop", self.gdb.run("tm stop"), r"\ATracing stopped: .* restored\.\Z",
                  self.is_restored)
        wanted = f"ready\nallocated {self.block:#x}\nsum {sum(range(BLOCKS))}\n"
        status, output = self.target.end()
        right = output == wanted and status == STATUS
        self.cells["program"] = "ok" if right else f"FAILED: status {status}, {output!r}"

    def cell(self, column, text, pattern, check=None):
        if re.search(pattern, text, re.DOTALL):
            wrong = check(text) if check else None
            self.cells[column] = f"FAILED: {wrong}" if wrong else "ok"
        elif "\n" in text or not text:
            self.cells[column] = f"FAILED: {text}"
        else:
            self.cells[column] = f'"{text}"'

    def is_counted(self, text):
        snapshot = self.gdb.json("tm status -json")
        if snapshot["dropped"] and self.kind.mode != "limit":
            return f"{snapshot['dropped']} dropped"
        return None if snapshot["blocks"] >= BLOCKS else f"{snapshot['blocks']} blocks"

    def is_right_top(self, text):
        lines = source_lines()
        if self.kind.has_lines:
            found = [(each["lineno"], each["size"], each["count"])
                     for each in json.loads(text)["statistics"]
                     if (each["filename"] or "").endswith("matrix.c")]
            wanted = [(lines["kept"], BLOCKS * SIZE, BLOCKS)]
        else:
            found = [(each["size"], each["count"])
                     for each in self.gdb.json("tm top module -json")["statistics"]
                     if each["module"].endswith("-stripped")]
            wanted = [(BLOCKS * SIZE, BLOCKS)]
        return None if found == wanted else f"{found} instead of {wanted}"

    def is_right_traceback(self, text):
        document, lines = json.loads(text), source_lines()
        if document["block"] is None or document["size"] != SIZE:
            return f"{document}"
        frames = document["frames"]
        if self.kind.has_lines:
            found = [each["lineno"] for each in frames
                     if (each["filename"] or "").endswith("matrix.c")]
            wanted = [lines["main"], lines["work"], lines["kept"]]
        else:
            found = [(each["module"] or "").endswith("-stripped") for each in frames[-3:]]
            wanted = [True, True, True]
        return None if found == wanted else f"{found} instead of {wanted}"

    def is_restored(self, text):
        changed = executable_pages_differ(self.target.pid)
        return f"changed: {changed}" if changed else None


def run_rows(kinds=None):
    for kind in kinds or KINDS:
        yield Row(kind).run()


def print_table(rows):
    """Prints each row as soon as it is there; the sentences that were quoted come last."""
    width = max(len(kind.name) for kind in KINDS)
    said = []
    print("  ".join([f"{'':{width}}"] + [f"{column:9}" for column in COLUMNS]))
    failed = 0
    for row in rows:
        shown = []
        for column in COLUMNS:
            text = row.cells[column]
            failed += text.startswith("FAILED")
            if text != "ok":
                if text not in said:
                    said.append(text)
                text = f"[{said.index(text) + 1}]"
            shown.append(f"{text:9}")
        print("  ".join([f"{row.kind.name:{width}}"] + shown).rstrip(), flush=True)
    for number, text in enumerate(said, 1):
        print(f"[{number}] {text}")
    return failed


if __name__ == "__main__":
    chosen = [kind for kind in KINDS
              if not sys.argv[1:] or any(name in kind.name for name in sys.argv[1:])]
    sys.exit(1 if print_table(run_rows(chosen)) else 0)
