"""Groups: which frames count as one under a key type, and the lines of a report.

Keys are numbered here, where names are; adding up and sorting are done by _tm.
May use the standard library and _tm.  Must not import gdb.
"""

import struct
from array import array
from collections.abc import Sequence

import _tm

from tm import progress
from tm.tracebacks import UNKNOWN, Frame, Traceback
from tm.statistics import Statistic, StatisticDiff

KEY_TYPES = ("lineno", "filename", "traceback", "function", "module", "size", "domain")
CUMULATIVE_KEY_TYPES = ("lineno", "filename", "function", "module")
ORDERS = ("size", "count", "average")
DOMAIN_NAMES = {_tm.layout["DOMAIN_MALLOC"]: "malloc", _tm.layout["DOMAIN_MMAP"]: "mmap"}

PAGE = 100  # groups that are put in order at first
ALL = -1

_GROUP = struct.Struct(_tm.GROUP_FORMAT)


def domain_text(domain):
    """`domain 0 (malloc)`, `domain 7`."""
    name = DOMAIN_NAMES.get(domain)
    return "domain %d (%s)" % (domain, name) if name else "domain %d" % domain


def check_key_type(key_type, cumulative):
    """Raises what tracemalloc raises for a key type that cannot be."""
    if key_type not in KEY_TYPES:
        raise ValueError("unknown key_type: %r" % (key_type,))
    if cumulative and key_type not in CUMULATIVE_KEY_TYPES:
        raise ValueError("cumulative mode cannot by used with key type %r" % key_type)


def _line_frame(frame):
    return frame


def _file_frame(frame):
    if frame.has_line:
        return Frame(frame.filename, 0, module=frame.module)
    return Frame(frame.module or frame.filename, 0, module=frame.module, has_line=False)


def _function_frame(frame):
    file = frame.source or frame.module
    if frame.function or file:
        name = frame.function or "??"
        text = "%s (%s)" % (name, file) if file else name
    else:
        text = UNKNOWN
    return Frame(text, 0, frame.function, frame.module, has_line=False)


def _module_frame(frame):
    return Frame(frame.module or UNKNOWN, 0, module=frame.module, has_line=False)


_KEY_FRAMES = {"lineno": _line_frame, "traceback": _line_frame, "filename": _file_frame,
               "function": _function_frame, "module": _module_frame,
               "size": _line_frame, "domain": _line_frame}


class Keys:
    """The distinct keys of frames, numbered as they come."""

    def __init__(self, key_type):
        self.key_type = key_type
        self._make = _KEY_FRAMES[key_type]
        self._numbers = {}
        self.frames = []  # by key, one that stands for it

    def add(self, frames):
        """The number of each frame's key, as bytes for _tm."""
        numbers = self._numbers
        result = array("I", bytes(4 * len(frames)))
        if self.key_type in ("size", "domain"):
            return result.tobytes()  # they do not look at frames
        for place, frame in enumerate(progress.each("Grouping frames", frames, len(frames))):
            key = self._make(frame)
            number = numbers.get(key._frame)
            if number is None:
                number = numbers[key._frame] = len(numbers)
                self.frames.append(key)
            result[place] = number
        return result.tobytes()

    def ranks(self):
        """By key, its place among all of them in tracemalloc's order."""
        order = sorted(range(len(self.frames)), key=lambda number: self.frames[number]._frame)
        ranks = array("I", bytes(4 * max(1, len(order))))
        for rank, number in enumerate(order):
            ranks[number] = rank
        return ranks.tobytes()


class Groups(Sequence):
    """The lines of a report, largest first; objects are made when asked for.

    pack: gives what `_tm.group` does for so many groups, or ALL.  To put a million
    tracebacks in order takes longer than to find the largest, which are mostly enough.
    """

    def __init__(self, key_type, pack, keys, traceback_of, difference, first=PAGE):
        self.key_type = key_type
        self._pack = pack
        self._keys = keys
        self._traceback_of = traceback_of  # (node, old) -> Traceback
        self._difference = difference
        self._take(first)

    def _take(self, count):
        self._packed, self._count, size, blocks = self._pack(count)
        self._sums = int.from_bytes(size, "little"), int.from_bytes(blocks, "little")

    def _have(self, count):
        """Sees to it that the first `count` are there."""
        if len(self._packed) < min(count, self._count) * _GROUP.size:
            self._take(2 * count if count < self._count else ALL)

    def __len__(self):
        return self._count

    def _traceback(self, number, old):
        if self.key_type == "traceback":
            return self._traceback_of(number, old)
        if self.key_type == "size":
            return Traceback((Frame("%d B" % number, 0, has_line=False),))
        if self.key_type == "domain":
            return Traceback((Frame(domain_text(number), 0, has_line=False),))
        return Traceback((self._keys.frames[number],))

    def _make(self, fields):
        number, old, size, count, size_diff, count_diff, *errors = fields
        traceback = self._traceback(number, old)
        if self._difference:
            return StatisticDiff(traceback, size, size_diff, count, count_diff, errors)
        return Statistic(traceback, size, count, *errors[:2])

    def __getitem__(self, index):
        if isinstance(index, slice):
            places = range(*index.indices(len(self)))
            self._have(max(places, default=-1) + 1)
            return [self[place] for place in places]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError("no such group")
        self._have(index + 1)
        return self._make(_GROUP.unpack_from(self._packed, index * _GROUP.size))

    def __iter__(self):
        self._have(len(self))
        return map(self._make, _GROUP.iter_unpack(self._packed))

    def numbers(self, count):
        """Of the first `count` groups, the block's size or the domain as a number."""
        self._have(count)
        return [_GROUP.unpack_from(self._packed, place * _GROUP.size)[0]
                for place in range(count)]

    def rest(self, shown):
        """(groups, size, count) of what comes behind the first `shown`."""
        self._have(shown)
        size, count = self._sums
        for fields in _GROUP.iter_unpack(self._packed[:shown * _GROUP.size]):
            size -= fields[2]
            count -= fields[3]
        return max(0, len(self) - shown), size, count


def mode_of(key_type, cumulative, once):
    """The name of the grouping that _tm does.

    tracemalloc's cumulative statistics count a line as often as it occurs in a
    traceback.  Of recursive functions that makes more than there is, so reports
    count each key once for a trace; a function or module never counts twice.
    """
    if cumulative:
        return "once" if once or key_type in ("function", "module") else "cumulative"
    return key_type if key_type in ("traceback", "size", "domain") else "recent"
