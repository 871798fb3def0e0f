"""Which parts of a text are names of files and functions, and addresses.

May use the standard library.  Must not import gdb: which escape sequences make
them stand out is handed in; tm.commands.style takes gdb's own.  Must never let a
control character through: a symbol's name is the program's to choose.
"""

from typing import Callable, NamedTuple

Mark = Callable[[str], str]


def clean(text: str) -> str:
    """The text with all that does not print (controls, bidirectional marks, halves of
    characters) written as escapes."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else
                   letter.encode("unicode_escape").decode("ascii") for letter in text)


class Paint(NamedTuple):
    """How each kind of word is marked."""

    file: Mark = clean
    function: Mark = clean
    address: Mark = clean
    title: Mark = clean


PLAIN = Paint()
