#!/usr/bin/python3
"""What tracing costs, beside the floor and the peers: `make bench` and `make bench-quick`.

    tests/bench/bench.py [--quick] [--rounds N] [--only SECTION …]

Prints tables, and writes build/bench.json.  Costs are processor time of the program's own
threads, which other work on the machine disturbs least; the wall clock is in the JSON.
Never part of `make test`.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
os.environ["LC_ALL"] = "C.UTF-8"

import programs  # noqa: E402
import report  # noqa: E402
import start_time  # noqa: E402
import symbols  # noqa: E402
from measure import Failed, interleave, run  # noqa: E402
from variants import (BENCH, BUILD, ROOT, Floor, Heaptrack, Tm, Valgrind, Variant,  # noqa: E402
                      allocators, mtrace)

MICRO = BUILD / "micro"
DEPTH = 25
SECTIONS = ("micro", "memory", "pauses", "steps", "start", "snapshot", "symbols", "programs")
COLUMNS = {"live 1,000": (1, 1000), "live 100,000": (1, 100000), "live 1,000,000": (1, 1000000),
           "2 threads, 100,000 each": (2, 100000)}


def micro(variant, threads, live, pairs, *mode):
    """What the micro-benchmark prints."""
    output = run(variant, [MICRO, threads, live, pairs, DEPTH, *mode])[0]
    lines = [each for each in output.splitlines() if each.startswith('{"before"')]
    if not lines:
        raise Failed("no figures: " + (output.strip() or "no output").splitlines()[-1][:80])
    return json.loads(lines[0])


def column(threads, live, quick, rounds, tell):
    """Nanoseconds a pair of every variant, and the same by the clock on the wall."""
    variants = [Variant("native"), Tm("tm 10", 10), Tm("tm 25", 25), Floor(10, threads * live),
                Floor(25, threads * live), Heaptrack("heaptrack")]
    extra = [] if quick and live > 100000 else [mtrace(), *allocators()]
    if not quick:
        extra += [Valgrind("massif"), Valgrind("dhat")]
    pairs = 400000 if quick else 2000000
    walls = []

    def once(variant):
        # Who takes microseconds needs few pairs, and its filling takes long enough.
        told = micro(variant, threads, live, max(pairs // variant.slow, 5000))
        walls.append((variant.name, statistics.median(told["wall"])))
        return statistics.median(told["processor"])

    figures = interleave(variants, rounds, once, tell)
    more = interleave([Variant("native"), *extra], 1 if quick else max(rounds // 2, 1), once,
                      tell + ", other peers")
    result = {"native": figures.value("native"), "added": {}, "ratios": {},
              "failures": {**figures.failures, **more.failures},
              "rounds": figures.rounds + more.rounds}
    for source in (figures, more):
        for each in source.variants[1:]:
            result["added"][each.name] = source.value(each.name, each.base)
    for name in ("tm 10", "tm 25"):
        for to in ("heaptrack", f"floor {name[3:]}"):
            result["ratios"][f"{name} to {to}"] = figures.ratio(name, "native", to, "native")
    result["wall"] = {name: statistics.median([value for one, value in walls if one == name])
                      for name, value in walls}
    return result


def memory(quick):
    """Resident bytes that tm adds: with nothing allocated, and a block of a live set."""
    result = {}
    native, traced = (micro(each, 1, 0, 0)["before"] for each in (Tm("native", 0), Tm("tm", 10)))
    result["empty"] = traced - native
    for live in (1000000,) if quick else (1000000, 10000000):
        native, traced = (micro(each, 1, live, 5) for each in (Tm("native", 0), Tm("tm", 10)))
        result[f"{live}"] = (traced["after"] - native["after"] - result["empty"]) / live
    return result


def pauses(quick):
    """How long single allocations take, with and without tm, while a live set grows and after."""
    live, pairs = (300000, 700000) if quick else (10000000, 90000000)
    return {name: micro(variant, 1, live, pairs, "pauses")
            for name, variant in (("native", Variant("native")), ("tm 10", Tm("tm 10", 10)))}


def within(script, program, frames, **environment):
    """Runs a script in gdb with the program at its entry point; its line of JSON."""
    output = run(Tm("within", frames), program,
                 {"TM_BENCH_WITHIN": str(BENCH / script), **environment})[0]
    lines = [each for each in output.splitlines() if each.startswith("{")]
    if not lines:
        raise Failed("no figures: " + (output.strip() or "no output").splitlines()[-1][:80])
    return json.loads(lines[-1])


def steps(quick):
    """Instructions of one pair: untouched, traced, stopped."""
    return {frames: within("steps.py", [MICRO, 1, 1, 5, DEPTH], 0, TM_BENCH_STEPS=frames,
                           LD_BIND_NOW="1")
            for frames in (("10",) if quick else ("1", "10", "25"))}


def start(quick):
    """Milliseconds that tm start says it stopped the program."""
    told = [start_time.once(1)[1] for each in range(3 if quick else 9)]
    return {"median": statistics.median(told), "min": min(told), "max": max(told)}


def snapshot(quick):
    """Seconds of tm snapshot and tm top."""
    live = 1000000 if quick else 10000000
    return {"live": live, **within("snapshot.py", [MICRO, 1, live, 5, DEPTH], 10)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", nargs="+", choices=SECTIONS)
    parser.add_argument("--columns", nargs="+", type=int, choices=range(len(COLUMNS)))
    parser.add_argument("--scale", type=float, default=1.0, help="of the whole programs")
    options = parser.parse_args()
    quick = options.quick
    rounds = options.rounds or (3 if quick else 7)
    wanted = options.only or [each for each in SECTIONS if not quick or each != "programs"]
    result = {"machine": f"{platform.machine()}, {os.cpu_count()} processors, Linux "
                         f"{platform.release()}", "quick": quick, "rounds": rounds}
    began = time.monotonic()
    if "micro" in wanted:
        names = list(COLUMNS)
        result["micro"] = {
            name: column(*COLUMNS[name], quick, rounds, name)
            for name in (names if options.columns is None else [names[i] for i in options.columns])}
    for name, part in (("memory", memory), ("pauses", pauses), ("steps", steps), ("start", start),
                       ("snapshot", snapshot)):
        if name in wanted:
            print(f"  {name}", file=sys.stderr, flush=True)
            try:
                result[name] = part(quick)
            except Failed as failure:
                result[name] = {"failed": str(failure)}
    if "symbols" in wanted:
        result["symbols"] = symbols.measure(quick, 1 if quick else 3)
    if "programs" in wanted:
        result["programs"] = programs.measure(options.scale, rounds)
    result["seconds"] = time.monotonic() - began
    print(report.text(result))
    (ROOT / "build" / "bench.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
