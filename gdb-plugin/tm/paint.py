"""Which parts of a text are names of files and functions, and addresses.

May use the standard library.  Must not import gdb: which escape sequences make
them stand out is handed in; tm.commands.style takes gdb's own.
"""

from typing import Callable, NamedTuple

Mark = Callable[[str], str]


def plainly(text: str) -> str:
    """The text as it is."""
    return text


class Paint(NamedTuple):
    """How each kind of word is marked."""

    file: Mark = plainly
    function: Mark = plainly
    address: Mark = plainly
    title: Mark = plainly


PLAIN = Paint()
