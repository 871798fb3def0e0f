"""The text of the reports, as the manual gives it.

May use the standard library and the model.  Must not import gdb: where source
lines come from and how file names are shown is handed in.
"""

import os

from tm.documents import (blocks_document, diff_document, snapshot_document, top_document,
                          traceback_document, traces_document)
from tm.grouping import domain_text
from tm.paint import PLAIN, clean
from tm.sampling import difference_notes, notes
from tm.statistics import format_size
from tm.tracebacks import source_line

__all__ = ["blocks_document", "diff_document", "render_blocks", "render_diff", "render_snapshot",
           "render_top", "render_traceback", "render_traces", "snapshot_document", "top_document",
           "traceback_document", "traces_document"]

NOUNS = {"lineno": "lines", "filename": "files", "traceback": "tracebacks",
         "function": "functions", "module": "modules", "size": "sizes", "domain": "domains"}


def plural(count, noun):
    """`1 block`, `2 blocks`."""
    return "%d %s%s" % (count, noun, "" if count == 1 else "s")


def _same(filename):
    return filename


def place_text(frame, key_type="lineno", show_name=_same, paint=PLAIN):
    """What names a line of a report."""
    if not frame.has_line:
        if key_type == "function" and frame.function:
            return paint.function(frame.function) + clean(frame.filename[len(frame.function):])
        return (paint.function if frame.function else paint.file)(frame.filename)
    name = paint.file(show_name(frame.filename))
    return name if key_type == "filename" else "%s:%s" % (name, frame.lineno)


def frame_lines(frame, source=source_line, show_name=_same, paint=PLAIN):
    """The one or two lines of a frame in a traceback."""
    if frame.has_line:
        text = '  File "%s", line %s' % (paint.file(show_name(frame.filename)), frame.lineno)
        if frame.function:
            text += ", in %s" % paint.function(frame.function)
    else:
        text = "  %s" % place_text(frame, paint=paint)
    line = frame.source_line(source)
    return [text, "    %s" % line] if line else [text]


def traceback_lines(traceback, limit=None, most_recent_first=False, source=source_line,
                    show_name=_same, paint=PLAIN):
    """All lines of a traceback."""
    lines = []
    for frame in traceback.selected(limit, most_recent_first):
        lines.extend(frame_lines(frame, source, show_name, paint))
    return lines


def _shown(groups, limit, first):
    return groups[first:] if limit is None else groups[first:first + limit]


def _group_lines(statistic, key_type, source_of, show_name, paint):
    if key_type == "traceback":
        lines = ["%d memory blocks: %.1f KiB" % (statistic.count, statistic.size / 1024)]
        return lines + traceback_lines(statistic.traceback, source=source_of,
                                       show_name=show_name, paint=paint)
    place = place_text(statistic.traceback[-1], key_type, show_name, paint)
    return ["%s: %s" % (place, statistic.figures())]


def render_top(snapshot, key_type, limit, cumulative=False, by="size", first=0, source=None,
               show_name=_same, source_of=source_line, paint=PLAIN):
    """The text of `tm top`.

    limit None shows all; first is how many were on the pages before.  source,
    a function (filename, lineno) -> line, makes it the pretty top; source_of
    is where tracebacks get their lines otherwise.
    """
    groups = snapshot.groups(key_type, cumulative, by)
    shown = _shown(groups, limit, first)
    if source:
        return "\n".join(_pretty_top(snapshot, groups, shown, first, source, show_name,
                                     limit, paint)) + "\n" + notes(snapshot)
    number = len(groups) if limit is None else limit
    if first:
        lines = ["[ %d to %d of %d ]" % (first + 1, first + len(shown), len(groups))
                 if shown else "[ No more ]"]
    else:
        lines = ["[ Top %d ]" % number]
    lines = [paint.title(line) for line in lines]
    for statistic in shown:
        lines.extend(_group_lines(statistic, key_type, source_of, show_name, paint))
    others, size, count = groups.rest(first + len(shown))
    if others:
        lines.append("%d other: size=%s, count=%d" % (others, format_size(size), count))
    lines.append("Total allocated size: %s" % format_size(snapshot.size))
    return "\n".join(lines) + "\n" + notes(snapshot)


