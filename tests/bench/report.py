"""The tables that `make bench` prints: the figures of each section, then all aims in one.

May use: aims.py.  Each section is a function of what bench.json holds of it.
"""
import textwrap

import aims


def spread(value, sign=""):
    """median (min … max)"""
    if value is None:
        return "–"
    return f"{value['median']:{sign}.0f} ({value['min']:.0f} … {value['max']:.0f})"


def quotient(value):
    if value is None:
        return "–"
    digits = 2 if abs(value["median"]) < 20 else 0
    return (f"{value['median']:.{digits}f} "
            f"({value['min']:.{digits}f} … {value['max']:.{digits}f})")


def table(title, header, rows):
    """Left column to the left, the others to the right."""
    rows = [header, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["", title]
    for row in rows:
        lines.append("  " + row[0].ljust(widths[0]) + "".join(
            "  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:])))
    return lines


def micro(columns):
    """Nanoseconds added to a pair, then the ratios."""
    lines = []
    for timer, words in (("wall", "by the wall clock"), ("processor", "of processor time")):
        names = []
        for each in columns.values():
            names += [name for name in each["added"][timer] if name not in names]
        rows = [["native pair"] + [spread(each["native"][timer]) for each in columns.values()]]
        for name in names:
            rows.append([name, *["failed" if name in each["failures"]
                                 else spread(each["added"][timer].get(name), "+")
                                 for each in columns.values()]])
        lines += table(f"Nanoseconds {words} added to a pair of malloc and free: "
                       "median (min … max)", ["", *columns], rows)
        ratios = list(next(iter(columns.values()))["ratios"][timer])
        lines += table(f"… as ratios within the rounds, {words}", ["", *columns],
                       [[name, *[quotient(each["ratios"][timer].get(name))
                                 for each in columns.values()]] for name in ratios])
    for column, each in columns.items():
        lines += [f"  {column}: {name}: {reason}" for name, reason in each["failures"].items()]
    return lines


def threads(values):
    return table("What 2 threads add to a pair, to what 1 adds; 100,000 live blocks each",
                 ["", "wall clock", "processor time"],
                 [[name, quotient(each["wall"]), quotient(each["processor"])]
                  for name, each in values.items()])


def memory(values):
    lines = ["", "Resident bytes that are added", f"  nothing allocated: "
             f"{values['empty'] / (1 << 20):.2f} MiB"]
    for live, value in values["blocks"].items():
        lines.append(f"  tm 10, {int(live):,} blocks: {value:.1f} a live block")
    for name, value in values["peers"].items():
        lines.append(f"  {name}: {value:,.0f} a live block, in the program and beside it")
    return lines + failures(values)


def failures(values):
    return [f"  {name}: {reason}" for name, reason in values["failures"].items()]


def duration(nanoseconds):
    for limit, factor, unit in ((1e4, 1, "ns"), (1e7, 1e3, "µs"), (1e10, 1e6, "ms")):
        if nanoseconds < limit:
            return f"{nanoseconds / factor:.0f} {unit}"
    return f"{nanoseconds / 1e9:.0f} s"


def pauses(values):
    """One line for each power of two in which there is anything."""
    rows = []
    for i in range(len(values["native"]["once"])):
        cells = [values[name][kind][i] for name in ("native", "tm 10")
                 for kind in ("once", "histogram")]
        if any(cells):
            rows.append(["below " + duration(2 << i), *[f"{each:,}" for each in cells]])
    lines = table("How long pairs of free and malloc took, while the live set grew and after",
                  ["", "native, one run", "shortest", "tm 10 adds, one run", "shortest"], rows)
    for name, words in (("native", "native"), ("tm 10", "tm 10 adds")):
        each = values[name]
        lines.append(f"  {words}: {each['pairs']:,} pairs, each in the shortest of {each['runs']} "
                     f"same runs at most {duration(each['longest'])}")
    return lines + [f"  the first pair through a new object, with {count} of them: "
                    f"{duration(each)} of processor time"
                    for count, each in values["first calls"].items()]


def steps(values):
    """Instructions of a pair of malloc and free, counted one by one."""
    kinds = ("native", "same", "alternating", "new", "stopped")
    lines = table("Instructions of a pair",
                  ["", "untouched", "same stack again", "two in turn", "a new leaf", "after stop"],
                  [[name + (" frames" if name.isdigit() else ""),
                    *[str(each[kind]) if name.isdigit() or kind in kinds[1:4] else ""
                      for kind in kinds]] for name, each in values.items()])
    lines += ["  added, a comparison and the jump behind it counted as one: " + ", ".join(
        f"{each['operations']['same'] - each['operations']['native']} ({name})"
        for name, each in values.items() if each["same"] > each["native"])]
    columns = [(name, kind, each["components"][kind]) for name, each in values.items()
               if name.isdigit() for kind in kinds[1:4]]
    names = []
    for name, kind, counted in columns:
        names += [part for part in counted if part not in names]
    lines += table("… by component", ["", *[f"{name}, {kind}" for name, kind, counted in columns]],
                   [[part, *[str(counted.get(part, 0)) for name, kind, counted in columns]]
                    for part in names])
    return lines


def start(values):
    return ["", "Milliseconds for which tm start stops the program"] + [
        f"  {count} threads: {spread(each)}" for count, each in values.items()]


def snapshot(values):
    return table("Seconds, the program stopped", ["live blocks", "tm snapshot", "tm top"],
                 [[f"{int(live):,}", f"{each['snapshot']:.2f}", f"{each['top']:.2f}"]
                  for live, each in values.items()])


def grouping(values):
    return table("Seconds to group distinct tracebacks of 25 frames",
                 ["", "tracebacks", "groups", "seconds", "MiB more"],
                 [[each["key"], f"{each['tracebacks']:,}", f"{each['groups']:,}",
                   f"{each['seconds']:.3f}", f"{each['MiB']:.0f}"] for each in values])


def seconds(value):
    if value is None:
        return "–"
    return f"{value['median']:.3f}"


def symbols(objects):
    """Seconds of each tool, and how many times as long as tm it takes."""
    lines = []
    for name, each in objects.items():
        rows = []
        for tool in each["cold"]:
            if tool not in each["failures"]:
                rows.append([tool, *[shown(each[kind][tool]) for kind, shown in (
                    ("cold", seconds), ("cold to tm", quotient), ("again", seconds),
                    ("again to tm", quotient))]])
        lines += table(f"Seconds for the names of {each['addresses']:,} addresses of {name}",
                       ["", "cold", "to tm", "again", "to tm"], rows)
        lines += [f"  {tool}: {reason}" for tool, reason in each["failures"].items()]
    return lines


def whole_programs(values):
    """Wall clock to native, one line a variant; then what is added to what peers add."""
    known = {name: each for name, each in values.items() if "wall" in each}
    variants = []
    for each in known.values():
        variants += [name for name in each["wall"] if name not in variants]
    rows = [["native, seconds", *[f"{each['native seconds']['median']:.2f}"
                                  if each["native seconds"] else "–" for each in known.values()]]]
    for variant in variants:
        rows.append([variant, *[brief(each["wall"].get(variant)) for each in known.values()]])
    lines = table("Whole programs, wall clock to native: median", ["", *known], rows)
    rows = [["tm 10 to heaptrack", *[brief(each.get("to heaptrack")) for each in known.values()]]]
    for frames in sorted({each for one in known.values() for each in one["to tracemalloc"]},
                         key=int):
        rows.append([f"tm {frames} to tracemalloc {frames}",
                     *[brief(each["to tracemalloc"].get(frames)) for each in known.values()]])
    lines += table("What is added, as ratios: median (min … max in bench.json)", ["", *known], rows)
    for program, each in values.items():
        if "missing" in each:
            lines.append(f"  {program}: {each['missing']}")
        else:
            lines += [f"  {program}: {name}: {reason}"
                      for name, reason in each["failures"].items()]
    return lines


def growth(name, series):
    """What plots.py measured against one quantity: processor time, nanoseconds added."""
    places = sorted({place for points in series.values() for place, wall, processor in points})
    found = {each: {place: processor for place, wall, processor in points}
             for each, points in series.items()}
    return table(f"Nanoseconds of processor time added to a pair, against {name}",
                 ["", *[f"{place:,}" for place in places]],
                 [[each, *[spread(values.get(place), "+") for place in places]]
                  for each, values in found.items()])


def bytes_a_block(series):
    places = [place for place, value in next(iter(series.values()))]
    return table("Resident bytes a live block", ["", *[f"{place:,}" for place in places]],
                 [[name, *[f"{value:.1f}" for place, value in points]]
                  for name, points in series.items()])


def brief(value):
    return "–" if value is None else f"{value['median']:.2f}"


def all_aims(result):
    """One table: each aim, its figure, and whether it is met."""
    answers = {True: "met", False: "NOT met", None: "–"}
    rows = [[f"{row.number}. {row.aim}", row.figure, answers[row.met]] for row in aims.rows(result)]
    widths = [max(len(row[0]) for row in rows), 60]
    lines = ["", "The aims".ljust(widths[0] + 4) + "figure".ljust(widths[1] + 2) + "met?"]
    for aim, figure, answer in rows:
        first, *more = textwrap.wrap(figure, widths[1]) or [""]
        lines.append(f"  {aim.ljust(widths[0])}  {first.ljust(widths[1])}  {answer}")
        lines += [" " * (widths[0] + 4) + each for each in more]
    return lines


SECTIONS = {"micro": micro, "threads": threads, "memory": memory, "pauses": pauses,
            "steps": steps, "start": start, "snapshot": snapshot, "grouping": grouping,
            "symbols": symbols, "programs": whole_programs}


def text(result):
    """All sections that were measured."""
    lines = [f"{result['machine']}; {result['rounds']} rounds, interleaved"]
    for name, part in SECTIONS.items():
        if name in result:
            failed = "failed" in result[name] and result[name]["failed"]
            lines += ["", f"{name}: {failed}"] if failed else part(result[name])
    lines += all_aims(result)
    took = ", ".join(f"{name} {seconds:.0f}" for name, seconds in result["took"].items())
    lines += ["", f"{sum(result['took'].values()):.0f} s ({took}); all figures in "
                  "build/bench.json"]
    return "\n".join(lines)
