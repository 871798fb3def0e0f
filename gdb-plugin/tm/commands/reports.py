"""The reports: top, diff, traceback, traces.

May use: tm.process for a fresh snapshot, tm.render for every text and document.
Must never format a statistic itself.
"""

from typing import Any, Optional

from tm import blocks, process, render, sampling, settings
from tm.commands import framework, selection, sources
from tm.commands.framework import TmCommand, check_stopped, command
from tm.commands.output import write, write_json, write_losses
from tm.errors import TmError
from tm.options import Argument, Declaration, Option, Parsed
from tm.snapshots import NOW, registry

KEYS = ("lineno", "filename", "traceback", "function", "module", "size", "domain")
CUMULATIVE_KEYS = ("lineno", "filename", "function", "module")

registry.reserve(KEYS)

KEY = Argument("KEY", "choice", "What to group by: %s.  Default: lineno." % ", ".join(KEYS),
               optional=True, choices=KEYS)
SNAPSHOT = Argument("SNAPSHOT", "snapshot", "Name of a snapshot.  Default: a fresh one of the "
                    "process, else the last one.", optional=True, extra=(NOW,))
LIMIT = Option("limit", "Show at most N lines, or \"unlimited\".  Default: \"show tm limit\".",
               "count", "N", minimum=0)
DOMAIN = Option("domain", "Only blocks of domain N (0: malloc and its family, 1: mmap).",
                "integer", "N", minimum=0, maximum=selection.MAX_DOMAIN)
CUMULATIVE = Option("cumulative", "Count a block for every frame of its traceback, not only the "
                    "most recent one.")


# ---- which snapshot --------------------------------------------------------

def fresh() -> Any:
    """A snapshot of the process as it stands; it has no name and is not kept."""
    snapshot = process.take_snapshot()
    snapshot.name = NOW
    return snapshot


def choose(name: Optional[str]) -> Any:
    """The named snapshot; without a name a fresh one, else the last one."""
    if name is not None and name != NOW:
        return registry.get(name)
    if framework.has_target():
        check_stopped(", or name a snapshot" if len(registry) else "")
        if framework.is_traced():
            return fresh()
        why = framework.not_traced()
    else:
        why = 'There is no process to take a snapshot of: use "run" or "attach", then "tm start"'
    last = registry.last()
    if last is None or name == NOW:
        raise TmError(why + ".")
    return last


def limit_of(values: Parsed) -> Optional[int]:
    """-limit, or the setting; 0 is unlimited, as in gdb's own settings."""
    limit = values.limit if "limit" in values.given else settings.value("limit")
    return limit or None


def check_cumulative(values: Parsed, key: str) -> None:
    if values.cumulative and key not in CUMULATIVE_KEYS:
        raise TmError("-cumulative goes with %s only, not with %s."
                      % (", ".join(CUMULATIVE_KEYS), key))


# ---- the commands ----------------------------------------------------------

class Pages:
    """Where the user is in a report that RET continues."""

    snapshot: Any = None
    first = 0


