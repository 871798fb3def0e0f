"""What the loader of dump files may answer, and inputs to start from: for fuzz_dump.

May use the standard library, tm and _tm.  Must never let an exception pass that
`tm load` would not turn into one line.
"""
import hashlib
import os

import _tm
import tm
from tm import dumpfile
from tm.errors import TmError
from tm.tracebacks import Frame

_file = os.memfd_create("dump")
_path = "/proc/self/fd/%d" % _file


def _wrapped(payload, method):
    """A payload as a file whose sizes and checksum are right."""
    body = _tm.compress(payload) if method == dumpfile.ZSTD else payload
    fields = (dumpfile.MAGIC, dumpfile.FORMAT, dumpfile._HEADER.size, len(payload), len(body),
              method, 0, b"fuzz")
    digest = hashlib.sha256(dumpfile._HEADER.pack(*fields, b"") + body).digest()
    return dumpfile._HEADER.pack(*fields, digest) + body


def try_dump(data):
    """Load a file: a whole one (first byte 0), or a payload put into one (1: plain, 2: zstd)."""
    way, content = data[:1], data[1:]
    if way in (b"\1", b"\2"):
        content = _wrapped(content, dumpfile.ZSTD if way == b"\2" else dumpfile.RAW)
    os.ftruncate(_file, 0)
    os.pwrite(_file, content, 0)
    try:
        snapshot = dumpfile.load(_path)
    except TmError as error:
        if "\n" in str(error):
            raise AssertionError("an error of more than one line: %r" % str(error)) from error
        return
    for key in ("lineno", "filename", "function", "traceback"):
        for statistic in snapshot.statistics(key):
            str(statistic)
    sum(trace.size for trace in snapshot.traces)


def seeds():
    """Small dumps in each way."""
    frames = [Frame("/src/a.c", line, "main", None if line == 3 else "/bin/a", line * 16, line == 2,
                    True) for line in range(1, 4)]
    paths = (frames[:1], frames, frames[1:])
    snapshot = tm.Snapshot.from_traces([(0, 32 + at, tuple(path), None)
                                        for at, path in enumerate(paths)], 10)
    payload = dumpfile._payload(snapshot, lambda filename, lineno: "int i;")
    return [b"\0" + dumpfile._file_bytes(snapshot, lambda filename, lineno: ""),
            b"\1" + payload, b"\2" + payload, b"\1" + dumpfile._payload(
                tm.Snapshot.from_traces([], 1), lambda filename, lineno: "")]
