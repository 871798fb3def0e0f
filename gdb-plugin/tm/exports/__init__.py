"""Snapshots in the formats of other programs: one module for each format.

May use the standard library, the model and _tm.  Must not import gdb.  What a
file says adds up, to the byte, to what the reports say of the same snapshot.
"""

from tm.errors import TmError
from tm.tracebacks import source_line
from tm.wholefile import write_whole

FORMATS = ("pprof", "collapsed", "speedscope", "dhat", "html")
WITH_DIFFERENCES = ("pprof", "collapsed", "html")


def export_bytes(snapshot, format, old=None, find=source_line):
    """The contents of the file.

    old: what to compare with.  find, a function (filename, lineno) -> line,
    gives source lines to the formats that have a place for them.
    """
    if format not in FORMATS:
        raise ValueError("unknown format: %r (there are %s)" % (format, ", ".join(FORMATS)))
    if old is not None and format not in WITH_DIFFERENCES:
        raise TmError("The format %s has no place for differences: %s have."
                      % (format, ", ".join(WITH_DIFFERENCES)))
    if format == "pprof":
        from tm.exports import pprof
        return pprof.contents(snapshot, old)
    if format == "html":
        from tm.exports import html
        return html.contents(snapshot, old, find)
    from tm.exports import stacks
    if format == "collapsed":
        return stacks.collapsed(snapshot, old)
    return {"speedscope": stacks.speedscope, "dhat": stacks.dhat}[format](snapshot)


def export(snapshot, format, filename, old=None, find=source_line):
    """Write the file, whole or not at all; returns how many bytes it has."""
    contents = export_bytes(snapshot, format, old, find)
    write_whole(filename, contents)
    return len(contents)
