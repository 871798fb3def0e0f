"""GDB/MI commands: the JSON documents of the console commands as MI results.

May use: gdb and the console commands by their text.  Must never make a document
of its own, so that MI and -json cannot differ.
"""

import json
from typing import Any, Sequence

import gdb

from tm import mi

NAMES = ("status", "snapshot", "top", "diff", "traceback")


def answer(name: str, arguments: Sequence[str]) -> Any:
    """What `-tm-NAME ARGUMENTS` gives."""
    try:
        text = gdb.execute(mi.console_line(name, arguments), to_string=True)
    except gdb.error as error:
        raise gdb.GdbError(str(error)) from None  # the line that the console shows
    return mi.results(json.loads(text))


def register() -> None:
    """Define `-tm-status` and the like, where gdb can (12 and newer)."""
    if not hasattr(gdb, "MICommand"):
        return

    class MachineCommand(gdb.MICommand):
        """`-tm-NAME ARGUMENTS` is what `tm NAME -json ARGUMENTS` prints."""

        def __init__(self, name: str) -> None:
            super().__init__("-tm-" + name)
            self.command = name

        def invoke(self, arguments: Sequence[str]) -> Any:
            return answer(self.command, arguments)

    for name in NAMES:
        MachineCommand(name)
