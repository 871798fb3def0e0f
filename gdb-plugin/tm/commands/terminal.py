"""The line that shows the progress of long work on gdb's own terminal.

May use: gdb, to ask what this session is.  Writes to the terminal itself: what
goes through gdb.write would end up in `pipe`, in a log or in a string, and this
line is for none of them.  Must leave nothing of it on the screen.
"""

import contextlib
import os
import time
from typing import Callable, Iterator, List, Optional

import gdb

from tm import progress
from tm.progress import Step
from tm.statistics import format_size

TERMINAL = 1  # the descriptor of gdb's standard output
DELAY = 0.5  # seconds of work before it is shown
PERIOD = 0.1  # seconds between two pictures of it
BAR = 20  # columns, where there is room
ERASE_TO_END = "\x1b[K"  # of the line (ECMA-48, EL)


class ProgressLine:
    """One line, overwritten; a listener for tm.progress."""

    def __init__(self, descriptor: int = TERMINAL,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._descriptor = descriptor
        self._clock = clock
        self._due = clock() + DELAY
        self._is_shown = False

    def __call__(self, step: Step, done: int) -> None:
        now = self._clock()
        if now < self._due:
            return
        self._due = now + PERIOD
        columns = os.get_terminal_size(self._descriptor).columns or 80
        text = "".join(character if " " <= character <= "~" else "?"  # also in names of files
                       for character in line_text(step, done, columns - 1))
        self._is_shown = True  # first: Ctrl-C may come between the two
        self._write("\r" + text + ERASE_TO_END)

    def clear(self) -> None:
        """Takes the line off the screen; work that goes on is shown after a new delay."""
        if self._is_shown:
            self._write("\r" + ERASE_TO_END)
            self._is_shown = False
        self._due = self._clock() + DELAY

    def _write(self, text: str) -> None:
        gdb.flush()
        os.write(self._descriptor, text.encode("ascii"))


def line_text(step: Step, done: int, columns: int) -> str:
    """`Finding names  [#####     ]  45%`, in at most so many columns."""
    if step.total is None:
        amount = format_size(done) if step.is_bytes else str(done)
        return ("%s: %s" % (step.text, amount))[:columns]
    share = min(1.0, done / step.total) if step.total else 1.0
    text = "%s  %3d%%" % (step.text, int(share * 100))
    if len(text) + BAR + 4 <= columns:
        text = "%s  [%s]  %3d%%" % (step.text, ("#" * int(share * BAR)).ljust(BAR),
                                    int(share * 100))
    return text[:columns]


# ---- whether this session has a terminal ---------------------------------------


def _gdb_options() -> List[str]:
    """The options this gdb was started with, without those of its program."""
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read().decode("utf-8", "replace").split("\0")[1:]
    return words[:words.index("--args")] if "--args" in words else words


def _is_for_people(options: List[str]) -> bool:
    """False in batch mode, and where the interpreter is a machine's (mi, dap)."""
    for place, word in enumerate(options):
        name, _equals, value = word.replace("--", "-", 1).partition("=")
        if name.startswith("-bat"):
            return False
        if name == "-i" or name.startswith("-int"):
            value = value or "".join(options[place + 1:place + 2])
            if value.startswith(("mi", "dap")):
                return False
    return True


def _is_drawn_by_tui() -> bool:
    try:
        return "not active" not in gdb.execute("info win", to_string=True)
    except gdb.error:
        return False  # a gdb that was built without it


def is_for_people() -> bool:
    """Whether this gdb's output goes to a terminal that understands escape sequences."""
    return os.isatty(TERMINAL) and os.environ.get("TERM", "dumb") != "dumb" \
        and _is_for_people(_gdb_options())


def has_place() -> bool:
    """Whether a line that is overwritten makes sense in this session, now."""
    return is_for_people() and not _is_drawn_by_tui()


_line: Optional[ProgressLine] = None


@contextlib.contextmanager
def progress_shown() -> Iterator[None]:
    """Shows the progress of the work inside, where there is a place for it."""
    global _line
    before, _line = _line, ProgressLine() if has_place() else None
    try:
        with progress.told_to(_line):
            yield
    finally:
        clear_line()
        _line = before


def clear_line() -> None:
    """To be called before anything else is written."""
    if _line is not None:
        _line.clear()
