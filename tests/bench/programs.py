"""Whole programs: how long they take, to what they take alone.

tm runs as the library that traces from the start (libtm-preload.so): it maps the same helper
that gdb does, whose hooks are reached by the loader's symbol search instead of a patched
prologue (`steps` counts the instructions of both), and no debugger takes part in the time.
May use: workloads.py, variants.py, measure.py.
"""
import time

from measure import interleave
from variants import (Heaptrack, TmFromStart, TmSampled, Tracemalloc, Valgrind, Variant, mtrace,
                      profilers)
from workloads import workloads

PEER_SCALE = 0.1  # of the work that the slow peers get, beside a native run of the same work
TIMEOUT = 60
PEER_TIMEOUT = 10
SECONDS = 420  # for all of them, about
FRAMES = (1, 10, 25)


def quotients(figures, timer):
    """{variant: spread of its time to native's}"""
    return {each.name: figures.times(each.name, "native", timer)
            for each in figures.variants if each.name != "native"}


def one_program(workload, scale, rounds, seconds):
    """Ratios to native by "wall" and "processor" time, what is added to what peers add, and
    the reasons of those that could not be measured.  After `seconds` no round is begun."""
    began = time.monotonic()
    native, tm = Variant("native"), {frames: TmFromStart(frames) for frames in FRAMES}
    tracemallocs = [Tracemalloc(frames) for frames in FRAMES] if workload.tracemalloc else []
    usual = [native, tm[10], TmSampled(25, "512KiB"), Heaptrack()]
    frames = [native, tm[1], tm[10], tm[25], *tracemallocs]
    peers = [native, mtrace(), *profilers(), Valgrind("massif"), Valgrind("dhat")]
    result = {"native seconds": None, "wall": {}, "processor": {}, "failures": {},
              "to tracemalloc": {}, "rounds": []}
    for group, turns, share, size, timeout in (
            (usual, rounds, 0.5, scale, TIMEOUT), (frames, (rounds + 1) // 2, 0.8, scale, TIMEOUT),
            (peers, 1, 1, scale * PEER_SCALE, PEER_TIMEOUT)):
        command = workload.command(size)
        figures = interleave(group, turns, lambda each: workload.once(each, command, timeout),
                             f"{workload.name}, {len(group)} variants",
                             began + share * seconds)
        result["rounds"].append(len(figures.rounds))
        result["failures"].update(figures.failures)
        for timer in ("wall", "processor"):
            for name, value in quotients(figures, timer).items():
                result[timer].setdefault(name, value)
        if group is usual:
            result["native seconds"] = figures.value("native", timer="wall")
            result["to heaptrack"] = figures.ratio("tm 10", "native", "heaptrack", "native",
                                                   "wall")
        for each in tracemallocs if group is frames else ():
            result["to tracemalloc"][each.frames] = figures.ratio(
                f"tm {each.frames}", "native", each.name, "native", "wall")
    result["seconds"] = time.monotonic() - began
    return result


def measure(scale, rounds, names=None):
    """{program: one_program(), or {"missing": why}}"""
    results = {}
    chosen = [each for each in workloads() if not names or each.name in names]
    end = time.monotonic() + SECONDS
    for number, workload in enumerate(chosen):
        share = (end - time.monotonic()) / (len(chosen) - number)
        reason = workload.missing()
        results[workload.name] = ({"missing": reason} if reason
                                  else one_program(workload, scale, rounds, share))
    return results
