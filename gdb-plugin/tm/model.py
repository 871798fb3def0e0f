"""Snapshots and what is in them: the classes of CPython's tracemalloc, for native code.

A snapshot keeps its traces as arrays that `_tm` works on: rows of equal
blocks, and a tree of frames.  Python objects are made when they are asked for.
May use the standard library and _tm.  Must not import gdb.
"""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import _tm

from tm.filters import BaseFilter, DomainFilter, Filter
from tm.grouping import ALL, PAGE, Groups, Keys, check_key_type, domain_text, mode_of
from tm.sampling import sample_weight
from tm.skipping import folding_flags, skipping_flags
from tm.statistics import Statistic, StatisticDiff, format_size
from tm.tracebacks import Frame, Traceback

__all__ = ["BaseFilter", "Block", "DomainFilter", "Filter", "Frame", "Snapshot", "Statistic",
           "StatisticDiff", "Trace", "Traceback", "domain_text", "format_size"]

_format_size = format_size  # its name in tracemalloc

_ROW = struct.Struct(_tm.ROW_FORMAT)
_NODE = struct.Struct(_tm.NODE_FORMAT)
_NO_NODE = _tm.layout["NO_NODE"]
_LARGEST = 2 ** 63 - 1


class Block(NamedTuple):
    """A live block and where it was allocated."""

    address: int
    size: int
    domain: int
    traceback: Traceback


class Trace:
    """Trace of a block."""

    __slots__ = ("_trace",)

    def __init__(self, trace):
        # trace is (domain, size, frames most recent first[, total_nframe])
        domain, size, frames, *total = trace
        self._trace = (domain, size, tuple(_as_frame(frame) for frame in frames), *total)

    @property
    def domain(self):
        return self._trace[0]

    @property
    def size(self):
        return self._trace[1]

    @property
    def traceback(self):
        return Traceback(*self._trace[2:])

    def __eq__(self, other):
        if not isinstance(other, Trace):
            return NotImplemented
        return self._trace == other._trace

    def __hash__(self):
        return hash(self._trace)

    def __str__(self):
        return "%s: %s" % (self.traceback, format_size(self.size))

    def __repr__(self):
        return ("<Trace domain=%s size=%s, traceback=%r>"
                % (self.domain, format_size(self.size), self.traceback))


def _as_frame(frame):
    return frame if isinstance(frame, Frame) else Frame(frame)


class _Traces(Sequence):
    """The traces of a snapshot, one for each recorded block, made when asked for."""

    def __init__(self, snapshot):
        Sequence.__init__(self)
        self._snapshot = snapshot
        self._ends = None  # by row: how many blocks it and those before it are

    def __len__(self):
        return self._snapshot.recorded

    def _row_of(self, index):
        if self._ends is None:
            self._ends = list(accumulate(row[1] for row in self._snapshot._iterate_rows()))
        return bisect_right(self._ends, index)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError("no such trace")
        return self._snapshot._trace(self._snapshot._row(self._row_of(index)))

    def __iter__(self):
        for row in self._snapshot._iterate_rows():
            trace = self._snapshot._trace(row)
            for _ in range(row[1]):
                yield trace

    def __contains__(self, trace):
        return any(trace == mine for mine, _count in self._snapshot.rows())

    def __eq__(self, other):
        if not isinstance(other, _Traces):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other))

    __hash__ = None

    def __repr__(self):
        return "<Traces len=%s>" % len(self)


