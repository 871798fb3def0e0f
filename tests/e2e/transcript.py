"""Plays a session file at a real prompt and writes down what a person would see.

    tests/e2e/transcript.py examples/leak.gdb >examples/leak.txt
    tests/e2e/transcript.py examples/top10.py >examples/top10.py.txt

A session is a file of gdb commands or a Python script for gdb; either names its
program where it says how to run it.

The folder that holds the sources becomes /src/tm; the rest is kept as it was on the
day.  Before a transcript is compared, what differs from run to run is made equal in
both, and nothing else:
    addresses of six hex digits and more     0xADDRESS
    `(38 ms)`, `(2 s)`                       (N ms), (N s)
    line numbers in libc's own sources       N
    process and thread numbers               N
    dates with times of day                  DATE
Lines that gdb prints about its own work (reading symbols, libthread_db, missing
source files of libraries) are left out, as are the session's `set` commands.

May use gdbsession.  Must never round or drop a number of tm's own.
"""
import pathlib
import re
import sys

from gdbsession import ROOT, Session

SOURCES = re.compile(re.escape(str(ROOT)) + r"(?=[/\s]|$)")
REPLACEMENTS = [
    (re.compile(r"\b0x[0-9a-f]{6,}\b"), "0xADDRESS"),
    (re.compile(r"\(\d+ (ms|s)\)"), r"(N \1)"),
    (re.compile(r'(File "\./[^"]*", line) \d+'), r"\1 N"),
    (re.compile(r"\b(LWP|process|pid|live) \d+"), r"\1 N"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b"), "DATE"),
]
PROGRAM = re.compile(r"gdb -q -x .* build/examples/(\w+)$", re.MULTILINE)
NOISE = re.compile(r"\[Thread debugging using|Using host libthread_db|Reading symbols from|"
                   r"warning: Source file is more recent|Downloading|\[(New )?Thread 0x|"
                   r"\[Switching to Thread|\d+\tin \.|\d+\t\./|"
                   r".*: No such file or directory\.$")


def tidy(text):
    """What gdb printed, without its own chatter and this machine's folders."""
    lines = SOURCES.sub("/src/tm", text).split("\n")
    return "\n".join(line.rstrip() for line in lines if not NOISE.match(line)).strip("\n")


def normalise(text):
    """A transcript with everything made equal that differs from run to run."""
    for pattern, replacement in REPLACEMENTS:
        text = pattern.sub(replacement, text)
    return text


def commands(session_file):
    path = pathlib.Path(session_file).resolve()
    if path.suffix == ".py":
        return ["source gdb-plugin/tm-gdb.py", f"source {path.relative_to(ROOT)}"]
    return [line for line in path.read_text().splitlines()
            if line.strip() and not line.startswith("#")]


def program_of(session_file):
    """The program that a session is about."""
    text = pathlib.Path(session_file).read_text()
    return ROOT / "build" / "examples" / PROGRAM.search(text).group(1)


def play(session_file):
    """The transcript of a session file as one text."""
    shown = []
    with Session(program_of(session_file), plugin=False) as gdb:
        for line in commands(session_file):
            text = tidy(gdb.run(line))
            if not line.startswith("set "):
                shown.append(f"(gdb) {line}\n" + (text + "\n" if text else ""))
    return "".join(shown)


if __name__ == "__main__":
    sys.stdout.write(play(sys.argv[1]))
