"""tracemalloc for native programs, inside GDB.

The names are those of CPython's tracemalloc module, so that a script written
for it runs after `import tm as tracemalloc`.  Only what touches a process
imports gdb, and only when it is called.
"""

import operator

from tm.errors import TmError
from tm.model import (Block, BaseFilter, DomainFilter, Filter, Frame, Snapshot, Statistic,
                      StatisticDiff, Trace, Traceback)
from tm.sampling import Sampling
from tm.version import VERSION as __version__

__all__ = ["BaseFilter", "Block", "DomainFilter", "Filter", "Frame", "Snapshot", "Statistic",
           "StatisticDiff", "TmError", "Trace", "Traceback", "__version__",
           "clear_traces", "get_object_traceback", "get_traceback_limit", "get_traced_memory",
           "get_tracemalloc_memory", "is_tracing", "reset_peak", "start", "stop",
           "take_snapshot"]


def _process():
    from tm import process
    return process


def _max_nframe():
    import _tm
    return _tm.layout["MAX_FRAMES"]


def start(nframe=1, *, sample=0, min_size=0):
    """Start tracing allocations of the process, with tracebacks of at most nframe frames.

    Does nothing when it is traced already.  With no process yet, the next one
    is traced from before its first constructor.

    sample, bytes: record one block for so many bytes allocated, on average; sizes
    and counts are then estimates.  min_size: leave smaller blocks out.
    """
    nframe = operator.index(nframe)
    if not 1 <= nframe <= _max_nframe():
        raise ValueError("the number of frames must be in range [1; %d]" % _max_nframe())
    chosen = Sampling(operator.index(sample), operator.index(min_size))
    process = _process()
    if not process.has_process():
        process.arm(nframe, chosen)
    elif not process.is_tracing():
        process.start(nframe, chosen)


def stop():
    """Stop tracing, and forget the traces."""
    process = _process()
    if process.is_tracing() or (not process.has_process() and process.status()["armed"]):
        process.stop()


def is_tracing():
    """Whether allocations of the process are traced."""
    return _process().is_tracing()


def clear_traces():
    """Forget the traces, and go on tracing."""
    process = _process()
    if process.is_tracing():
        process.clear()


def reset_peak():
    """Set the peak to the current traced size."""
    process = _process()
    if process.is_tracing():
        process.reset_peak()


def get_traceback_limit():
    """How many frames a traceback holds at most."""
    process = _process()
    return process.status()["traceback_limit"] if process.is_tracing() else 1


def get_traced_memory():
    """(current, peak): bytes in traced blocks."""
    process = _process()
    if not process.is_tracing():
        return (0, 0)
    status = process.status()
    return (status["current"], status["peak"])


def get_tracemalloc_memory():
    """Bytes that the helper itself uses in the process."""
    return _process().status()["helper_memory"]


def _address_of(obj):
    try:
        return operator.index(obj)
    except RuntimeError:  # gdb.error: no number, but it may lie somewhere
        if getattr(obj, "address", None) is None:
            raise
        return operator.index(obj.address)


def get_object_traceback(obj):
    """Where the block that holds an address was allocated; None when it is not traced.

    The address is an int or a gdb.Value; a value that is no number, such as a
    structure, stands for the place where it lies.
    """
    process = _process()
    if not process.is_tracing():
        return None
    block = process.find_block(_address_of(obj))
    return block.traceback if block else None


def take_snapshot():
    """A Snapshot of the traces."""
    process = _process()
    if not process.is_tracing():
        raise RuntimeError("the tracemalloc module must be tracing memory "
                           "allocations to take a snapshot")
    return process.take_snapshot()
