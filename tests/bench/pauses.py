"""How long single pairs of free and malloc take, and what of it is because of tm.

What one run shows is mostly the machine: whoever had the processor meanwhile.  So the same
run is made several times, without address space randomization: each pair then does the same
work in each, and took no longer than its shortest time.  The allocator's own time is taken
off (allocator_time.c).  May use: variants.py, pairs.py.
"""
from pairs import json_line, micro, module_folder
from variants import BUILD, TmFromStart, Variant, run

LIMIT = 1000000  # nanoseconds; while a pair seems to take longer there is another run …
RUNS = 2, 5      # … at least and at most
TIMEOUT = 600
OBJECTS = 10, 100, 1000


class Repeated(Variant):
    """A variant whose runs are all the same, and whose allocator keeps its time, if so wanted."""

    def __init__(self, variant, keeps_time):
        super().__init__(variant.name)
        self.variant, self.keeps_time = variant, keeps_time

    def command(self, program, folder):
        program, additions = self.variant.command(program, folder)
        if self.keeps_time:
            additions = {**additions, "LD_PRELOAD": f"{additions['LD_PRELOAD']} "
                                                    f"{BUILD / 'allocator_time.so'}"}
        return ["setarch", "-R", *program], additions


def shortest(runs):
    """{number: nanoseconds} of the pairs that took long in every run."""
    long = [dict(each["long"]) for each in runs]
    return {number: min(each[number] for each in long)
            for number in long[0] if all(number in each for each in long)}


def summary(runs):
    """The first run's histogram, that of the shortest times, and the longest of these."""
    once = runs[0]["histogram"]
    kept = shortest(runs)
    first = runs[0]["threshold"].bit_length() - 1  # class of those that are told one by one
    histogram = once[:first] + [0] * (len(once) - first)
    histogram[first - 1] += sum(once[first:]) - len(kept)
    for nanoseconds in kept.values():
        histogram[min(nanoseconds.bit_length(), len(once)) - 1] += 1
    ends = [2 << number for number, count in enumerate(histogram) if count]
    return {"once": once, "histogram": histogram, "runs": len(runs), "pairs": sum(once),
            "longest": max(kept.values(), default=ends[-1])}


def measure(variant, live, pairs):
    runs = []
    while len(runs) < RUNS[0] or (len(runs) < RUNS[1]
                                  and max(shortest(runs).values(), default=0) > LIMIT):
        runs.append(micro(variant, 1, live, pairs, "pauses", timeout=TIMEOUT))
    return summary(runs)


def first_calls():
    """{objects: nanoseconds of processor time of the first pair through the last of so many},
    each the shortest of three runs: tm learns then what is mapped."""
    folder = module_folder(max(OBJECTS))
    runs = [json_line(run(TmFromStart(10), [BUILD / "loads", folder, max(OBJECTS), 0, 1, "first"],
                          timeout=TIMEOUT)[0])["first"] for turn in range(3)]
    return {str(count): min(each[count - 1] for each in runs) for count in OBJECTS}


def pauses(live, pairs):
    """While a live set grows and after: what tm adds to each of `live` + `pairs` pairs; and
    how long a tenth as many take without it, for scale."""
    return {"first calls": first_calls(),
            "tm 10": measure(Repeated(TmFromStart(10), True), live, pairs),
            "native": measure(Repeated(Variant("native"), False), live, pairs // 10)}
