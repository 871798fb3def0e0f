#!/usr/bin/python3
"""What tracing costs, beside the floor and the peers: `make bench` and `make bench-quick`.

    tests/bench/bench.py [--quick] [--rounds N] [--only SECTION …]

Prints tables, the aims beside their figures last, and writes build/bench.json.
Never part of `make test`.
"""
import argparse
import json
import os
import pathlib
import platform
import signal
import sys
import time

os.environ["LC_ALL"] = "C.UTF-8"

import grouping  # noqa: E402
import pairs  # noqa: E402
import pauses  # noqa: E402
import programs  # noqa: E402
import report  # noqa: E402
import start_time  # noqa: E402
import symbols  # noqa: E402
from measure import spread  # noqa: E402
from pairs import COLUMNS, DEPTH, MICRO  # noqa: E402
from variants import BENCH, PRELOAD, ROOT, Failed, Tm, run  # noqa: E402
from variants import not_installed  # noqa: E402


def within(script, program, frames, **environment):
    """Runs a script in gdb with the program at its entry point; its line of JSON."""
    return pairs.json_line(run(Tm("within", frames), program,
                               {"TM_BENCH_WITHIN": str(BENCH / script), **environment},
                               timeout=120)[0])


def micro(options):
    return {name: pairs.column(threads, live, options.quick, options.rounds, name)
            for name, (threads, live) in COLUMNS.items()
            if not options.columns or list(COLUMNS).index(name) in options.columns}


def threads(options):
    return pairs.threads(options.quick, options.rounds)


def memory(options):
    return pairs.memory(options.quick)


def longest(options):
    return pauses.pauses(*((300000, 700000) if options.quick else (10000000, 90000000)))


def steps(options):
    """Instructions of one pair: untouched, traced, stopped; and in the preloaded flavour."""
    program = [MICRO, 1, 1, 5, DEPTH]
    result = {frames: within("steps.py", program, 0, TM_BENCH_STEPS=frames, LD_BIND_NOW="1")
              for frames in (("10",) if options.quick else ("1", "10", "25"))}
    preload = {"TM_BENCH_STEPS": "", "LD_BIND_NOW": "1", "TM_BENCH_PRELOAD": str(PRELOAD)}
    result["10, preloaded"] = within("steps.py", program, 0, TM_TRACE="10", **preload)
    # So seldom that no block of those looked at is chosen.
    result["sampled, preloaded"] = within("steps.py", program, 0, TM_TRACE="10",
                                          TM_SAMPLE="1TiB", **preload)
    result["preloaded, not started"] = within("steps.py", program, 0, **preload)
    return result


def start(options):
    """Milliseconds that tm start says it stopped the program."""
    return {count: spread([start_time.once(count)[1] for each in range(3 if options.quick else 9)])
            for count in (1, 100)}


def snapshot(options):
    """Seconds of tm snapshot and tm top."""
    return {live: within("snapshot.py", [MICRO, 1, live, 5, DEPTH], 10)
            for live in ((1000000,) if options.quick else (1000000, 10000000))}


def group(options):
    return grouping.figures([100000] if options.quick else [100000, 1000000])


def names(options):
    return symbols.measure(options.quick, 1 if options.quick else 3)


def whole(options):
    return programs.measure(options.scale, options.rounds, options.programs)


# Cheap ones first: what is printed before a failure is kept in bench.json.
SECTIONS = {"steps": steps, "start": start, "threads": threads, "memory": memory,
            "grouping": group, "symbols": names, "micro": micro, "snapshot": snapshot,
            "pauses": longest, "programs": whole}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="about a minute: fewer rounds, smaller sets, no whole programs")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION",
                        help=", ".join(SECTIONS))
    parser.add_argument("--columns", nargs="+", type=int, help="of micro, from 0")
    parser.add_argument("--programs", nargs="+", metavar="NAME", help="of the whole programs")
    parser.add_argument("--scale", type=float, default=1.0, help="of the whole programs' work")
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 5)
    return options


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *which: sys.exit(1))  # what was started must end too
    for each in not_installed():
        print(f"not here: {each}", file=sys.stderr)
    result = {"machine": f"{platform.machine()}, {os.cpu_count()} processors, Linux "
                         f"{platform.release()}", "quick": options.quick, "rounds": options.rounds,
              "took": {}}
    output = pathlib.Path(ROOT, "build", "bench.json")
    wanted = options.only or [name for name in SECTIONS if not options.quick or name != "programs"]
    output.write_text(json.dumps(result))
    try:
        for name in wanted:
            began = time.monotonic()
            print(f"{name} ({wanted.index(name) + 1} of {len(wanted)})", file=sys.stderr,
                  flush=True)
            try:
                result[name] = SECTIONS[name](options)
            except Failed as failure:
                result[name] = {"failed": str(failure)}
            result["took"][name] = time.monotonic() - began
            output.write_text(json.dumps(result, indent=1) + "\n")
    finally:  # an interrupted run shows what it has
        print(report.text(json.loads(output.read_text())), flush=True)


if __name__ == "__main__":
    main()
