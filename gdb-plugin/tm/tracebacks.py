"""Frame and Traceback: what tracemalloc's classes are, for native code.

May use the standard library.  Must not import gdb or _tm.
"""

import linecache
import os.path
from collections.abc import Sequence
from functools import total_ordering

UNKNOWN = "<unknown>"


def source_line(filename, lineno):
    """A source line without its indentation; "" when it cannot be read."""
    if "\0" in filename:
        return ""
    return linecache.getline(filename, lineno).strip()


@total_ordering
class Frame:
    """A frame of a traceback; equal to another one of the same file and line."""

    __slots__ = ("_frame", "function", "module", "address", "inlined", "has_line", "line")

    def __init__(self, filename, lineno=None, function=None, module=None, address=None,
                 inlined=False, has_line=True):
        # tracemalloc makes frames from a tuple (filename, lineno)
        self._frame = filename if lineno is None and isinstance(filename, tuple) \
            else (filename, lineno)
        self.function = function
        self.module = module
        self.address = address
        self.inlined = inlined
        self.has_line = has_line  # False: filename only says where the code is
        self.line = None  # the source line, in a snapshot that was loaded with its lines

    @classmethod
    def from_symbol(cls, address, symbol):
        """A frame from what the symbolizer says of an address.

        symbol is (filename, lineno, function, module path, offset in the
        function or else the module, inlined), with None for what is unknown.
        """
        filename, lineno, function, module, offset, inlined = symbol
        if filename:
            return cls(filename, lineno or 0, function, module, address, bool(inlined))
        return cls(place_without_line(function, module, offset), 0, function, module, address,
                   bool(inlined), has_line=False)

    @classmethod
    def unknown(cls, address=None):
        """A frame outside every module."""
        return cls(UNKNOWN, 0, address=address, has_line=False)

    @property
    def filename(self):
        return self._frame[0]

    @property
    def lineno(self):
        return self._frame[1]

    @property
    def source(self):
        """The source file, or None where there is no line information."""
        return self._frame[0] if self.has_line else None

    def source_line(self, find=source_line):
        """The source line without its indentation; "" where there is none."""
        if self.line is not None:
            return self.line
        return find(self.filename, self.lineno) if self.has_line else ""

    def __eq__(self, other):
        if not isinstance(other, Frame):
            return NotImplemented
        return self._frame == other._frame

    def __lt__(self, other):
        if not isinstance(other, Frame):
            return NotImplemented
        return self._frame < other._frame

    def __hash__(self):
        return hash(self._frame)

    def __str__(self):
        if not self.has_line:
            return str(self._frame[0])
        return "%s:%s" % self._frame

    def __repr__(self):
        return "<Frame filename=%r lineno=%r>" % self._frame


def place_without_line(function, module, offset):
    """`module!function+0x1c`, `module+0x1234` or `<unknown>`."""
    if not module:
        return UNKNOWN
    name = os.path.basename(module) or module
    if function:
        return "%s!%s+%#x" % (name, function, offset or 0)
    return "%s+%#x" % (name, offset or 0)


@total_ordering
class Traceback(Sequence):
    """Frames, sorted from the oldest to the most recent."""

    __slots__ = ("_frames", "_total_nframe")

    def __init__(self, frames, total_nframe=None):
        Sequence.__init__(self)
        # the frames come most recent first, as in tracemalloc; each is a
        # Frame or a tuple (filename, lineno)
        self._frames = tuple(frame if isinstance(frame, Frame) else Frame(frame)
                             for frame in reversed(tuple(frames)))
        self._total_nframe = total_nframe

    @property
    def total_nframe(self):
        """How many frames there were, or None when they were cut at the limit."""
        return self._total_nframe

    def __len__(self):
        return len(self._frames)

    def __getitem__(self, index):
        return self._frames[index]

    def __contains__(self, frame):
        return frame._frame in (mine._frame for mine in self._frames)

    def __hash__(self):
        return hash(self._frames)

    def __eq__(self, other):
        if not isinstance(other, Traceback):
            return NotImplemented
        return self._frames == other._frames

    def __lt__(self, other):
        if not isinstance(other, Traceback):
            return NotImplemented
        return self._frames < other._frames

    def __str__(self):
        return str(self[0])

    def __repr__(self):
        text = "<Traceback %s" % (tuple(self),)
        if self._total_nframe is not None:
            text += " total_nframe=%s" % self._total_nframe
        return text + ">"

    def selected(self, limit=None, most_recent_first=False):
        """The frames that format() shows, in its order."""
        if limit is None:
            frames = self[:]
        elif limit > 0:
            frames = self[-limit:]
        else:
            frames = self[:limit]
        return frames[::-1] if most_recent_first else frames

    def format(self, limit=None, most_recent_first=False):
        """The traceback as lines, with the source where it can be read."""
        lines = []
        for frame in self.selected(limit, most_recent_first):
            if not frame.has_line:
                lines.append("  %s" % frame.filename)
                continue
            lines.append('  File "%s", line %s' % (frame.filename, frame.lineno))
            line = frame.source_line()
            if line:
                lines.append("    %s" % line)
        return lines
