"""JSON documents in the shape that GDB/MI has for results, and its command lines.

May use the standard library.  Must not import gdb.
"""

import re
from typing import Any, Sequence

_PLAIN = re.compile(r"[^\s'\"\\()\[\]{}]+")


def console_line(name: str, arguments: Sequence[str]) -> str:
    """The console command that prints the document.

    MI has taken its own quotes off; they are put back around words that the
    console would cut or join.  An expression is all that stands on the line.
    """
    if name == "traceback":
        return " ".join(["tm traceback -json", *arguments])
    return " ".join(["tm %s -json" % name, *map(_word, arguments)])


def _word(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"')


def results(value: Any) -> Any:
    """The document with what MI lacks put otherwise: null is left out of tuples (in lists
    it is ""), true and false are 1 and 0, and keys have letters, digits, _ and - alone."""
    if isinstance(value, dict):
        return {re.sub(r"[^A-Za-z0-9_-]", "_", key): results(each)
                for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [results(each) for each in value]
    if value is None:
        return ""
    return int(value) if isinstance(value, bool) else value
