"""What was watched as a page for a browser: the total and the largest lines over time.

May use the standard library and tm.series.  Must not import gdb.
"""

import html
import time

from tm.paint import clean
from tm.exports.page import assemble, asset, script_of
from tm.statistics import format_size

LINES = 8  # areas of their own; what is left is one more


def document(series):
    """All that the page shows.  Of each line the bytes by round, null where they are not
    known; they are then among the others."""
    return {"began": series.began, "key": series.key_type, "leftOut": series.left_out,
            "rounds": [[round(each.seconds, 3), each.size, each.count,
                        None if each.stopped is None else round(each.stopped, 3)]
                       for each in series.rounds],
            "lines": [{"name": clean(name), "sizes": sizes}
                      for name, sizes in series.largest(LINES)]}


def _summary(series):
    first, last, peak = series.rounds[0], series.rounds[-1], series.peak()
    return "Watched from %s for %.1f s: %s at first, %s at last, %s at most, after %.1f s" % (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(series.began)), last.seconds,
        format_size(first.size), format_size(last.size), format_size(peak.size), peak.seconds)


def _plain(series):
    """For a browser that runs no script."""
    lines = ["%10.1f s  %10s" % (each.seconds, format_size(each.size)) for each in series.rounds]
    if len(lines) > 40:
        lines = lines[:20] + ["..."] + lines[-20:]
    return "\n".join(lines)


def contents(series):
    """The file."""
    return assemble("timeline.html", asset("report.css") + asset("timeline.css"),
                    script_of("text.js", "timeline.js"), document(series),
                    title=html.escape("Heap of %s over time" % clean(series.process)),
                    summary=html.escape(_summary(series)), plain=html.escape(_plain(series)))
