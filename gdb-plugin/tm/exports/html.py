"""The report for a browser: one file, with all that it needs inside.

May use the standard library, the model and _tm.  Must not import gdb.
"""

import html
import time

from tm import progress
from tm.exports.names import clean, function_name, title
from tm.exports.page import assemble, asset
from tm.paths import Paths, cut_blocks, line_key, rows
from tm.grouping import domain_text
from tm.histogram import histogram
from tm.sampling import difference_notes, notes
from tm.statistics import format_size
from tm.version import VERSION

NOSCRIPT_LINES = 25


class _Names:
    """Texts that occur often, by number."""

    def __init__(self):
        self._numbers = {}

    def number(self, text):
        if text is None:
            return -1
        return self._numbers.setdefault(clean(text), len(self._numbers))

    def all(self):
        return list(self._numbers)


def _snapshot_facts(snapshot):
    return {"name": clean(str(snapshot.name)) if snapshot.name else None,
            "title": title(snapshot), "size": snapshot.size, "count": snapshot.blocks,
            "tracebacks": snapshot.tracebacks, "limit": snapshot.traceback_limit,
            "time": snapshot.time, "origin": clean(snapshot.origin) if snapshot.origin else None,
            "dropped": snapshot.dropped, "cut": cut_blocks(snapshot),
            "note": notes(snapshot).strip()}


def _sizes(snapshot):
    return [[bucket.low, bucket.high, bucket.count, bucket.size]
            for bucket in histogram((size, count, bytes_) for _node, size, count, bytes_, _domain
                                    in rows(snapshot))]


def _domains(snapshot):
    found = {}
    for _node, _size, count, bytes_, domain in rows(snapshot):
        sums = found.setdefault(domain, [0, 0])
        sums[0] += bytes_
        sums[1] += count
    return [[domain_text(domain), *sums] for domain, sums in sorted(found.items())]


def document(snapshot, old, find):
    """All that the page shows.

    nodes: by node its frame and how far before it its parent is, 0: none.  values:
    for each node that has blocks, how far it is behind the one before, its bytes and
    blocks, with old also those before.
    """
    paths = Paths([snapshot] if old is None else [snapshot, old], line_key)
    names, lines, frames = _Names(), _Names(), []
    for frame in progress.each("Reading source lines", paths.frames, len(paths.frames)):
        source = frame.source_line(find)
        frames.append([names.number(function_name(frame)),
                       names.number(frame.filename),
                       frame.lineno if frame.has_line else 0,
                       names.number(frame.module),
                       lines.number(source[:200] if source else None),
                       int(frame.inlined) + 2 * (frame.function is None)
                       + 4 * frame.has_line])
    nodes, values, last = [], [], 0
    for number, (frame, parent) in enumerate(paths.nodes):
        nodes += (frame, 0 if parent is None else number - parent)
        if any(paths.values[number]):
            values += (number - last, *paths.values[number])
            last = number
    facts = {"version": VERSION, "snapshot": _snapshot_facts(snapshot),
             "old": None if old is None else _snapshot_facts(old),
             "names": names.all(), "lines": lines.all(), "frames": frames, "nodes": nodes,
             "values": values, "sizes": _sizes(snapshot), "domains": _domains(snapshot)}
    if old is not None:
        facts["old_sizes"] = _sizes(old)
    return facts


def _plain_lines(snapshot, old):
    """The largest lines, for a browser that runs no script."""
    groups = snapshot.groups("lineno") if old is None else snapshot.differences(old, "lineno")
    return "\n".join("%s: %s" % (clean(str(statistic.traceback)), statistic.figures())
                     for statistic in groups[:NOSCRIPT_LINES])


def _heading(snapshot, old):
    if old is None:
        return "Heap of %s" % title(snapshot)
    return "Heap of %s, compared with %s" % (title(snapshot), title(old, snapshot))


def _summary(snapshot, old):
    text = "%s in %d blocks" % (format_size(snapshot.size), snapshot.blocks)
    if old is not None:
        text = "%s (%s), %d blocks (%+d)" % (
            format_size(snapshot.size), format_size(snapshot.size - old.size, True),
            snapshot.blocks, snapshot.blocks - old.blocks)
    if snapshot.time:
        text += ", %s" % time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.time))
    note = notes(snapshot) if old is None else difference_notes(old, snapshot)
    return text + (".  " + note.rstrip() if note else "")


def contents(snapshot, old, find):
    """The file."""
    return assemble("report.html", asset("report.css"), asset("report.js"),
                    document(snapshot, old, find),
                    title=html.escape(_heading(snapshot, old)),
                    summary=html.escape(_summary(snapshot, old)),
                    plain=html.escape(_plain_lines(snapshot, old)))
