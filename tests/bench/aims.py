"""The eight aims of the benchmark, beside the figures: pure arithmetic on what was measured.

May use: nothing.  Must never measure or print.
"""


class Row:
    """One line of the table: `met` is None where there is no figure."""

    def __init__(self, number, aim, figure, met):
        self.number, self.aim, self.figure, self.met = number, aim, figure, met


def at_most(number, aim, limit, values, shown):
    """One row over several cases, {case: value or None}: all of them must be met.

    Shows the worst, and those that are over the limit.
    """
    known = {case: value for case, value in values.items() if value is not None}
    if not known:
        return Row(number, aim, "no figure", None)
    worst = max(known, key=known.get)
    over = [f"{case} {shown(known[case])}" for case in sorted(known, key=known.get, reverse=True)
            if known[case] > limit]
    if over:
        return Row(number, aim, "; ".join(over), False)
    case = f" ({worst})" if worst else ""
    return Row(number, aim, f"at most {shown(known[worst])}{case}", True)


def ratio(value):
    return f"{value:.2f}"


def milliseconds(value):
    return f"{value:.3g} ms"


def seconds(value):
    return f"{value:.2g} s"


def median(value):
    return value and value["median"]


def pairs(result):
    columns = {name: each for name, each in result.get("micro", {}).items() if "ratios" in each}
    for frames, to, limit, words in ((10, "heaptrack", 1 / 8, "1/8 of heaptrack's"),
                                     (25, "heaptrack", 1 / 5, "1/5 of heaptrack's"),
                                     (10, "floor 10", 1.5, "1.5 of the floor's"),
                                     (25, "floor 25", 1.5, "1.5 of the floor's")):
        yield at_most(1, f"a pair at {frames} frames adds ≤ {words}", limit,
                      {name: median(each["ratios"]["wall"].get(f"tm {frames} to {to}"))
                       for name, each in columns.items()}, ratio)


def threads(result):
    yield at_most(2, "2 threads add ≤ 1.15 of 1 to a pair", 1.15,
                  {name: median(each["wall"])
                   for name, each in result.get("threads", {}).items() if name != "failed"}, ratio)


def memory(result):
    each = result.get("memory", {})
    yield at_most(3, "≤ 24 bytes a live block", 24,
                  {f"{int(live):,} blocks": value
                   for live, value in each.get("blocks", {}).items()}, lambda value: f"{value:.1f}")
    yield at_most(3, "< 2 MiB with nothing allocated", 2, {"": each["empty"] / (1 << 20)}
                  if "empty" in each else {}, lambda value: f"{value:.2f} MiB")


def pauses(result):
    told = result.get("pauses", {}).get("tm 10")
    yield at_most(4, f"of {told['pairs']:,} pairs tm adds > 1 ms to none" if told
                  else "tm adds > 1 ms to no pair", 1,
                  {"longest": told and told["longest"] / 1e6}, milliseconds)
    yield at_most(4, "nor to the first pair through a new object", 1,
                  {f"{count} objects": each / 1e6 for count, each
                   in result.get("pauses", {}).get("first calls", {}).items()}, milliseconds)
    yield at_most(4, "tm start stops ≤ 50 ms", 50,
                  {f"{count} threads": median(each)
                   for count, each in result.get("start", {}).items() if count != "failed"},
                  milliseconds)
    for command, limit in (("snapshot", 0.5), ("top", 1)):
        yield at_most(4, f"tm {command} of 10,000,000 blocks ≤ {limit} s", limit,
                      {f"{int(live):,} blocks": each[command] for live, each
                       in result.get("snapshot", {}).items() if live != "failed"}, seconds)


def programs(result):
    known = {name: each for name, each in result.get("programs", {}).items() if "wall" in each}
    yield at_most(5, "a whole program at 10 frames adds ≤ 1/4 of heaptrack's", 1 / 4,
                  {name: median(each.get("to heaptrack")) for name, each in known.items()}, ratio)
    yield at_most(5, "python3 with malloc adds ≤ 1/10 of tracemalloc's", 1 / 10,
                  {f"{frames} frames": median(value)
                   for name, each in known.items() if name == "python3 malloc"
                   for frames, value in each["to tracemalloc"].items()}, ratio)
    yield at_most(5, "sampled at 512 KiB: ≤ 1.02 of native", 1.02,
                  {name: median(each["wall"].get("tm 25 sampled"))
                   for name, each in known.items()}, ratio)


def off(result):
    steps = result.get("steps", {})
    traced = {name: each for name, each in steps.items() if name.isdigit()}
    yield at_most(6, "after tm stop: no instruction more than untouched", 0,
                  {f"{name} frames": each["stopped"] - each["native"]
                   for name, each in traced.items()}, str)
    native = [each["native"] for each in traced.values()]
    loaded = steps.get("preloaded, not started")
    yield at_most(6, "preloaded but never started: likewise", 0,
                  {"a pair of malloc and free": loaded["same"] - native[0]}
                  if loaded and native else {}, str)


def host(result):
    yield at_most(7, "1,000,000 tracebacks grouped < 1 s", 1,
                  {each["key"]: each["seconds"] for each in result.get("grouping", [])
                   if "key" in each and each["tracebacks"] == 1000000}, seconds)
    yield at_most(7, "10,000 addresses named in ≤ the others' time, cold", 1,
                  {f"{name}, {tool}": 1 / median(value)
                   for name, each in result.get("symbols", {}).items() if name != "failed"
                   for tool, value in each["cold to tm"].items() if value and tool != "tm"}, ratio)
    yield at_most(7, "likewise the second time", 1,
                  {f"{name}, {tool}": 1 / median(value)
                   for name, each in result.get("symbols", {}).items() if name != "failed"
                   for tool, value in each["again to tm"].items()
                   if value and tool != "tm" and median(value) > 0}, ratio)


def rows(result):
    """A Row for each aim, in their order."""
    made = [row for part in (pairs, threads, memory, pauses, programs, off, host)
            for row in part(result)]
    return made + [Row(8, "the cost grows as it should", "plots of make bench-plots, to be "
                                                         "looked at", None)]
