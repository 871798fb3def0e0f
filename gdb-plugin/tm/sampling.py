"""What is recorded when not every block is, and what is said of the estimates.

May use the standard library and _tm.  Must not import gdb.
"""

from typing import Any, NamedTuple, Optional

import _tm

from tm.errors import TmError
from tm.options import size_text
from tm.statistics import format_size

SMALLEST_PERIOD = _tm.layout["SAMPLE_MIN"]
LARGEST_PERIOD = LARGEST_MIN_SIZE = _tm.layout["SAMPLE_MAX"]


class Sampling(NamedTuple):
    """The choice of `tm start`: zeros record every block."""

    period: int = 0    # bytes between sample points, on average
    min_size: int = 0  # smaller blocks are left out
    seed: Optional[int] = None  # the same one makes the same choice again

    def __str__(self) -> str:
        """The options as they are typed."""
        options = ["-sample %s" % size_text(self.period)] if self.period else []
        options += ["-min-size %s" % size_text(self.min_size)] if self.min_size else []
        return " ".join(options)

    @property
    def aside(self) -> str:
        """The options in brackets, or nothing."""
        return " (%s)" % str(self) if self.period or self.min_size else ""


EVERYTHING = Sampling()


def check(chosen: Sampling) -> None:
    """Refuses what makes no sense."""
    if chosen.period and not SMALLEST_PERIOD <= chosen.period <= LARGEST_PERIOD:
        raise TmError("The sampling period must be from %s to %s, not %s."
                      % (size_text(SMALLEST_PERIOD), size_text(LARGEST_PERIOD),
                         size_text(chosen.period)))
    if not 0 <= chosen.min_size <= LARGEST_MIN_SIZE:
        raise TmError("The smallest size must be from 0 to %s, not %s."
                      % (size_text(LARGEST_MIN_SIZE), size_text(chosen.min_size)))


def sample_weight(size: int, period: int) -> float:
    """How many blocks a recorded one of this size stands for."""
    size = size or 1  # as in tm_sample.h
    return _tm.sample_bytes(size, period) / size


def of(source: Any) -> Sampling:
    """That of a snapshot."""
    return Sampling(source.sample_period, source.min_size)


def percent(error: float, size: float) -> str:
    """`3.1 %`"""
    return "%.1f %%" % (100 * error / size if size else 0)


def sampled_text(recorded: int, sampling: Sampling, what: str, error: float, size: float) -> str:
    """The line that says of a report that it is an estimate, and how good a one."""
    return ("Estimated from %d sampled %s%s; standard error of the %s: %s."
            % (recorded, "block" if recorded == 1 else "blocks", sampling.aside, what,
               percent(error, size)))


def notes(snapshot: Any) -> str:
    """The line that closes a report on a snapshot; "" when every block was recorded."""
    sampling = of(snapshot)
    if sampling.period:
        return sampled_text(snapshot.recorded, sampling, "total", snapshot.size_error,
                            snapshot.size) + "\n"
    if sampling.min_size:
        return "Smaller blocks were not recorded%s.\n" % sampling.aside
    return ""


def short_note(snapshot: Any) -> str:
    """The same where there is little room: `-sample 64KiB, error 1.4 %`; or ""."""
    sampling = of(snapshot)
    if sampling.period:
        return "%s, error %s" % (sampling, percent(snapshot.size_error, snapshot.size))
    return str(sampling)


def difference_notes(old: Any, new: Any) -> str:
    """The same for a comparison.

    Blocks that are in both snapshots make no error, but nobody knows which
    they are, so what is said is the most that it can be.
    """
    both = [of(each) for each in (old, new)]
    if not any(each.period for each in both):
        if not any(each.min_size for each in both):
            return ""
        aside = both[1].aside or both[0].aside
        if both[0] == both[1]:
            return "Smaller blocks were not recorded%s.\n" % aside
        return "Smaller blocks were not recorded: old%s, new%s.\n" % tuple(
            each.aside or " (all)" for each in both)
    aside = (both[1].aside if both[0] == both[1]
             else ": old%s, new%s" % tuple(each.aside or " (all)" for each in both))
    error = (old.size_error ** 2 + new.size_error ** 2) ** 0.5
    return ("Estimated from %d and %d recorded blocks%s; standard error of the difference: at "
            "most %s.\n" % (old.recorded, new.recorded, aside, format_size(error)))


def only_some(sampling: Sampling) -> str:
    """What a look at single blocks has to say; "" when every block is recorded."""
    if sampling == EVERYTHING:
        return ""
    return "Not every block is recorded%s.\n" % sampling.aside