class Snapshot:
    """The traced blocks of one moment."""

    def __init__(self, traces, traceback_limit):
        """From plain data, as tracemalloc: see from_traces."""
        table = _TraceTable()
        rows = table.add_traces(traces)
        self._set(b"".join(rows), table.packed_nodes(), table.frames, traceback_limit)

    def _set(self, rows, nodes, frames, traceback_limit):
        self._rows = rows      # bytes: struct trace_row of native/analysis.h
        self._nodes = nodes    # bytes: struct trace_node
        self._frames = frames  # list of Frame; nodes name them by index
        self._keys = {}        # by key type: (Keys, number of each frame's key, ranks)
        self._totals = None
        self.traceback_limit = traceback_limit
        self.name = None
        self.time = None
        self.start_time = None
        self.origin = None
        self.dropped = 0
        self.untracked_frees = 0
        self.sample_period = 0  # bytes, see tm.sampling; 0: all blocks were recorded …
        self.min_size = 0       # … that have so many bytes
        self.pid = None
        self.peak = None  # bytes, of all traced blocks since tracing began
        self.modules = []  # dicts: path, start, end, build_id

    @classmethod
    def from_traces(cls, traces, traceback_limit=1):
        """From [(domain, size, ((file, line), … most recent first), total_nframe)]."""
        return cls(traces, traceback_limit)

    @classmethod
    def _from_arrays(cls, rows, nodes, frames, traceback_limit):
        snapshot = cls.__new__(cls)
        snapshot._set(rows, nodes, frames, traceback_limit)
        return snapshot

    @classmethod
    def from_image(cls, image, resolve):
        """From what `_tm.snapshot` read.

        resolve is called once, with a list of (address, exact); it gives a
        list of Frame for each, the innermost inlined call first, or None for
        an address that tracebacks leave out.
        """
        addresses, numbers = _tm.image_addresses(image)
        frames = []
        bounds = array("I", [0])
        resolved = resolve(addresses) if addresses else []
        if len(resolved) != len(addresses):
            raise ValueError("resolve() must give frames for each address")
        left_out = []
        for (address, _exact), found in zip(addresses, resolved):
            if found is None:
                left_out.append(len(frames))
            frames.extend(found or (Frame.unknown(address),))
            bounds.append(len(frames))
        unknown = len(frames)
        frames.append(Frame.unknown())
        rows, nodes = _tm.image_traces(image, numbers, bounds.tobytes(), unknown)
        if left_out:
            flags = bytearray(len(frames))
            for number in left_out:
                flags[number] = 1
            rows, nodes = _tm.drop(rows, nodes, bytes(flags))
        header = _tm.decode("tm_image", image)
        snapshot = cls._from_arrays(rows, nodes, frames, header["limit"])
        snapshot.time = header["time"] / 1e9
        snapshot.start_time = header["start_time"] / 1e9
        snapshot.dropped = header["dropped"]
        snapshot.untracked_frees = header["untracked_frees"]
        snapshot.sample_period = header["sample_period"]
        snapshot.min_size = header["min_size"]
        snapshot.pid = header["pid"]
        snapshot.peak = header["peak"]
        snapshot.modules = image_modules(image)
        return snapshot

    def _with(self, rows, nodes):
        """A snapshot of the same moment with other rows."""
        other = self._from_arrays(rows, nodes, self._frames, self.traceback_limit)
        for name, value in vars(self).items():
            if not name.startswith("_"):
                setattr(other, name, value)
        other._keys = self._keys
        return other

    # ---- what is in it ----------------------------------------------------

    @property
    def traces(self):
        """The traces: a sequence with one for each recorded block."""
        return _Traces(self)

    def _iterate_rows(self):
        return _ROW.iter_unpack(self._rows)

    def _row(self, index):
        return _ROW.unpack_from(self._rows, index * _ROW.size)

    def _path(self, node):
        """The frames from a node to the oldest one."""
        path = []
        while node != _NO_NODE:
            frame, node = _NODE.unpack_from(self._nodes, node * _NODE.size)
            path.append(self._frames[frame])
        return tuple(path)

    def _traceback(self, node):
        return Traceback(self._path(node))

    def _trace(self, row):
        size, _count, total, node, domain = row
        return Trace((domain, size, self._path(node), None if total < 0 else total))

    def rows(self):
        """(trace, recorded blocks) for each kind of equal traces; lazily."""
        for row in self._iterate_rows():
            yield self._trace(row), row[1]

    def row_count(self):
        """How many largest_rows() there are."""
        return len(self._rows) // _ROW.size

    def largest_rows(self, limit=None):
        """(trace, blocks, recorded blocks), those with the largest blocks first, at most
        `limit`."""
        rows = sorted(self._iterate_rows(), key=lambda row: row[:2], reverse=True)
        return [(self._trace(row), round(row[1] * sample_weight(row[0], self.sample_period)),
                 row[1]) for row in rows[:limit]]

    def _total(self):
        if self._totals is None:
            self._totals = _tm.measure(self._rows, self._nodes, len(self._frames),
                                       self.sample_period)
        return self._totals

    @property
    def blocks(self):
        """Live blocks; with a sample_period an estimate, like all counts and sizes."""
        return self._total()["blocks"]

    @property
    def size(self):
        """Bytes in live blocks."""
        return self._total()["size"]

    @property
    def tracebacks(self):
        """Different tracebacks of recorded blocks."""
        return self._total()["tracebacks"]

    @property
    def recorded(self):
        """Blocks that were recorded."""
        return self._total()["recorded"]

    @property
    def size_error(self):
        """Standard error of the size, bytes; 0.0 when every block was recorded."""
        return self._total()["size_error"]

    @property
    def count_error(self):
        """Standard error of the number of blocks."""
        return self._total()["count_error"]

    # ---- grouping ------------------------------------------------------------

    def _keyed(self, key_type):
        if key_type not in self._keys:
            keys = Keys(key_type)
            numbers = keys.add(self._frames)
            self._keys[key_type] = (keys, numbers, keys.ranks())
        return self._keys[key_type]

    def groups(self, key_type, cumulative=False, by="size", once=True, first=PAGE):
        """The lines of a report, largest first, made when asked for.

        once: cumulative figures count a key once for a trace, see mode_of.
        first: so many are likely to be asked for; the others come at a price.
        """
        check_key_type(key_type, cumulative)
        keys, numbers, ranks = self._keyed(key_type)

        def pack(count):
            return _tm.group(mode_of(key_type, cumulative, once), by, count, ranks,
                             (self._rows, self._nodes, numbers, self.sample_period))

        return Groups(key_type, pack, keys, lambda node, _old: self._traceback(node), False,
                      first)

    def differences(self, old_snapshot, key_type, cumulative=False, by="difference", once=True,
                    first=PAGE):
        """The lines of a comparison with an older snapshot, likewise."""
        check_key_type(key_type, cumulative)
        keys = Keys(key_type)
        new, old = ((each._rows, each._nodes, keys.add(each._frames), each.sample_period)
                    for each in (self, old_snapshot))
        ranks = keys.ranks()

        def pack(count):
            return _tm.group(mode_of(key_type, cumulative, once), by, count, ranks, new, old)

        def traceback_of(node, in_old):
            return (old_snapshot if in_old else self)._traceback(node)

        return Groups(key_type, pack, keys, traceback_of, True, first)

    def statistics(self, key_type, cumulative=False):
        """A list of Statistic, grouped by key_type, largest first."""
        return list(self.groups(key_type, cumulative, once=False, first=ALL))

    def compare_to(self, old_snapshot, key_type, cumulative=False):
        """A list of StatisticDiff, grouped by key_type, largest difference first."""
        return list(self.differences(old_snapshot, key_type, cumulative, once=False, first=ALL))

    # ---- leaving out ------------------------------------------------------------

    def filter_traces(self, filters):
        """A new snapshot with the traces that pass: at least one of the inclusive
        filters, when there are any, and none of the others."""
        if not isinstance(filters, Iterable):
            raise TypeError("filters must be a list of filters, not %s" % type(filters).__name__)
        filters = list(filters)
        snapshot = self
        known = [one for one in filters if type(one) in (Filter, DomainFilter)]
        if len(known) != len(filters):
            return self._filter_by_hand(filters)
        if filters:
            compiled = [one.compiled(self._frames) for one in known]
            snapshot = self._with(*_tm.filter(self._rows, self._nodes, len(self._frames),
                                              compiled))
        return snapshot._with(snapshot._rows, snapshot._nodes)

    def _filter_by_hand(self, filters):
        """For filters of the user's own making."""
        include = [one for one in filters if one.inclusive]
        exclude = [one for one in filters if not one.inclusive]
        kept = []
        for row in self._iterate_rows():
            domain, size, frames, total = self._trace(row)._trace
            raw = (domain, size, tuple(frame._frame for frame in frames), total)
            if include and not any(one._match(raw) for one in include):
                continue
            if all(one._match(raw) for one in exclude):
                kept.append(_ROW.pack(*row))
        return self._with(b"".join(kept), self._nodes)

    def without_inlined(self):
        """Inlined calls folded into the function that contains them."""
        return self._with(*_tm.drop(self._rows, self._nodes, folding_flags(self._frames)))

    def without_wrappers(self, globs=(), skip_allocators=False):
        """Functions that match one of globs (and, on demand, allocators that
        call each other) never count as the most recent frame."""
        flags = skipping_flags(self._frames, globs, skip_allocators)
        if not any(flags):
            return self
        return self._with(*_tm.skip(self._rows, self._nodes, flags))

    # ---- files -----------------------------------------------------------------------

    def dump(self, filename):
        """Write the snapshot to a file, whole or not at all."""
        from tm.dumpfile import dump
        dump(self, filename)

    @staticmethod
    def load(filename):
        """Read a snapshot back from a file."""
        from tm.dumpfile import load
        return load(filename)

    def export(self, format, filename, old=None):
        """Write it as pprof, collapsed, speedscope, dhat or html, whole or not at all.

        old, another snapshot: pprof, collapsed and html show the differences.
        """
        from tm.exports import export
        export(self, format, filename, old)


