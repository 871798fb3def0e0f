"""What the micro-benchmark measures: pairs of malloc and free, threads, memory.

May use: variants.py, measure.py.  Costs are told by the clock on the wall, where a thread
that waits for a lock or a reader is seen, and by processor time of the program's own threads,
which other work on the machine disturbs least.
"""
import json
import re
import statistics
import subprocess
import tempfile
import time

from measure import interleave
from variants import (BUILD, Failed, Floor, Heaptrack, Idle, Tm, Valgrind, Variant, allocators,
                      end_session, environment_of, mtrace, processes_of_session, profilers, run)

MICRO = BUILD / "micro"
DEPTH = 25
TIMERS = ("wall", "processor")
COLUMNS = {"live 1,000": (1, 1000), "live 100,000": (1, 100000), "live 1,000,000": (1, 1000000),
           "2 threads, 100,000 each": (2, 100000)}
TIMEOUT = 60
COLUMN_SECONDS = 45  # after which no round of a column is begun


def json_line(output):
    """The last line of JSON in a program's output."""
    lines = [each for each in output.splitlines() if each.startswith("{")]
    if not lines:
        raise Failed("no figures: " + (output.strip() or "no output").splitlines()[-1][:80])
    return json.loads(lines[-1])


def micro(variant, threads, live, count, *mode, depth=DEPTH, timeout=TIMEOUT):
    """What the micro-benchmark prints."""
    return json_line(run(variant, [MICRO, threads, live, count, depth, *mode],
                         timeout=timeout)[0])


def times(told):
    return {timer: statistics.median(told[timer]) for timer in TIMERS}


def column(threads, live, quick, rounds, tell):
    """Nanoseconds added to a pair by every variant, and the ratios that the aims are about."""
    usual = [Variant("native"), Tm("tm 10", 10), Tm("tm 25", 25),
             Tm("tm 25 sampled", "25 -sample 512KiB"), Floor(10, threads * live),
             Floor(25, threads * live), Idle(198), Idle(300), Heaptrack()]
    peers = [] if quick and live > 100000 else [mtrace(), *allocators()]
    if not quick:
        usual.insert(1, Tm("tm 1", 1))
        peers += [Valgrind("massif"), Valgrind("dhat")]
    pairs = 400000 if quick else 1000000

    def once(variant):
        # Who takes microseconds needs few pairs, and its filling takes long enough.
        return times(micro(variant, threads, live, max(pairs // variant.slow, 5000)))

    result = {"native": {}, "added": {timer: {} for timer in TIMERS},
              "ratios": {timer: {} for timer in TIMERS}, "failures": {}}
    for group, turns in ((usual, rounds), ([Variant("native"), *peers], 1)):
        figures = interleave(group, turns, once, tell, time.monotonic() + COLUMN_SECONDS)
        result["failures"].update(figures.failures)
        for timer in TIMERS:
            for each in figures.variants[1:]:
                result["added"][timer][each.name] = figures.value(each.name, each.base, timer)
            if group is not usual:
                continue
            result["native"][timer] = figures.value("native", timer=timer)
            for frames in (10, 25):
                for to in ("heaptrack", f"floor {frames}"):
                    result["ratios"][timer][f"tm {frames} to {to}"] = figures.ratio(
                        f"tm {frames}", "native", to, "native", timer)
    return result


class Threads:
    """A variant of a variant: with this many threads."""

    def __init__(self, variant, threads):
        self.variant, self.threads = variant, threads
        self.name, self.base = f"{variant.name}, {threads}", f"native, {threads}"
        self.missing = variant.missing


def threads(quick, rounds):
    """{frames: what 2 threads add to a pair, to what 1 adds}; each with 100,000 live blocks."""
    frames = (10,) if quick else (10, 25)
    variants = [Threads(variant, count) for variant in
                (Variant("native"), *(Tm(f"tm {each}", each) for each in frames))
                for count in (1, 2)]
    figures = interleave(variants, rounds, lambda each: times(
        micro(each.variant, each.threads, 100000, 400000 if quick else 1000000)), "threads")
    if figures.failures:
        raise Failed("; ".join(figures.failures.values()))
    return {f"tm {each}": {timer: figures.ratio(f"tm {each}, 2", "native, 2", f"tm {each}, 1",
                                                "native, 1", timer)
                           for timer in TIMERS} for each in frames}


def highest_resident(variant, live):
    """Bytes that the program, and all that was started to trace it, held at their highest."""
    known = {}
    with tempfile.TemporaryDirectory(prefix="run-", dir=BUILD) as folder:
        command, additions = variant.command([str(MICRO), "1", str(live), "5", str(DEPTH)], folder)
        process = subprocess.Popen(command, cwd=folder, env=environment_of(additions),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + TIMEOUT
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise Failed(f"longer than {TIMEOUT} s")
                known.update(resident_of_session(process.pid))
                time.sleep(0.01)
        finally:
            end_session(process)
    return sum(known.values())


def resident_of_session(session):
    """{process: its highest resident bytes so far, proc(5)'s VmHWM}"""
    found = {}
    for folder in processes_of_session(session):
        try:
            highest = re.search(r"VmHWM:\s+(\d+)", (folder / "status").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        if highest:
            found[folder.name] = int(highest[1]) * 1024
    return found


def memory(quick):
    """Resident bytes that tm adds: with nothing allocated, and to each block of a live set;
    what the peers and their helpers hold a block, the program's own bytes taken off."""
    result = {"blocks": {}, "peers": {}, "failures": {}}
    native, traced = (micro(each, 1, 0, 0)["before"] for each in (Tm("native", 0), Tm("tm", 10)))
    result["empty"] = traced - native
    for live in (1000000,) if quick else (1000000, 10000000):
        native, traced = (micro(each, 1, live, 5) for each in (Tm("native", 0), Tm("tm", 10)))
        result["blocks"][f"{live}"] = (traced["after"] - native["after"]
                                       - result["empty"]) / live
    peers = [] if quick else [(profilers()[0], 300000), (Heaptrack(), 1000000)]
    for variant, live in peers:
        reason = variant.missing()
        try:
            if not reason:
                result["peers"][f"{variant.name}, {live:,} blocks"] = (
                    highest_resident(variant, live)
                    - highest_resident(Variant("native"), live)) / live
        except Failed as failure:
            reason = f"failed: {failure}"
        if reason:
            result["failures"][variant.name] = reason
    return result


def module_folder(count):
    """A folder of the same object under `count` names, for modules.c."""
    folder = BUILD / "modules"
    folder.mkdir(exist_ok=True)
    content = (BUILD / "module.so").read_bytes()
    for number in range(count):
        (folder / f"{number}.so").write_bytes(content)
    return folder
