#!/usr/bin/python3
"""How the added cost grows, as SVG: `make bench-plots`.

    tests/bench/plots.py [--rounds N] [--only PLOT …]

Against live blocks, frames, threads and modules; resident memory a block; a histogram of
pauses.  Writes build/plots/*.svg and plots.json, and prints the figures.
"""
import argparse
import json
import os
import signal
import statistics
import sys
import time

os.environ["LC_ALL"] = "C.UTF-8"

import pairs  # noqa: E402
import pauses  # noqa: E402
import report  # noqa: E402
import svg  # noqa: E402
from measure import interleave  # noqa: E402
from variants import BUILD, ROOT, Failed, Floor, Heaptrack, Tm, Variant, run  # noqa: E402

FOLDER = ROOT / "build" / "plots"
MODULES = 1000
PLACE_SECONDS = 30  # after which no round of a place is begun
WALL = "nanoseconds added to a pair of malloc and free"


def measured(places, variants, once, rounds, tell):
    """{variant: [(place, {"wall": …, "processor": …}), …]}: the median of what each variant
    adds to native at each place; `variants(place)` makes them anew."""
    series = {}
    for place in places:
        figures = interleave([Variant("native"), *variants(place)], rounds,
                             lambda each: once(each, place), f"{tell} {place:,}",
                             time.monotonic() + PLACE_SECONDS)
        for each in figures.variants[1:]:
            value = {timer: figures.value(each.name, "native", timer) for timer in pairs.TIMERS}
            if value["wall"]:
                series.setdefault(each.name, []).append((place, value))
        for name, reason in figures.failures.items():
            print(f"  {tell} {place:,}: {name}: {reason}", file=sys.stderr)
    return series


def added_cost(name, title, note, x_label, series):
    """Writes a plot of what measured() gave, by the processor time of the threads."""
    points = {each: [(place, value["processor"]["median"]) for place, value in found]
              for each, found in series.items()}
    write(name, svg.lines(title, note, x_label, WALL, points))
    return {each: [(place, value["wall"], value["processor"]) for place, value in found]
            for each, found in series.items()}


def write(name, text):
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.svg").write_text(text)
    print(f"  wrote build/plots/{name}.svg", file=sys.stderr)


def live(rounds):
    resident = {}

    def variants(place):
        found = [Tm("tm, 10 frames", 10), Tm("tm, 25 frames", 25),
                 floor(10, place), floor(25, place)]
        return found + ([Heaptrack()] if place <= 1000000 else [])

    def once(variant, place):
        made = pairs.micro(variant, 1, place, 400000 // variant.slow)
        resident.setdefault(variant.name, {}).setdefault(place, []).append(
            made["after"] - made["before"])
        return pairs.times(made)

    series = measured([10 ** power for power in range(3, 8)], variants, once, rounds, "live")
    added = {name: [(place, (statistics.median(values)
                             - statistics.median(resident["native"][place])) / place)
                    for place, values in places.items()]
             for name, places in resident.items() if name.startswith("tm")}
    write("memory", svg.lines("Memory a live block", "resident bytes beside the program's own; "
                              "blocks of 16 to 215 bytes", "live blocks", "bytes a live block",
                              added))
    return {"cost": added_cost("live", "Added cost against live blocks",
                               "processor time; one thread, 25 calls deep, random order",
                               "live blocks", series), "memory": added}


def floor(frames, blocks):
    variant = Floor(frames, blocks)
    variant.name = f"floor, {frames} frames"
    return variant


def frames(rounds):
    def variants(place):
        tm, least, peer = Tm("tm", place), floor(place, 1000), Heaptrack()
        least.name = "floor"
        return [tm, least, peer]

    series = measured([1, 5, 10, 25, 60, 200], variants,
                      lambda variant, place: pairs.times(pairs.micro(
                          variant, 1, 1000, 400000 // variant.slow, depth=place)),
                      rounds, "frames")
    return added_cost("frames", "Added cost against frames",
                      "processor time; 1,000 live blocks, as many calls deep as frames are kept",
                      "frames", series)


def threads(rounds):
    series = measured([1, 2, 8, 64],
                      lambda place: [Tm("tm, 10 frames", 10), floor(10, place * 10000),
                                     Heaptrack()],
                      lambda variant, place: pairs.times(pairs.micro(
                          variant, place, 10000, 800000 // place // variant.slow)),
                      rounds, "threads")
    return added_cost("threads", "Added cost against threads",
                      f"processor time of a pair; 10,000 live blocks a thread, "
                      f"{os.cpu_count()} processors", "threads", series)


def modules(rounds):
    """One object, loaded from a thousand files."""
    folder = pairs.module_folder(MODULES)

    def once(variant, place):
        return pairs.times(pairs.json_line(run(
            variant, [BUILD / "loads", folder, place, 200000 // variant.slow, 25])[0]))

    def variants(place):
        # heaptrack looks at all modules anew for each that is loaded: minutes, for a thousand.
        return [Tm("tm, 10 frames", 10), Tm("tm, 25 frames", 25), floor(25, 100000),
                *([Heaptrack()] if place <= 10 else [])]

    series = measured([1, 10, 100, 1000],
                      variants, once, rounds, "modules")
    return added_cost("modules", "Added cost against modules",
                      "processor time; each pair at the end of a chain of 25 calls, "
                      "each in the next module", "modules that calls go through", series)


def longest(rounds):
    told = pauses.pauses(1000000, 9000000)
    write("pauses", svg.bars("How long pairs of free and malloc take",
                             "10,000,000 pairs, 1,000,000 blocks in the end (native: 1,900,000); "
                             "shortest of some same runs",
                             "nanoseconds", "pairs",
                             {name: [(2 << number, count) for number, count
                                     in enumerate(each["histogram"])]
                              for name, each in (("tm 10 adds", told["tm 10"]),
                                                 ("native", told["native"]))}, limit=1000000))
    return told


PLOTS = {"live": live, "frames": frames, "threads": threads, "modules": modules, "pauses": longest}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PLOTS, metavar="PLOT")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *which: sys.exit(1))  # what was started must end too
    result = {}
    for name in options.only or PLOTS:
        began = time.monotonic()
        try:
            result[name] = PLOTS[name](options.rounds)
        except Failed as failure:
            result[name] = {"failed": str(failure)}
            print(f"{name}: {failure}", file=sys.stderr)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "plots.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, series in result.items():
        if name in ("frames", "threads", "modules", "live") and "failed" not in series:
            print("\n".join(report.growth(name, series["cost"] if name == "live" else series)))
    if "live" in result and "failed" not in result["live"]:
        print("\n".join(report.bytes_a_block(result["live"]["memory"])))


if __name__ == "__main__":
    main()
