"""The format of pprof: profile.proto of github.com/google/pprof, compressed with gzip.

May use the standard library, the model and _tm.  Must not import gdb.  The
message is encoded here, for want of a protobuf library that everybody has.
"""

import gzip
from bisect import bisect_right

from tm import progress
from tm.exports.names import function_name, title
from tm.paint import clean
from tm.paths import nodes, row_count, rows
from tm.grouping import domain_text
from tm.sampling import notes
from tm.version import VERSION

# numbers of the fields, by message
SAMPLE_TYPE, SAMPLE, MAPPING, LOCATION, FUNCTION, STRING_TABLE = 1, 2, 3, 4, 5, 6
TIME_NANOS, PERIOD_TYPE, PERIOD, COMMENT, DEFAULT_SAMPLE_TYPE = 9, 11, 12, 13, 14
TYPE_TYPE, TYPE_UNIT = 1, 2
SAMPLE_LOCATION, SAMPLE_VALUE, SAMPLE_LABEL = 1, 2, 3
LABEL_KEY, LABEL_TEXT, LABEL_NUMBER, LABEL_UNIT = 1, 2, 3, 4
(MAPPING_ID, MAPPING_START, MAPPING_LIMIT, MAPPING_OFFSET, MAPPING_FILE, MAPPING_BUILD_ID,
 MAPPING_HAS_FUNCTIONS, MAPPING_HAS_FILES, MAPPING_HAS_LINES, MAPPING_HAS_INLINED) = range(1, 11)
LOCATION_ID, LOCATION_MAPPING, LOCATION_ADDRESS, LOCATION_LINE = 1, 2, 3, 4
LINE_FUNCTION, LINE_NUMBER = 1, 2
FUNCTION_ID, FUNCTION_NAME, FUNCTION_SYSTEM_NAME, FUNCTION_FILE = 1, 2, 3, 4

BASE = "pprof::base"  # how pprof marks the samples of what it compares with


# ---- the encoding ------------------------------------------------------------

