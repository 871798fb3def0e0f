"""`set tm …` and `show tm …`.

May use: gdb, and _tm for the layout's constants.  Must never touch the
inferior: changing a setting only changes what later commands do.
"""

from typing import Any, List, Optional, Tuple, Type

import gdb

import _tm

MAX_FRAMES = _tm.layout["MAX_FRAMES"]


class SetTm(gdb.Command):
    """Settings of tm, the tracer of memory blocks."""

    def __init__(self) -> None:
        super().__init__("set tm", gdb.COMMAND_DATA, prefix=True)

    def invoke(self, text: str, from_tty: bool) -> None:
        if text.strip():
            raise gdb.GdbError('Undefined set tm command: "%s".  Try "help set tm".'
                               % text.split()[0])
        gdb.execute("help set tm", from_tty)


class ShowTm(gdb.Command):
    """Show the settings of tm, the tracer of memory blocks."""

    def __init__(self) -> None:
        super().__init__("show tm", gdb.COMMAND_DATA, prefix=True)

    def invoke(self, text: str, from_tty: bool) -> None:
        if text.strip():
            raise gdb.GdbError('Undefined show tm command: "%s".  Try "help show tm".'
                               % text.split()[0])
        for setting in SETTINGS:
            gdb.write("%s:  " % setting.name.split()[1])
            gdb.execute("show " + setting.name)


class Setting(gdb.Parameter):
    """A setting; subclasses declare name, kind, default, what and shown."""

    name = ""
    kind = gdb.PARAM_BOOLEAN
    choices: Optional[List[str]] = None
    default: Any = True
    what = ""   # "Set" + what: the first line of the help
    shown = ""  # the text of `show`, with %s for the value
    more = ""   # the rest of the help
    range: Optional[Tuple[int, int]] = None  # of a number

    def __init__(self, start_value: Any) -> None:
        self.set_doc = "Set " + self.what + "."
        self.show_doc = "Show " + self.what + "."
        self.__doc__ = self.more or self.set_doc
        if self.choices is None:
            super().__init__(self.name, gdb.COMMAND_DATA, self.kind)
        else:
            super().__init__(self.name, gdb.COMMAND_DATA, self.kind, self.choices)
        self.value = start_value
        self.accepted = start_value

    def get_set_string(self) -> str:
        problem = self.problem()
        if problem:
            self.value = self.accepted
            raise gdb.GdbError(problem)
        self.accepted = 0 if self.value is None else self.value
        return ""

    def problem(self) -> Optional[str]:
        """Why the value just set is refused, or None."""
        low, high = self.range or (None, None)
        if low is None or low <= self.value <= high:
            return None
        return "%s must be a number from %d to %d, not %d." % (self.name, low, high, self.value)

    def get_show_string(self, value: str) -> str:
        return self.shown % value


class Frames(Setting):
    name = "tm frames"
    kind = gdb.PARAM_ZINTEGER
    default = 1
    what = "how many frames a traceback keeps when \"tm start\" does not say"
    shown = "The number of frames a traceback keeps is %s."
    more = ("From 1 to %d.  A traceback keeps its most recent frames.  Takes effect at the\n"
            "next \"tm start\"." % MAX_FRAMES)
    range = (1, MAX_FRAMES)


class Limit(Setting):
    name = "tm limit"
    kind = gdb.PARAM_UINTEGER
    default = 10
    what = "how many lines a report of tm shows"
    shown = "The number of lines a report of tm shows is %s."
    more = "A number, or \"unlimited\".  The option -limit of the reports overrides it."


class Inline(Setting):
    name = "tm inline"
    what = "whether inlined calls are frames of their own"
    shown = "Showing inlined calls as frames of their own is %s."
    more = "When off, an inlined call is folded into the function that contains it."


class Filename(Setting):
    name = "tm filename"
    kind = gdb.PARAM_ENUM
    choices = ["full", "basename", "relative"]
    default = "full"
    what = "how reports of tm show the names of source files"
    shown = "Reports of tm show the names of source files as \"%s\"."
    more = ("full     - as the debug information has them, directory included\n"
            "basename - without the directory\n"
            "relative - relative to gdb's working directory, for files below it")


class SkipAllocators(Setting):
    name = "tm skip-allocators"
    what = "whether allocators calling each other are left out of tracebacks"
    shown = "Leaving frames of allocators out at the recent end of tracebacks is %s."
    more = ("When on, frames inside allocators (such as \"operator new\" calling malloc) and\n"
            "those named with \"tm skip\" do not count as the most recent frame.")


class FollowExec(Setting):
    name = "tm follow-exec"
    default = False
    what = "whether tracing goes on in the new program after an exec"
    shown = "Tracing the new program after an exec is %s."
    more = "An exec replaces the program and with it the trace table.  When on, tm starts anew."


SETTINGS: List[Setting] = []


def register() -> None:
    """Define the settings, or define them again with the values they have."""
    kinds = (Frames, Limit, Inline, Filename, SkipAllocators, FollowExec)
    values = [_present_value(kind) for kind in kinds]  # before the prefixes are made anew
    SetTm()
    ShowTm()
    SETTINGS[:] = [kind(start_value) for kind, start_value in zip(kinds, values)]


def _present_value(kind: Type[Setting]) -> Any:
    try:
        present = gdb.parameter(kind.name)
    except RuntimeError:
        return kind.default
    return 0 if present is None else present  # 0 is how "unlimited" is stored


def value(name: str) -> Any:
    """The value of `tm NAME`; None is "unlimited"."""
    return gdb.parameter("tm " + name)
