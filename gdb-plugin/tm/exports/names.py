"""Names for people to read, whatever the names in a program are.

May use the standard library.  Must not import gdb, and must never let a control
character through: a symbol's name is the program's to choose.
"""

import os.path


def clean(text):
    """The text with all that does not print (controls, bidirectional marks, halves of
    characters) written as escapes."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else
                   letter.encode("unicode_escape").decode("ascii") for letter in text)


def function_name(frame):
    """What a viewer calls the frame."""
    if frame.function:
        return clean(frame.function)
    if frame.has_line:
        return clean("%s:%s" % (os.path.basename(frame.filename), frame.lineno))
    return clean(frame.filename)


def title(snapshot):
    """`snapshot 1 of process 42`."""
    parts = ["snapshot %s" % snapshot.name if snapshot.name else "snapshot"]
    if snapshot.pid:
        parts.append("of process %d" % snapshot.pid)
    return clean(" ".join(parts))
