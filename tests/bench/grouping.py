#!/usr/bin/python3
"""Time and memory of grouping many distinct tracebacks of 25 frames.

    tests/bench/grouping.py [TRACEBACKS …]

By default 1000, 100000 and 1000000.  For each key: processor time, the best of
three, and by how much the process grew at most.  A benchmark, never part of
`make test`.
"""
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("gdb-plugin", "build", "tests/python")]
from test_grouping_speed import many_tracebacks  # noqa: E402

KEYS = (("lineno", False), ("lineno", True), ("filename", False), ("function", False),
        ("traceback", False))


def resident(what):
    """A line of proc(5)'s status, in MiB: VmRSS, or VmHWM since it was last reset."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) / 1024
    raise AssertionError(what)


def measure(snapshot, key_type, cumulative):
    """(seconds, MiB, groups)."""
    seconds, grown = [], []
    for _ in range(3):
        snapshot._keys.clear()
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        begun = time.process_time()
        groups = snapshot.groups(key_type, cumulative)
        groups[:10]
        seconds.append(time.process_time() - begun)
        grown.append(resident("VmHWM") - before)
        count = len(groups)
        del groups
    return min(seconds), max(grown), count


def figures(counts):
    """[{"tracebacks", "key", "groups", "seconds", "MiB"}] of each count and key."""
    result = []
    for count in counts:
        snapshot = many_tracebacks(count)
        for key_type, cumulative in KEYS:
            seconds, grown, groups = measure(snapshot, key_type, cumulative)
            result.append({"tracebacks": count, "seconds": seconds, "MiB": max(0, grown),
                           "key": key_type + (" -cumulative" if cumulative else ""),
                           "groups": groups})
    return result


def main():
    counts = [int(text) for text in sys.argv[1:]] or [1000, 100000, 1000000]
    import report
    print("\n".join(report.grouping(figures(counts))))


if __name__ == "__main__":
    main()
