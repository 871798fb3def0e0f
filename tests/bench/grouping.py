#!/usr/bin/python3
"""Time and memory of grouping many distinct tracebacks of 25 frames.

    tests/bench/grouping.py [TRACEBACKS …]

By default 1000, 100000 and 1000000.  For each key: processor time, the best of
three, to the first page of a report, and by how much the process grew at most.
The differences are those from a snapshot of half as many.  A benchmark, never part of
`make test`.
"""
import pathlib
import random
import struct
import sys
import time
from array import array

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("gdb-plugin", "build")]
import _tm  # noqa: E402
import tm  # noqa: E402
from tm.tracebacks import Frame  # noqa: E402

DEPTH = 25
FRAMES = 20000
NO_NODE = _tm.layout["NO_NODE"]
KEYS = (("lineno", False), ("lineno", True), ("filename", False), ("function", False),
        ("traceback", False))


def many_tracebacks(count):
    """A snapshot of tracebacks that share 0 to 24 of their oldest frames with another."""
    chance = random.Random(1)
    frames = [Frame("/src/dir%d/file%d.c" % (number % 50, number % 700), number % 3000,
                    "f%d" % (number % 4000), "/lib/m%d.so" % (number % 20), number)
              for number in range(FRAMES)]
    row = struct.Struct(_tm.ROW_FORMAT)
    nodes, rows, path, made = array("I"), bytearray(), [], 0
    for number in range(count):
        del path[chance.choice((0, 5, 15, 20, 24, 24)):]
        while len(path) < DEPTH:
            nodes.extend((chance.randrange(FRAMES), path[-1] if path else NO_NODE))
            path.append(made)
            made += 1
        rows += row.pack(16, 1 + number % 3, DEPTH, path[-1], 0)
    return tm.Snapshot._from_arrays(bytes(rows), nodes.tobytes(), frames, DEPTH)


def resident(what):
    """A line of proc(5)'s status, in MiB: VmRSS, or VmHWM since it was last reset."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) / 1024
    raise AssertionError(what)


def measure(make):
    """(seconds, MiB, groups)."""
    seconds, grown = [], []
    for _ in range(3):
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        begun = time.process_time()
        groups = make()
        groups[:10]
        groups.rest(10)
        seconds.append(time.process_time() - begun)
        grown.append(resident("VmHWM") - before)
        count = len(groups)
        del groups
    return min(seconds), max(grown), count


def figures(counts):
    """[{"tracebacks", "key", "groups", "seconds", "MiB"}] of each count and key."""
    result = []
    for count in counts:
        snapshot, old = many_tracebacks(count), many_tracebacks(count // 2)

        def grouped(key_type, cumulative):
            snapshot._keys.clear()
            return snapshot.groups(key_type, cumulative)

        makers = {key_type + (" -cumulative" if cumulative else ""):
                  lambda key=(key_type, cumulative): grouped(*key)
                  for key_type, cumulative in KEYS}
        makers["traceback, differences"] = lambda: snapshot.differences(old, "traceback")
        for name, make in makers.items():
            seconds, grown, groups = measure(make)
            result.append({"tracebacks": count, "seconds": seconds, "MiB": max(0, grown),
                           "key": name, "groups": groups})
    return result


def main():
    counts = [int(text) for text in sys.argv[1:]] or [1000, 100000, 1000000]
    import report
    print("\n".join(report.grouping(figures(counts))))


if __name__ == "__main__":
    main()
