"""A program on a terminal that can be looked at: tmux draws what a person would see.

May use the standard library and gdbsession's settings.  Must never touch another
tmux than its own.
"""
import os
import re
import shlex
import subprocess
import tempfile
import time

from gdbsession import CALM, LIMIT, PLUGIN, ROOT


class Screen:
    """One window of a tmux of its own, `columns` wide and `rows` high."""

    def __init__(self, command, columns=80, rows=24, environment=()):
        self.folder = tempfile.TemporaryDirectory(prefix="tm-tmux-")
        variables = dict(os.environ, LC_ALL="C.UTF-8", HOME=self.folder.name, TMUX="",
                         **dict(environment))
        for name in ("DEBUGINFOD_URLS", "LINES", "COLUMNS", "TMUX"):
            variables.pop(name, None)
        self._environment = variables
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows),
                   "cd %s && TERM=screen exec %s" % (shlex.quote(str(ROOT)), shlex.join(command)))

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        subprocess.run(["tmux", "-S", self.folder.name + "/socket", "kill-server"], check=False,
                       stderr=subprocess.DEVNULL)
        self.folder.cleanup()

    def _tmux(self, *arguments):
        return subprocess.run(["tmux", "-S", self.folder.name + "/socket", *arguments],
                              env=self._environment, stdout=subprocess.PIPE, check=True,
                              text=True).stdout

    def press(self, *keys):
        """Keys by tmux's names: Enter, Down, C-c."""
        self._tmux("send-keys", "-t", ":", *keys)

    def type(self, text):
        """Letters, as they are."""
        self._tmux("send-keys", "-t", ":", "-l", "--", text)

    def line(self, text):
        """A line typed at the prompt."""
        self.type(text)
        self.press("Enter")

    def resize(self, columns, rows):
        self._tmux("resize-window", "-t", ":", "-x", str(columns), "-y", str(rows))

    def text(self, styled=False):
        """What is on the screen."""
        return self._tmux("capture-pane", "-p", "-t", ":", *(["-e"] if styled else [])).rstrip("\n")

    def wait_for(self, pattern, timeout=LIMIT, styled=False):
        """The screen, as soon as the pattern is on it."""
        end = time.monotonic() + timeout
        while True:
            text = self.text(styled)
            if re.search(pattern, text, re.MULTILINE):
                return text
            if time.monotonic() > end:
                raise AssertionError(f"no {pattern!r} in {timeout} s on:\n{text}")
            time.sleep(0.02)


class GdbScreen(Screen):
    """gdb with the plugin, at its prompt after the given commands."""

    def __init__(self, *commands, program=(), columns=80, rows=24, settings=(), environment=()):
        line = ["/usr/bin/gdb", "-nx", "-q"]
        for setting in [*CALM, "set style enabled on", *settings]:
            if not setting.startswith(("set height", "set width 0")):
                line += ["-iex", setting]
        for each in [f"source {PLUGIN}", *commands, r"echo ready\n"]:
            line += ["-ex", each]
        super().__init__([*line, *map(str, program)], columns, rows, environment)
        self.wait_for(r"^ready\n\(gdb\)")
