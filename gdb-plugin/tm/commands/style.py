"""Colors in the way of gdb's own: `set style enabled` and `show style filename`.

May use: gdb (parameters and the history), tm.paint, tm.commands.terminal.  Must
be plain whenever what is written may go anywhere but to a person's terminal.
"""

import os
import re

import gdb

from tm.commands import terminal
from tm.commands.history import last_history_entry
from tm.paint import PLAIN, Mark, Paint, clean

COLORS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
INTENSITIES = {"bold": 1, "dim": 2}  # ECMA-48, SGR
RESET = "\x1b[m"

_paint = PLAIN


def current() -> Paint:
    """How the command that runs now marks its words."""
    return _paint


def begin(from_tty: bool) -> None:
    """A command begins."""
    global _paint
    _paint = chosen() if from_tty and is_for_the_terminal() else PLAIN


def chosen() -> Paint:
    """What the user has chosen for gdb's own words."""
    return Paint(_mark("filename"), _mark("function"), _mark("address"), _mark("title"))


def _mark(kind: str) -> Mark:
    codes = []
    for part, base in (("foreground", 30), ("background", 40)):
        color = gdb.parameter("style %s %s" % (kind, part))
        if color in COLORS:
            codes.append(base + COLORS.index(color))
    intensity = gdb.parameter("style %s intensity" % kind)
    if intensity in INTENSITIES:
        codes.append(INTENSITIES[intensity])
    if not codes:
        return clean
    start = "\x1b[%sm" % ";".join(map(str, codes))
    return lambda text: start + clean(text) + RESET


def is_wanted() -> bool:
    """Whether there are to be colors at all."""
    return bool(gdb.parameter("style enabled")) and not os.environ.get("NO_COLOR")


def is_for_the_terminal() -> bool:
    """Whether this command writes to a terminal where colors are wanted."""
    return is_wanted() and is_typed()


def is_typed() -> bool:
    """Whether this command was typed by a person and writes to the terminal.

    gdb tells nobody where its output goes.  But `pipe` and its like are words at
    the beginning of the line that was typed, and the line is in the history.
    """
    if gdb.parameter("logging enabled") and gdb.parameter("logging redirect"):
        return False
    typed = re.sub(r"^\s*\d+\s+", "", last_history_entry())
    typed = re.sub(r"^\s*with\s.*?\s--\s", "", typed)
    return bool(re.match(r"\s*tm\b", typed)) and terminal.is_for_people()
