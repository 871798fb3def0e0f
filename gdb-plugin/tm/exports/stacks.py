"""Formats that are lists of call stacks: collapsed stacks (flamegraph.pl, inferno and many
more), speedscope's JSON, and the JSON of valgrind's DHAT viewer.

May use the standard library and the model.  Must not import gdb.
"""

import json

from tm import progress
from tm.exports.names import function_name, title
from tm.paint import clean
from tm.paths import Paths, function_key, line_key
from tm.version import VERSION


def _stacks(paths):
    """(keys oldest first, values) of every path that has blocks of its own."""
    for number, values in enumerate(progress.each("Writing stacks", paths.values,
                                                  len(paths.values))):
        if any(values):
            yield paths.path(number), values


def collapsed(snapshot, old=None):
    """`main;serve;malloc 126`: bytes.  With old two figures, before and after, which is
    what difffolded.pl of flame graphs makes."""
    paths = Paths([snapshot] if old is None else [snapshot, old], function_key)
    names = [function_name(frame).replace(";", ":") for frame in paths.frames]
    figures = {}
    for keys, values in _stacks(paths):
        sums = figures.setdefault(";".join(names[key] for key in keys), [0, 0])
        sums[0] += values[0]
        sums[1] += 0 if old is None else values[2]
    if old is None:
        lines = ["%s %d\n" % (stack, new) for stack, (new, _old) in figures.items()]
    else:
        lines = ["%s %d %d\n" % (stack, before, new) for stack, (new, before) in figures.items()]
    return "".join(sorted(lines)).encode("utf-8", "backslashreplace")


def _speedscope_frame(frame):
    described = {"name": function_name(frame)}
    if frame.has_line:
        described.update(file=clean(frame.filename), line=frame.lineno)
    elif frame.module:
        described["file"] = clean(frame.module)
    return described


def speedscope(snapshot):
    """Two profiles of the same stacks: bytes and blocks."""
    paths = Paths([snapshot], line_key)
    stacks = list(_stacks(paths))
    profiles = []
    for place, name, unit in ((0, "bytes", "bytes"), (1, "blocks", "none")):
        weights = [values[place] for _keys, values in stacks]
        profiles.append({"type": "sampled", "name": "%s: %s" % (title(snapshot), name),
                         "unit": unit, "startValue": 0, "endValue": sum(weights),
                         "samples": [keys for keys, _values in stacks], "weights": weights})
    document = {"$schema": "https://www.speedscope.app/file-format-schema.json",
                "exporter": "tm %s" % VERSION, "name": title(snapshot), "activeProfileIndex": 0,
                "shared": {"frames": [_speedscope_frame(frame) for frame in paths.frames]},
                "profiles": profiles}
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _dhat_frame(frame):
    address = "%#x: " % frame.address if frame.address is not None else ""
    if frame.has_line:
        place = "%s:%s" % (frame.filename, frame.lineno)
    else:
        place = "in %s" % (frame.module or "???")
    return clean("%s%s (%s)" % (address, frame.function or "???", place))


def dhat(snapshot):
    """For dh_view.html: the live blocks are what DHAT calls the total.

    What a trace table does not know (lifetimes, the global maximum, accesses)
    the format lets out.
    """
    paths = Paths([snapshot], lambda frame: line_key(frame) + (frame.address,))
    seconds = max(0.0, (snapshot.time or 0) - (snapshot.start_time or snapshot.time or 0))
    document = {"dhatFileVersion": 2, "mode": "heap", "verb": "Live", "bklt": False,
                "bkacc": False, "tu": "µs", "Mtu": "s", "tuth": 500,
                "cmd": clean("tm: %s" % title(snapshot)), "pid": snapshot.pid or 0,
                "te": int(seconds * 1e6),
                "pps": [{"tb": values[0], "tbk": values[1],
                         "fs": [key + 1 for key in reversed(keys)]}
                        for keys, values in _stacks(paths)],
                "ftbl": ["[root]"] + [_dhat_frame(frame) for frame in paths.frames]}
    return json.dumps(document, separators=(",", ":")).encode("ascii")
