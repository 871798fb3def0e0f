"""Source lines, found as the debugger finds them.

May use: gdb (parameters only) and the standard library.  Must never touch the
inferior, and must never fail: a source that is not there is an empty line.
"""

import linecache
import os
import re
from typing import Any, Dict, List, Optional, Tuple

import gdb

from tm import settings
from tm.commands import style

RULE = re.compile(r"^\s*`(.*)' -> `(.*)'\.$", re.MULTILINE)


def substitutions() -> List[Tuple[str, str]]:
    """The rules of `set substitute-path`, in order."""
    return RULE.findall(gdb.execute("show substitute-path", to_string=True))


def substitute(filename: str, rules: List[Tuple[str, str]]) -> str:
    """The first rule whose folder begins the name rewrites it."""
    for old, new in rules:
        rest = filename[len(old):]
        if filename.startswith(old) and (not rest or rest[0] == "/" or old.endswith("/")):
            return new + rest
    return filename


class Finder:
    """Finds source lines for one command, by the settings as they are now."""

    def __init__(self) -> None:
        self._rules = substitutions()
        self._folders = [os.getcwd() if folder == "$cwd" else folder
                         for folder in (gdb.parameter("directories") or "").split(os.pathsep)
                         if folder and folder != "$cdir"]
        self._paths: Dict[str, Optional[str]] = {}

    def path(self, filename: str) -> Optional[str]:
        """Where a source file is on this machine, or None."""
        if filename not in self._paths:
            name = substitute(filename, self._rules)
            candidates = [name]
            for folder in self._folders:
                candidates += [os.path.join(folder, name.lstrip("/")),
                               os.path.join(folder, os.path.basename(name))]
            self._paths[filename] = next(
                (candidate for candidate in candidates if os.path.isfile(candidate)), None)
        return self._paths[filename]

    def line(self, filename: str, lineno: int) -> str:
        """The text of a line without its indentation; "" when there is none."""
        path = self.path(filename) if filename and lineno > 0 else None
        return linecache.getline(path, lineno).strip() if path else ""


def basename(filename: str) -> str:
    return os.path.basename(filename)


def relative(filename: str) -> str:
    """Relative to gdb's folder, for files below it."""
    below = os.path.relpath(filename)
    return filename if below == os.pardir or below.startswith(os.pardir + os.sep) else below


def display() -> Dict[str, Any]:
    """How `tm.render` shows names and lines, by the settings: its keyword arguments."""
    shown: Dict[str, Any] = {"paint": style.current()}
    names = settings.value("filename")
    if names != "full":
        shown["show_name"] = basename if names == "basename" else relative
    return shown
