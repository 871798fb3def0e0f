"""Statistic and StatisticDiff: one line of a report, with tracemalloc's own text.

May use the standard library.  Must not import gdb or _tm.
"""


def format_size(size, sign=False):
    """A size as tracemalloc writes it: up to five digits, one decimal under 100."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 100 and unit != "B":
            return ("%+.1f %s" if sign else "%.1f %s") % (size, unit)
        if abs(size) < 10 * 1024 or unit == "TiB":
            return ("%+.0f %s" if sign else "%.0f %s") % (size, unit)
        size /= 1024
    raise AssertionError("TiB is the last unit")


def average_text(size, count):
    """`, average=…`, or nothing without blocks."""
    return ", average=%s" % format_size(size / count) if count else ""


class Statistic:
    """What is allocated under one key."""

    __slots__ = ("traceback", "size", "count", "size_error", "count_error")

    def __init__(self, traceback, size, count, size_error=0.0, count_error=0.0):
        self.traceback = traceback
        self.size = size
        self.count = count
        self.size_error = size_error    # standard errors of what was sampled
        self.count_error = count_error

    def __hash__(self):
        return hash((self.traceback, self.size, self.count))

    def __eq__(self, other):
        if not isinstance(other, Statistic):
            return NotImplemented
        return (self.traceback == other.traceback and self.size == other.size
                and self.count == other.count)

    def figures(self):
        """The line without its key."""
        return "size=%s, count=%i%s" % (format_size(self.size), self.count,
                                        average_text(self.size, self.count))

    def __str__(self):
        return "%s: %s" % (self.traceback, self.figures())

    def __repr__(self):
        return ("<Statistic traceback=%r size=%i count=%i>"
                % (self.traceback, self.size, self.count))

    def _sort_key(self):
        return (self.size, self.count, self.traceback)


class StatisticDiff:
    """How what is allocated under one key differs from an older snapshot."""

    __slots__ = ("traceback", "size", "size_diff", "count", "count_diff", "size_error",
                 "count_error", "size_diff_error", "count_diff_error")

    def __init__(self, traceback, size, size_diff, count, count_diff, errors=(0.0,) * 4):
        self.traceback = traceback
        self.size = size
        self.size_diff = size_diff
        self.count = count
        self.count_diff = count_diff
        # Standard errors of what was sampled; those of differences are upper bounds.
        (self.size_error, self.count_error, self.size_diff_error,
         self.count_diff_error) = errors

    def __hash__(self):
        return hash((self.traceback, self.size, self.size_diff, self.count, self.count_diff))

    def __eq__(self, other):
        if not isinstance(other, StatisticDiff):
            return NotImplemented
        return (self.traceback == other.traceback
                and self.size == other.size and self.size_diff == other.size_diff
                and self.count == other.count and self.count_diff == other.count_diff)

    def figures(self):
        """The line without its key."""
        return "size=%s (%s), count=%i (%+i)%s" % (
            format_size(self.size), format_size(self.size_diff, True),
            self.count, self.count_diff, average_text(self.size, self.count))

    def __str__(self):
        return "%s: %s" % (self.traceback, self.figures())

    def __repr__(self):
        return ("<StatisticDiff traceback=%r size=%i (%+i) count=%i (%+i)>"
                % (self.traceback, self.size, self.size_diff, self.count, self.count_diff))

    def _sort_key(self):
        return (abs(self.size_diff), self.size, abs(self.count_diff), self.count,
                self.traceback)
