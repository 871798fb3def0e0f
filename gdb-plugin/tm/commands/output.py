"""What commands say, and how: text, warnings, JSON, tables.

May use: gdb.write.  Must never print by any other way, so that paging, `pipe`,
logging and MI see all of it.  Escape sequences come from tm.commands.style alone.
"""

import json
import re
import textwrap
from typing import Any, Dict, List, Sequence

import gdb

from tm.commands.terminal import clear_line


# Names come out of files and may hold anything; of what controls a terminal only styles pass.
CONTROLS = re.compile("[\\0-\\x08\\x0b-\\x1a\\x1c-\\x1f\\x7f-\\x9f]|\\x1b(?!\\[[0-9;]*m)")


def printable(text: str) -> str:
    """The text with control characters, and what the host's character set lacks, as escapes."""
    text = CONTROLS.sub(lambda found: "\\x%02x" % ord(found.group()), text)
    charset = gdb.host_charset() if hasattr(gdb, "host_charset") else "utf-8"
    try:
        return text.encode(charset, "backslashreplace").decode(charset)
    except LookupError:
        return text.encode("ascii", "backslashreplace").decode("ascii")


def write(text: str) -> None:
    """Text as it is; a last line end is added where it lacks."""
    clear_line()
    gdb.write(printable(text if text.endswith("\n") or not text else text + "\n"))


def warn(text: str) -> None:
    clear_line()
    gdb.write(printable("warning: %s\n" % text), gdb.STDERR)


def write_json(document: Dict[str, Any]) -> None:
    """One document on one line, in ASCII so that any channel carries it."""
    clear_line()
    gdb.write(json.dumps(document, separators=(",", ":")) + "\n")


def plural(count: int, singular: str, many: str = "") -> str:
    """`1 frame`, `2 frames`."""
    return "%d %s" % (count, singular if count == 1 else many or singular + "s")


def write_losses(dropped: int) -> None:
    """Where records were lost, no report is the whole truth, and says so."""
    if dropped:
        write("%s dropped: what is shown is incomplete."
              % plural(dropped, "record was", "records were"))


def wrapped(text: str, indent: str) -> List[str]:
    """The text as lines that fit `set width`; those behind the first are indented."""
    width = gdb.parameter("width")
    if not width:
        return [text]
    return textwrap.wrap(text, max(width - 1, 20), subsequent_indent=indent,
                         break_on_hyphens=False, break_long_words=False,
                         drop_whitespace=True) or [text]


def fitted(text: str) -> str:
    """Prose whose lines fit `set width`."""
    return "\n".join(line for each in text.rstrip("\n").split("\n")
                     for line in wrapped(each, "    "))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A table in the manner of `info breakpoints`; columns in `right` are numbers."""
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    lines: List[str] = []
    for row in [heads, *rows]:
        cells = [cell.rjust(width) if column in right else cell.ljust(width)
                 for column, (cell, width) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"
