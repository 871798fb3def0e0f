"""The report for a browser: one file, with all that it needs inside.

May use the standard library, the model and _tm.  Must not import gdb.
"""

import html
import time

from tm.exports.folding import FOLDED, Folded, shares, table
from tm.exports.names import function_name, title
from tm.paint import clean
from tm.exports.page import as_script, assemble, asset, script_of
from tm.paths import Paths, cut_blocks, line_key, rows
from tm.grouping import domain_text
from tm.histogram import histogram
from tm.sampling import difference_notes, notes
from tm.statistics import format_size
from tm.version import VERSION

NOSCRIPT_LINES = 25
SCRIPTS = ("text.js", "report_tables.js", "report.js")
BYTES_AT_MOST = 850_000  # of the tree and the tables; the page is to be under a megabyte
NODES_AT_MOST, NODES_AT_LEAST = 60_000, 1000
IS_FOLDED = 8  # a flag of frames
TABLES = {"line": "lineno", "function": "function", "module": "module"}


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


class _Frames:
    """The frames that the page names, numbered as they come."""

    def __init__(self, find):
        self._find = find
        self._names, self._lines = _Names(), _Names()
        self._numbers = {}
        self._described = []

    def number(self, frame, key):
        """The number of a frame, which is known by its key."""
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._described)
            source = frame.source_line(self._find)
            self._described.append([
                self._names.number(function_name(frame)), self._names.number(frame.filename),
                frame.lineno if frame.has_line else 0, self._names.number(frame.module),
                self._lines.number(source[:200] if source else None),
                int(frame.inlined) + 2 * (frame.function is None) + 4 * frame.has_line])
        return number

    def folded(self):
        """The number of the frame that stands for small calls."""
        if FOLDED not in self._numbers:
            self._numbers[FOLDED] = len(self._described)
            self._described.append([self._names.number("smaller calls"),
                                    self._names.number(""), 0, -1, -1, IS_FOLDED])
        return self._numbers[FOLDED]

    def facts(self):
        return {"names": self._names.all(), "lines": self._lines.all(),
                "frames": self._described}


def _tree(tree, number_of):
    """nodes: by node its frame and how far before it its parent is, 0: none.  values: for each
    node that has blocks, how far it is behind the one before, its bytes and blocks, and in a
    comparison those before."""
    nodes, values, last = [], [], 0
    for number, (key, parent) in enumerate(tree.nodes):
        nodes += (number_of(key), 0 if parent is None else number - parent)
        if any(tree.values[number]):
            values += (number - last, *tree.values[number])
            last = number
    return {"nodes": nodes, "values": values}


def _table(table, frames):
    return dict(table, rows=[[frames.number(frame, (frame.filename, frame.lineno, frame.has_line)),
                              *figures] for frame, *figures in table["rows"]])


def _shown(paths, find, tree, tables=None):
    """The tree, the tables and the names in them; tree is what is shown of the paths."""
    frames = _Frames(find)

    def number_of(key):
        return frames.folded() if key == FOLDED else frames.number(paths.frames[key], key)

    facts = _tree(tree, number_of)
    if tables is not None:
        facts["folded"] = {"paths": tree.paths, "sums": tree.sums, "share": tree.share,
                           "tables": {name: _table(each, frames)
                                      for name, each in tables.items()}}
    return dict(facts, **frames.facts())


def _small_enough(snapshot, old, paths, find):
    """All of the tree, or as much of it as keeps the page small."""
    limit = NODES_AT_MOST
    if len(paths.nodes) <= limit:
        facts = _shown(paths, find, paths)
        if len(as_script(facts)) <= BYTES_AT_MOST:
            return facts
    tables = {name: table(snapshot, old, key_type) for name, key_type in TABLES.items()}
    node_shares = shares(paths)
    while True:
        facts = _shown(paths, find, Folded(paths, node_shares, limit), tables)
        size = len(as_script(facts))
        if size <= BYTES_AT_MOST or limit <= NODES_AT_LEAST:
            return facts
        limit = max(NODES_AT_LEAST, int(limit * min(0.9, BYTES_AT_MOST / size)))


def document(snapshot, old, find):
    """All that the page shows."""
    paths = Paths([snapshot] if old is None else [snapshot, old], line_key)
    facts = {"version": VERSION, "snapshot": _snapshot_facts(snapshot),
             "old": None if old is None else _snapshot_facts(old),
             "sizes": _sizes(snapshot), "domains": _domains(snapshot),
             **_small_enough(snapshot, old, paths, find)}
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
    return assemble("report.html", asset("report.css"), script_of(*SCRIPTS),
                    document(snapshot, old, find),
                    title=html.escape(_heading(snapshot, old)),
                    summary=html.escape(_summary(snapshot, old)),
                    plain=html.escape(_plain_lines(snapshot, old)))
