"""The tables that `make bench` prints: figures, and the aims beside them."""

AIMS = {"tm 10 to heaptrack": 1 / 8, "tm 25 to heaptrack": 1 / 5, "tm 10 to floor 10": 1.5,
        "tm 25 to floor 25": 1.5}


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


def met(value, aim):
    return "aim met" if value <= aim else "aim NOT met"


def micro(columns):
    """Nanoseconds added to a pair, then the ratios."""
    names = []
    for each in columns.values():
        names += [name for name in each["added"] if name not in names]
    rows = [["native pair"] + [spread(each["native"]) for each in columns.values()]]
    for name in names:
        cells = []
        for each in columns.values():
            failure = each["failures"].get(name)
            cells.append("failed" if failure and failure.startswith("failed")
                         else "missing" if failure else spread(each["added"].get(name), "+"))
        rows.append([name, *cells])
    lines = table("Nanoseconds added to a pair of malloc and free: median (min … max)",
                  ["", *columns], rows)
    rows = []
    for name, aim in AIMS.items():
        values = [each["ratios"].get(name) for each in columns.values()]
        rows.append([f"{name}, aim {aim:g}", *[quotient(value) for value in values]])
        rows.append(["", *[met(value["median"], aim) if value else "–" for value in values]])
    one, two = columns.get("live 100,000"), columns.get("2 threads, 100,000 each")
    if one and two and one["added"]["tm 10"] and two["added"]["tm 10"]:
        value = two["added"]["tm 10"]["median"] / one["added"]["tm 10"]["median"]
        rows.append(["tm 10, 2 threads to 1, aim 1.15", *["" for each in list(columns)[1:]],
                     f"{value:.2f}, {met(value, 1.15)}"])
    lines += table("What is added, as ratios within the rounds", ["", *columns], rows)
    for column, each in columns.items():
        lines += [f"  {column}: {name}: {reason}" for name, reason in each["failures"].items()]
    return lines


def memory(values):
    lines = ["", "Memory"]
    empty = values.pop("empty")
    lines.append(f"  nothing allocated: {empty / 1048576:.2f} MiB, {met(empty, 2 << 20)} (2 MiB)")
    for live, value in values.items():
        lines.append(f"  {int(live):,} live blocks: {value:.1f} bytes each, "
                     f"{met(value, 24)} (24 bytes)")
    values["empty"] = empty
    return lines


def pauses(values):
    """One line for each power of two in which there is anything."""
    classes = len(values["native"]["quiet"])
    rows = []
    for i in range(classes):
        cells = [values[name][kind][i] for name in ("native", "tm 10")
                 for kind in ("quiet", "preempted")]
        if any(cells):
            limit = 2 << i
            named = (f"{limit} ns" if limit < 10000 else f"{limit / 1000:.0f} µs"
                     if limit < 10000000 else f"{limit / 1000000:.0f} ms")
            rows.append(["below " + named, *[f"{each:,}" for each in cells]])
    lines = table("How long allocations took, while the live set grew and after",
                  ["", "native", "preempted", "tm 10", "preempted"], rows)
    longest = values["tm 10"]["longest"]
    native = values["native"]["longest"]
    lines.append(f"  longest with tm, the processor not lost: {longest / 1000:,.0f} µs, "
                 f"{met(longest, 1000000)} (1 ms); native {native / 1000:,.0f} µs")
    return lines


def steps(values):
    lines = ["", "Instructions of a pair, the last stack known"]
    for frames, each in values.items():
        same = "as untouched" if each["stopped"] == each["native"] else "NOT as untouched"
        lines.append(f"  {frames} frames: {each['native']} native, {each['traced']} traced, "
                     f"{each['stopped']} after tm stop ({same})")
        lines.append("    by source file: " + ", ".join(
            f"{name} {count}" for name, count in each["parts"].items()))
    return lines


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
    names = []
    for each in values.values():
        names += [name for name in each["to native"] if name not in names]
    rows = []
    for program, each in values.items():
        alone = each["native seconds"]
        rows.append([program, f"{alone['median']:.2f} s" if alone else "–",
                     *[quotient(each["to native"].get(name)) for name in names]])
    lines = table("Whole programs, processor time to native", ["", "native", *names], rows)
    rows = []
    for program, each in values.items():
        value = each["added, to heaptrack"]["tm 10"]
        row = [program, quotient(value), met(value["median"], 0.25) if value else ""]
        for frames in (10, 25):
            value = each["added, to tracemalloc"].get(frames)
            row += [quotient(value), met(value["median"], 0.1) if value else ""]
        rows.append(row)
    lines += table("What is added: tm 10 to heaptrack (aim 0.25), to tracemalloc of as many "
                   "frames (aim 0.1 with malloc)",
                   ["", "heaptrack", "", "tracemalloc 10", "", "tracemalloc 25", ""], rows)
    for program, each in values.items():
        lines += [f"  {program}: {name}: {reason}" for name, reason in each["failures"].items()]
    return lines


def text(result):
    """All sections that were measured."""
    lines = [f"{result['machine']}; {result['rounds']} rounds, interleaved; processor time"]
    for name, part in (("micro", micro), ("memory", memory), ("pauses", pauses), ("steps", steps),
                       ("symbols", symbols),
                       ("programs", whole_programs)):
        if name in result:
            failed = result[name].get("failed")
            lines += ["", f"{name}: failed: {failed}"] if failed else part(result[name])
    if "start" in result:
        value = result["start"]
        lines += ["", f"tm start stops the program for {spread(value)} ms, "
                      f"{met(value['median'], 50)} (50 ms)"]
    if "snapshot" in result and "failed" not in result["snapshot"]:
        value = result["snapshot"]
        lines += ["", f"{value['live']:,} live blocks: tm snapshot {value['snapshot']:.2f} s, "
                      f"{met(value['snapshot'], 0.5)} (0.5 s at 10,000,000); "
                      f"tm top {value['top']:.2f} s, {met(value['top'], 1)} (1 s)"]
    elif "snapshot" in result:
        lines += ["", f"snapshot: failed: {result['snapshot']['failed']}"]
    lines += ["", f"{result['seconds']:.0f} s; all figures in build/bench.json"]
    return "\n".join(lines)