def varint(number):
    """A number as protobuf has it; a negative one takes ten bytes."""
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 0x7f:
        encoded.append(number & 0x7f | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def integer(field, number):
    """A field with a number; zero, the default, takes no place."""
    return varint(field << 3) + varint(number) if number else b""


def message(field, contents):
    """A field with bytes: a string or a message."""
    return varint(field << 3 | 2) + varint(len(contents)) + contents


def packed(field, numbers):
    """A repeated field with numbers."""
    return message(field, b"".join(map(varint, numbers)))


# ---- the profile -------------------------------------------------------------

class _Strings:
    def __init__(self):
        self._numbers = {"": 0}

    def number(self, text):
        return self._numbers.setdefault(text, len(self._numbers))

    def encoded(self):
        return b"".join(message(STRING_TABLE, text.encode("utf-8", "backslashreplace"))
                        for text in self._numbers)


class _Mapping:
    def __init__(self, path, start=0, end=0, build_id=""):
        self.path, self.start, self.end, self.build_id = path, start, end, build_id
        self.has_functions = self.has_files = self.has_inlined = False

    def note(self, frame):
        self.has_functions |= frame.function is not None
        self.has_files |= frame.has_line
        self.has_inlined |= frame.inlined


class _Mappings:
    """The modules, found by address, or else by name."""

    def __init__(self, modules):
        self.all = [_Mapping(module["path"], module["start"], module["end"],
                             module.get("build_id", ""))
                    for module in sorted(modules, key=lambda module: module["start"])]
        self._starts = [mapping.start for mapping in self.all]
        self._by_path = {mapping.path: number for number, mapping in enumerate(self.all, 1)}

    def number(self, frame):
        """From 1 on; 0 where the frame is in no module."""
        if frame.module is None:
            return 0
        if frame.address is not None:
            place = bisect_right(self._starts, frame.address)
            if place and frame.address < self.all[place - 1].end \
                    and self.all[place - 1].path == frame.module:
                return place
        if frame.module not in self._by_path:
            self.all.append(_Mapping(frame.module))
            self._by_path[frame.module] = len(self.all)
        return self._by_path[frame.module]


class _Profile:
    def __init__(self, modules):
        self.strings = _Strings()
        self.mappings = _Mappings(modules)
        self._functions = {}  # (name, file) -> number
        self._locations = {}  # (mapping, address, ((function, line), …)) -> number
        self._samples = []

    def _function(self, frame):
        key = (function_name(frame), clean(frame.filename) if frame.has_line else "")
        return self._functions.setdefault(key, len(self._functions) + 1)

    def _location(self, frames):
        """frames: an inlined call and those that contain it, the innermost first."""
        mapping = self.mappings.number(frames[-1])
        if mapping:
            for frame in frames:
                self.mappings.all[mapping - 1].note(frame)
        key = (mapping, frames[-1].address or 0,
               tuple((self._function(frame), frame.lineno) for frame in frames))
        return self._locations.setdefault(key, len(self._locations) + 1)

    def _stacks(self, snapshot):
        """By node, the locations from its frame to the oldest one, as packed bytes."""
        tree = list(nodes(snapshot))
        known = {None: b""}

        def stack(node):
            missing = []
            while node not in known:
                # The frames of one address, of which all but the last one are inlined calls.
                chain, first = [], node
                while True:
                    frame, node = tree[node]
                    frame = snapshot._frames[frame]
                    chain.append(frame)
                    if node is None or not frame.inlined:
                        break
                    if snapshot._frames[tree[node][0]].address != frame.address:
                        break
                missing.append((first, varint(self._location(chain))))
            for first, location in reversed(missing):
                known[first] = location + known[node]
                node = first
            return known[node]

        return stack

    def add(self, snapshot, sign=1):
        stack = self._stacks(snapshot)
        number = self.strings.number
        size_key, unit, domain_key = number("bytes"), number("bytes"), number("domain")
        for node, size, count, bytes_, domain in progress.each(
                "Writing samples", rows(snapshot), row_count(snapshot)):
            contents = message(SAMPLE_LOCATION, stack(node))
            contents += packed(SAMPLE_VALUE, (sign * count, sign * bytes_))
            contents += message(SAMPLE_LABEL, integer(LABEL_KEY, size_key)
                                + integer(LABEL_NUMBER, size) + integer(LABEL_UNIT, unit))
            contents += message(SAMPLE_LABEL, integer(LABEL_KEY, domain_key)
                                + integer(LABEL_TEXT, number(domain_text(domain))))
            if sign < 0:
                contents += message(SAMPLE_LABEL, integer(LABEL_KEY, number(BASE))
                                    + integer(LABEL_TEXT, number("true")))
            self._samples.append(message(SAMPLE, contents))

    def _type(self, field, name, unit):
        return message(field, integer(TYPE_TYPE, self.strings.number(name))
                       + integer(TYPE_UNIT, self.strings.number(unit)))

    def _mapping(self, number, mapping):
        text = self.strings.number
        return message(MAPPING, b"".join((
            integer(MAPPING_ID, number), integer(MAPPING_START, mapping.start),
            integer(MAPPING_LIMIT, mapping.end),
            integer(MAPPING_FILE, text(clean(mapping.path))),
            integer(MAPPING_BUILD_ID, text(mapping.build_id)),
            integer(MAPPING_HAS_FUNCTIONS, mapping.has_functions),
            integer(MAPPING_HAS_FILES, mapping.has_files),
            integer(MAPPING_HAS_LINES, mapping.has_files),
            integer(MAPPING_HAS_INLINED, mapping.has_inlined))))

    def encoded(self, snapshot, comments):
        text = self.strings.number
        parts = [self._type(SAMPLE_TYPE, "inuse_objects", "count"),
                 self._type(SAMPLE_TYPE, "inuse_space", "bytes")]
        parts += self._samples
        parts += [self._mapping(number, mapping)
                  for number, mapping in enumerate(self.mappings.all, 1)]
        for (mapping, address, lines), number in self._locations.items():
            parts.append(message(LOCATION, b"".join((
                integer(LOCATION_ID, number), integer(LOCATION_MAPPING, mapping),
                integer(LOCATION_ADDRESS, address),
                *(message(LOCATION_LINE, integer(LINE_FUNCTION, function)
                          + integer(LINE_NUMBER, line)) for function, line in lines)))))
        for (name, file), number in self._functions.items():
            parts.append(message(FUNCTION, b"".join((
                integer(FUNCTION_ID, number), integer(FUNCTION_NAME, text(name)),
                integer(FUNCTION_SYSTEM_NAME, text(name)), integer(FUNCTION_FILE, text(file))))))
        parts += [integer(TIME_NANOS, int((snapshot.time or 0) * 1e9)),
                  self._type(PERIOD_TYPE, "space", "bytes"),
                  integer(PERIOD, snapshot.sample_period or 1),
                  packed(COMMENT, [text(comment) for comment in comments]),
                  integer(DEFAULT_SAMPLE_TYPE, text("inuse_space"))]
        return b"".join(parts) + self.strings.encoded()


def contents(snapshot, old=None):
    """The file.  With old, its samples are there too, negative and marked as the base,
    as `pprof -diff_base` has them."""
    profile = _Profile(snapshot.modules + (old.modules if old and not snapshot.modules else []))
    profile.add(snapshot)
    comments = ["tm %s: %s" % (VERSION, title(snapshot))]
    if notes(snapshot):
        comments.append(notes(snapshot).rstrip())
    if old is not None:
        profile.add(old, -1)
        comments.append("compared with %s" % title(old, snapshot))
    return gzip.compress(profile.encoded(snapshot, comments), mtime=0)
