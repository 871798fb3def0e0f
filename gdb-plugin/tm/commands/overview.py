"""The reports on a heap as a whole: tree, stats, check.

May use: tm.process for figures of the live process; tm.calltree and tm.summary for
every text and document.
"""

import os
from typing import Any, Dict, Optional

import gdb

from tm import calltree, inferior, process, residency, sampling, summary
from tm.commands import selection, sources
from tm.commands.framework import TmCommand, command
from tm.commands.output import fitted, write, write_json
from tm.commands.reports import DOMAIN, SNAPSHOT, choose
from tm.errors import TmError
from tm.options import Argument, Declaration, Option, Parsed
from tm.snapshots import NOW


@command
class Tree(TmCommand):
    declaration = Declaration(
        name="tree",
        summary="Show the call tree with the blocks and bytes below each call.",
        arguments=(SNAPSHOT,),
        options=(Option("invert", "Begin with the most recent calls, and show who called them."),
                 Option("min", "Fold calls that hold less than PERCENT of all bytes.  Default: 1.",
                        "integer", "PERCENT", minimum=0, maximum=100, default=1), DOMAIN),
        details="A call without figures is the only one of the call above it, and holds as much.",
        examples=("tm tree", "tm tree -invert -min 5", "tm tree before"),
        json=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        snapshot = selection.apply(choose(values.snapshot), values.domain)
        if values.json:
            write_json(calltree.tree_document(snapshot, values.invert, values.min))
        else:
            write(calltree.render_tree(snapshot, values.invert, values.min,
                                       **{"show_name": os.path.basename, **sources.display()}))


def process_memory() -> Optional[Dict[str, Any]]:
    """What tm.residency makes of the live process; None where that cannot be told."""
    if not process.has_process():
        return None
    status = process.status()
    if not status["tracing"]:
        return None
    try:
        text = inferior.target_file("/proc/%d/status" % status["pid"])
    except TmError:
        return None
    memory = residency.parse(text.decode("utf-8", "replace"))
    return memory and residency.document(status["pid"], memory, status)


@command
class Stats(TmCommand):
    declaration = Declaration(
        name="stats",
        summary="Show totals, a histogram of sizes, and what the process has in memory.",
        arguments=(SNAPSHOT,), options=(DOMAIN,),
        details="The memory of the process is that of /proc/PID/status, and is shown beside a\n"
                "fresh snapshot only.",
        examples=("tm stats", "tm stats 1 -domain 0"),
        json=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        chosen = choose(values.snapshot)
        snapshot = selection.apply(chosen, values.domain)
        memory = process_memory() if chosen.name == NOW else None
        document = summary.stats_document(snapshot, memory)
        if values.json:
            write_json(document)
        else:
            write(fitted(summary.render_stats(document,
                                              residency.lines(memory) if memory else (),
                                              gdb.parameter("width") or None,
                                              sampling.notes(snapshot))))


@command
class Check(TmCommand):
    declaration = Declaration(
        name="check",
        summary="Fail when the heap grew by more than a size.",
        arguments=(Argument("OLD", "snapshot", "Name of the older snapshot."),
                   Argument("NEW", "snapshot", "Name of the newer one, or \"now\" for a fresh one "
                            "of the process.  Default: now.", optional=True, extra=(NOW,))),
        options=(Option("max-growth", "How much it may have grown: 0, 64KiB, 1.5MiB.", "size",
                        "SIZE"), DOMAIN),
        details="More than that is an error, which ends a script and makes \"gdb -batch\" exit\n"
                "with status 1.",
        examples=("tm check -max-growth 64KiB before", "tm check -max-growth 0 1 2"),
        json=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        if values.max_growth is None:
            raise TmError("Option -max-growth is missing: it says how much the heap may have "
                          "grown.")
        old, new = (selection.apply(choose(name), values.domain)
                    for name in (values.old, values.new))
        document = summary.check_document(old, new, values.max_growth)
        if values.json:
            write_json(document)
        if not document["ok"]:
            raise TmError(summary.check_text(document))
        if not values.json:
            write(summary.check_text(document))
