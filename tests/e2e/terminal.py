"""A gdb on a terminal of its own, and what a person sees of it.

May use the standard library and gdbsession's settings.  Must never import gdb.
"""
import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import tempfile
import termios
import time

from gdbsession import LIMIT, PLUGIN, ROOT

PROMPT = "(gdb) "
SETTINGS = ["set confirm off", "set debuginfod enabled off", "set print thread-events off",
            "set print inferior-events off", "set startup-with-shell on"]


class Terminal:
    """A program on a terminal of `columns` and `rows`; `run` types a line at gdb's prompt."""

    def __init__(self, *arguments, columns=80, rows=24, environment=(), settings=(),
                 plugin=True):
        self.home = tempfile.TemporaryDirectory(prefix="tm-gdb-home-")
        command = ["/usr/bin/gdb", "-nx", "-q"]
        for setting in [*SETTINGS, *settings]:
            command += ["-iex", setting]
        variables = dict(os.environ, LC_ALL="C.UTF-8", TERM="xterm", HOME=self.home.name,
                         **dict(environment))
        for name in ("LINES", "COLUMNS"):
            variables.pop(name, None)
        if plugin:
            command += ["-ex", f"source {PLUGIN}"]
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execve(command[0], [*command, *map(str, arguments)], variables)
        self.resize(columns, rows)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.raw = ""
        self.pending = ""
        self.wait()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.descriptor)
        os.waitpid(self.pid, 0)
        self.home.cleanup()

    def resize(self, columns, rows):
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.descriptor, text.encode())

    def wait(self, text=PROMPT, timeout=LIMIT):
        """All that came until `text` did, as it came."""
        end = time.monotonic() + timeout
        while text not in self.pending:
            ready = select.select([self.descriptor], [], [], max(0, end - time.monotonic()))[0]
            if not ready:
                raise AssertionError(f"no {text!r} in {timeout} s: {self.raw}{self.pending}")
            self.pending += self.decoder.decode(os.read(self.descriptor, 65536))
        found, self.pending = self.pending.split(text, 1)
        self.raw += found + text
        return found

    def run(self, line, timeout=LIMIT):
        """What the line printed, as it came, without the line itself."""
        self.type(line + "\n")
        text = self.wait(timeout=timeout)
        return text.split("\n", 1)[1] if "\n" in text else text


def seen(raw):
    """What is left on the screen, line by line, without colours."""
    raw = re.sub(r"\x1b\[(\?\d+[hl]|[\d;]*m)", "", raw)
    lines = []
    for line in raw.replace("\r\n", "\n").split("\n"):
        shown, column = [], 0
        for piece in re.split(r"(\r|\x1b\[K)", line):
            if piece == "\r":
                column = 0
            elif piece == "\x1b[K":
                del shown[column:]
            else:
                shown[column:column + len(piece)] = piece
                column += len(piece)
        lines.append("".join(shown).rstrip())
    return "\n".join(lines).strip("\n")
