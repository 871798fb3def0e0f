"""Totals of a snapshot and the histogram of its sizes, and how much a heap grew; as
text and as documents.

May use the standard library, the model and _tm.  Must not import gdb.
"""

from tm.grouping import domain_text
from tm.histogram import histogram, median
from tm.paths import rows
from tm.documents import difference_keys, sampling_keys
from tm.render import place_text, plural
from tm.statistics import format_size

_BAR = 40


def _sizes(snapshot):
    found = {}
    for _node, size, count, bytes_, _domain in rows(snapshot):
        sums = found.setdefault(size, [0, 0])
        sums[0] += count
        sums[1] += bytes_
    return [(size, count, bytes_) for size, (count, bytes_) in sorted(found.items())]


def stats_document(snapshot, process=None):
    """What `tm stats -json` prints; process is of tm.residency."""
    sizes = _sizes(snapshot)
    domains = snapshot.groups("domain")
    return {
        "command": "stats", "snapshot": snapshot.name, "total_size": snapshot.size,
        "total_count": snapshot.blocks, "tracebacks": snapshot.tracebacks,
        "traceback_limit": snapshot.traceback_limit,
        "average": snapshot.size / snapshot.blocks if snapshot.blocks else None,
        "median": median(row[:2] for row in sizes) if sizes else None,
        "smallest": sizes[0][0] if sizes else None, "largest": sizes[-1][0] if sizes else None,
        "histogram": [bucket._asdict() for bucket in histogram(sizes)],
        "domains": [{"domain": number, "size": each.size, "count": each.count}
                    for each, number in zip(domains, domains.numbers(len(domains)))],
        "process": process, **sampling_keys(snapshot),
    }


def _range(low, high):
    if low == high:
        return "%d B" % low
    if low < 1024:
        return "%d - %d B" % (low, high)
    return "%s - < %s" % tuple(_short(size) for size in (low, high + 1))


def _short(size):
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            return "%d %s" % (size, unit)
        size //= 1024
    raise AssertionError("TiB is the last unit")


def _histogram_lines(buckets, width):
    cells = [("Size of a block", "Blocks", "Bytes")]
    cells += [(_range(bucket["low"], bucket["high"]), str(bucket["count"]),
               format_size(bucket["size"])) for bucket in buckets]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    largest = max(bucket["size"] for bucket in buckets)
    bar = _BAR if width is None else max(0, min(_BAR, width - sum(widths) - 7))
    for row, size in zip(cells, [0] + [bucket["size"] for bucket in buckets]):
        marks = -(-bar * size // largest) if largest else 0
        yield ("%-*s  %*s  %*s  %s" % (widths[0], row[0], widths[1], row[1], widths[2], row[2],
                                       "#" * marks)).rstrip()


def render_stats(document, process_lines=(), width=None, note=""):
    """The text of `tm stats`; width is that of the screen, None when there is none; note is
    of tm.sampling."""
    lines = ["Snapshot %s: %s, %s, %s (limit %d)."
             % (document["snapshot"], plural(document["total_count"], "block"),
                format_size(document["total_size"]), plural(document["tracebacks"], "traceback"),
                document["traceback_limit"])]
    if document["total_count"]:
        lines.append("A block has %s on average, median %s, smallest %s, largest %s."
                     % tuple(format_size(document[key])
                             for key in ("average", "median", "smallest", "largest")))
        lines.extend(_histogram_lines(document["histogram"], width))
        for domain in document["domains"]:
            lines.append("In %s: %s, %s." % (domain_text(domain["domain"]),
                                             plural(domain["count"], "block"),
                                             format_size(domain["size"])))
    lines.extend(process_lines)
    return "\n".join(lines) + "\n" + note


def check_document(old, new, limit):
    """What `tm check -json` prints."""
    growth = new.size - old.size
    grown = next((each for each in new.differences(old, "lineno") if each.size_diff > 0), None)
    return {"command": "check", "old": old.name, "snapshot": new.name, "growth": growth,
            "max_growth": limit, "ok": growth <= limit, "old_size": old.size,
            "total_size": new.size, "count_diff": new.blocks - old.blocks,
            **difference_keys(old, new), "most": None if grown is None else {
                "place": place_text(grown.traceback[-1]), "size_diff": grown.size_diff,
                "count_diff": grown.count_diff}}


def check_text(document):
    """One line: what grew, and whether that is too much."""
    text = ("The heap %s by %s from %s to %s (%s to %s, %+d blocks)"
            % ("shrank" if document["growth"] < 0 else "grew",
               format_size(abs(document["growth"])), document["old"], document["snapshot"],
               format_size(document["old_size"]), format_size(document["total_size"]),
               document["count_diff"]))
    if document.get("size_diff_error"):
        text += (", estimated with a standard error of at most %s"
                 % format_size(document["size_diff_error"]))
    text += ", %s than the %s allowed" % ("no more" if document["ok"] else "more",
                                          format_size(document["max_growth"]))
    if document["most"] and not document["ok"]:
        text += ", most at %s (%s)" % (document["most"]["place"],
                                       format_size(document["most"]["size_diff"], True))
    return text + "."