def _short_name(filename):
    """`/path/to/module/file.c` -> `module/file.c`, as in the pretty top of tracemalloc."""
    return os.sep.join(filename.split(os.sep)[-2:])


def _pretty_top(snapshot, groups, shown, first, source, show_name, limit, paint):
    key_type = groups.key_type
    if show_name is _same:
        show_name = _short_name
    lines = [paint.title("Top %d %s" % (len(groups) if limit is None else limit,
                                        NOUNS[key_type]))]
    for number, statistic in enumerate(shown, first + 1):
        frame = statistic.traceback[-1]
        lines.append("#%d: %s: %.1f KiB" % (number, place_text(frame, key_type, show_name,
                                                               paint), statistic.size / 1024))
        line = frame.source_line(source)
        if line:
            lines.append("    %s" % line)
    others, size, _count = groups.rest(first + len(shown))
    if others:
        lines.append("%d other: %.1f KiB" % (others, size / 1024))
    lines.append("Total allocated size: %.1f KiB" % (snapshot.size / 1024))
    return lines


def render_diff(old, new, key_type, limit, cumulative=False, show_name=_same,
                source_of=source_line, paint=PLAIN):
    """The text of `tm diff`."""
    groups = new.differences(old, key_type, cumulative)
    shown = _shown(groups, limit, 0)
    lines = [paint.title("[ Top %d differences ]" % (len(groups) if limit is None else limit))]
    for difference in shown:
        place = place_text(difference.traceback[-1], key_type, show_name, paint)
        if key_type == "traceback":
            lines.append(difference.figures())
            lines.extend(traceback_lines(difference.traceback, source=source_of,
                                         show_name=show_name, paint=paint))
        else:
            lines.append("%s: %s" % (place, difference.figures()))
    return "\n".join(lines) + "\n" + difference_notes(old, new)


def render_traceback(address, block, limit=None, most_recent_first=False, source=source_line,
                     show_name=_same, paint=PLAIN):
    """The text of `tm traceback` for an address; block is None when it is not traced."""
    if block is None:
        return ("%#x: not traced (allocated before tracing started, freed, or not a heap "
                "address).\n" % address)
    order = "most recent" if most_recent_first else "oldest"
    lines = ["%s: %d B in %s, allocated at (%s call first):"
             % (paint.address("%#x" % block.address), block.size, domain_text(block.domain),
                order)]
    lines.extend(traceback_lines(block.traceback, limit, most_recent_first, source, show_name,
                                 paint))
    return "\n".join(lines) + "\n"


def render_traces(snapshot, limit, show_name=_same, paint=PLAIN):
    """The text of `tm traces`: equal blocks share a line, the largest come first."""
    lines, size, blocks = [], snapshot.size, snapshot.blocks
    for trace, count, _recorded in snapshot.largest_rows(limit):
        place = place_text(trace.traceback[-1], "lineno", show_name, paint)
        lines.append("%s: %s%s" % (place, format_size(trace.size),
                                   " in %s" % plural(count, "block") if count > 1 else ""))
        size, blocks = size - trace.size * count, blocks - count
    others = snapshot.row_count() - len(lines)
    if others:
        lines.append("%d other: %s in %s" % (others, format_size(max(size, 0)),
                                             plural(max(blocks, others), "block")))
    return "\n".join(lines) + "\n" + notes(snapshot) if lines else ""


def render_blocks(blocks, show_name=_same, paint=PLAIN):
    """The text of `tm traces -address`: a line for each block."""
    return "".join("%s: %s: %s\n" % (paint.address("%#x" % block.address),
                                     place_text(block.traceback[-1], "lineno", show_name, paint),
                                     format_size(block.size)) for block in blocks)


def render_snapshot(snapshot):
    """What `tm snapshot` answers."""
    return ("Snapshot %s: %s, %s, %s (limit %d).\n"
            % (snapshot.name, plural(snapshot.blocks, "block"), format_size(snapshot.size),
               plural(snapshot.tracebacks, "traceback"), snapshot.traceback_limit)
            + notes(snapshot))
