"""Source lines, found as the debugger finds them.

May use: gdb (parameters only) and the standard library.  Must never touch the
inferior, and must never fail: a source that is not there is an empty line.
"""

import linecache
import os
import re
from typing import List, Optional, Tuple

import gdb

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


def find(filename: str) -> Optional[str]:
    """Path of a source file on this machine, or None."""
    name = substitute(filename, substitutions())
    candidates = [name]
    for directory in (gdb.parameter("directories") or "").split(os.pathsep):
        if directory == "$cwd":
            directory = os.getcwd()
        if not directory or directory == "$cdir":
            continue
        candidates.append(os.path.join(directory, name.lstrip("/")))
        candidates.append(os.path.join(directory, os.path.basename(name)))
    return next((path for path in candidates if os.path.isfile(path)), None)


def line(filename: str, lineno: int) -> str:
    """The text of a source line without its indentation; "" when there is none."""
    if not filename or lineno < 1:
        return ""
    path = find(filename)
    return linecache.getline(path, lineno).strip() if path else ""


def show_name(filename: str, style: str) -> str:
    """A source file's name as `set tm filename` wants it."""
    if style == "basename":
        return os.path.basename(filename)
    if style == "relative":
        below = os.path.relpath(filename)
        return filename if below.startswith(os.pardir) else below
    return filename
