"""Names for people to read, whatever the names in a program are.

May use the standard library and tm.paint.  Must not import gdb, and must never let a
control character through: a symbol's name is the program's to choose.
"""

import os.path

from tm.paint import clean


def function_name(frame):
    """What a viewer calls the frame."""
    if frame.function:
        return clean(frame.function)
    if frame.has_line:
        return clean("%s:%s" % (os.path.basename(frame.filename), frame.lineno))
    return clean(frame.filename)


def title(snapshot, beside=None):
    """`process 42, snapshot 1`; the process is not named again beside a snapshot of it."""
    parts = []
    if snapshot.pid and (beside is None or beside.pid != snapshot.pid):
        parts.append("process %d" % snapshot.pid)
    if snapshot.name and (snapshot.name != "now" or not parts):
        parts.append("snapshot %s" % snapshot.name)
    return clean(", ".join(parts) or "a snapshot")