class _TraceTable:
    """Numbers the frames and tracebacks of plain data."""

    def __init__(self):
        self.frames = []
        self._frame_numbers = {}
        self._nodes = {}  # (frame, parent) -> node; in the order of nodes
        self._paths = {}  # frames most recent first -> node

    def _frame_number(self, frame):
        frame = _as_frame(frame)
        key = (frame._frame, frame.function, frame.module, frame.address, frame.inlined,
               frame.has_line)
        number = self._frame_numbers.get(key)
        if number is None:
            filename, lineno = frame._frame
            if not isinstance(filename, str) or not isinstance(lineno, int):
                raise TypeError("a frame is (filename, lineno), not %r" % (frame._frame,))
            number = self._frame_numbers[key] = len(self.frames)
            self.frames.append(frame)
        return number

    def _node(self, frames):
        if not frames:
            raise ValueError("a trace must have at least one frame")
        node = _NO_NODE
        for frame in reversed(frames):
            node = self._nodes.setdefault((self._frame_number(frame), node), len(self._nodes))
        return node

    def add_traces(self, traces):
        """The packed rows; equal neighbours are one."""
        rows = []
        last, count = None, 0
        for domain, size, frames, *total in traces:
            frames = tuple(frames)
            node = self._paths.get(frames)
            if node is None:
                node = self._paths[frames] = self._node(frames)
            total = total[0] if total else None
            row = (_number(size, _LARGEST, "size"), -1 if total is None else total, node,
                   _number(domain, _NO_NODE, "domain"))
            if row == last:
                count += 1
                continue
            if last:
                rows.append(_ROW.pack(last[0], count, *last[1:]))
            last, count = row, 1
        if last:
            rows.append(_ROW.pack(last[0], count, *last[1:]))
        return rows

    def packed_nodes(self):
        return b"".join(_NODE.pack(frame, parent) for frame, parent in self._nodes)


def _number(value, largest, what):
    if not isinstance(value, int):
        raise TypeError("the %s of a trace must be an integer, not %r" % (what, value))
    if not 0 <= value <= largest:
        raise ValueError("the %s of a trace must be from 0 to %d, not %d" % (what, largest, value))
    return value


def image_modules(image):
    """The modules of an image: dicts with path, start, end, bias, build_id."""
    header = _tm.decode("tm_image", image)
    size = _tm.layout["sizeof"]["tm_module"]
    names = image[header["names"]:header["names"] + header["names_size"]]
    modules = []
    for number in range(header["module_count"]):
        at = header["modules"] + number * size
        module = _tm.decode("tm_module", image[at:at + size])
        path = names[module["path"]:names.find(b"\0", module["path"])]
        modules.append({"path": path.decode("utf-8", "surrogateescape"),
                        "start": module["start"], "end": module["end"], "bias": module["bias"],
                        "build_id": module["build_id"][:module["build_id_size"]].hex()})
    return modules