@command
class Top(TmCommand):
    declaration = Declaration(
        name="top",
        summary="Show which lines, files or functions hold the traced memory.",
        arguments=(KEY, SNAPSHOT),
        options=(LIMIT, DOMAIN, CUMULATIVE,
                 Option("by", "Sort by this, largest first.  Default: size.", "choice",
                        choices=("size", "count", "average"), default="size"),
                 Option("source", "Show the source line under each.")),
        details="RET shows the next page of the same snapshot.",
        examples=("tm top", "tm top traceback -limit 3", "tm top filename 1 -cumulative"),
        json=True, repeats=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        key = values.key or "lineno"
        check_cumulative(values, key)
        if values.snapshot is not None and values.snapshot != NOW \
                and values.snapshot not in registry.names():
            raise TmError('"%s" is neither a key type (%s) nor a snapshot: %s.'
                          % (values.snapshot, ", ".join(KEYS), registry.describe()))
        limit = limit_of(values)
        again = self.repeated and Pages.snapshot is not None
        if again and limit:
            Pages.first += limit
        else:
            Pages.snapshot = selection.apply(choose(values.snapshot), values.domain)
            Pages.first = 0
        if values.json:
            write_json(render.top_document(Pages.snapshot, key, limit,
                                           cumulative=values.cumulative, by=values.by))
            self.dont_repeat()
            return
        find = sources.Finder().line
        write(render.render_top(Pages.snapshot, key, limit, cumulative=values.cumulative,
                                by=values.by, first=Pages.first, source_of=find,
                                source=find if values.source else None, **sources.display()))
        write_losses(Pages.snapshot.dropped)


@command
class Diff(TmCommand):
    declaration = Declaration(
        name="diff",
        summary="Show the differences between two snapshots.",
        arguments=(Argument("OLD", "snapshot", "Name of the older snapshot."),
                   Argument("NEW", "snapshot", "Name of the newer one, or \"now\" for a fresh one "
                            "of the process.  Default: now.", optional=True, extra=(NOW,)),
                   KEY),
        options=(LIMIT, DOMAIN, CUMULATIVE),
        examples=("tm diff 1", "tm diff 1 2 filename", "tm diff before now traceback -limit 3"),
        json=True, repeats=False)

    def run(self, values: Parsed, from_tty: bool) -> None:
        key = values.key or "lineno"
        check_cumulative(values, key)
        missing = [name for name in (values.old, values.new)
                   if name not in (None, NOW) and name not in registry.names()]
        if missing:
            raise TmError("No snapshot %s: %s."
                          % (" and no snapshot ".join('"%s"' % name for name in missing),
                             registry.describe()))
        both = [choose(values.old), choose(values.new)]
        old, new = (selection.apply(snapshot, values.domain) for snapshot in both)
        limit = limit_of(values)
        if values.json:
            write_json(render.diff_document(old, new, key, limit, cumulative=values.cumulative))
        else:
            write(render.render_diff(old, new, key, limit, cumulative=values.cumulative,
                                     source_of=sources.Finder().line, **sources.display()))
            write_losses(max(old.dropped, new.dropped))


@command
class Traceback(TmCommand):
    declaration = Declaration(
        name="traceback",
        summary="Show where the block that holds an address was allocated.",
        arguments=(Argument("EXPR", "expression", "An address; one inside a block counts as the "
                            "block."),),
        options=(Option("limit", "Show the N most recent frames only.", "count", "N", minimum=0),
                 Option("most-recent-first", "Show the most recent call first.")),
        examples=("tm traceback 0x55d0c0a812a0", "tm traceback session->buffer"),
        json=True, needs_tracing=True, reads_core=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        address = framework.evaluate_address(values.expr)
        block = process.find_block(address)
        if block is not None:
            block = selection.apply_to_block(block, values.limit)
        if values.json:
            write_json(render.traceback_document(address, block))
        else:
            write(render.render_traceback(address, block,
                                          most_recent_first=values.most_recent_first,
                                          source=sources.Finder().line, **sources.display()))
            if block is None:
                status = process.status()
                write(sampling.only_some(status["sampling"]))
                write_losses(status["dropped"])


@command
class Traces(TmCommand):
    declaration = Declaration(
        name="traces",
        summary="Show the traced blocks themselves, largest first.",
        arguments=(SNAPSHOT,),
        options=(LIMIT, DOMAIN,
                 Option("address", "Show each block on a line of its own, with its address: of a "
                        "process or core.")),
        details="Blocks of one size and one traceback share a line.  A snapshot keeps no\n"
                "addresses; with -address at most %d blocks are shown." % blocks.MAX_BLOCKS,
        examples=("tm traces -limit 3", "tm traces -address"),
        json=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        if values.address:
            self.show_addresses(values)
            return
        snapshot = selection.apply(choose(values.snapshot), values.domain)
        if values.json:
            write_json(render.traces_document(snapshot, limit_of(values)))
        else:
            write(render.render_traces(snapshot, limit_of(values), **sources.display())
                  or "No traces.")
            write_losses(snapshot.dropped)

    @staticmethod
    def show_addresses(values: Parsed) -> None:
        if values.snapshot is not None and values.snapshot != NOW:
            registry.get(values.snapshot)
            raise TmError('Snapshot %s keeps no addresses: "tm traces -address" without a name '
                          "shows those of the process or core." % values.snapshot)
        if not framework.has_target():
            raise TmError("There is no process or core to read addresses from, and snapshots "
                          "keep none.")
        check_stopped()
        if not framework.is_traced():
            raise TmError(framework.not_traced() + ".")
        found = selection.apply_to_blocks(
            blocks.largest(limit_of(values), selection.chooser(values.domain)))
        if values.json:
            write_json(render.blocks_document(found))
        else:
            write(render.render_blocks(found, **sources.display()) or "No traces.")
            status = process.status()
            write(sampling.only_some(status["sampling"]))
            write_losses(status["dropped"])
