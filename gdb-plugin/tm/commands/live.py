"""The commands that watch a running process, and plot what they saw.

May use: tm.running to let it run, tm.live for drawings, tm.series to keep what it saw.
Must never write escape sequences anywhere but to a terminal.
"""

import os
import time
from typing import Any, Callable, Dict, List, Optional

import gdb

from tm import inferior, live, process, progress, render, restarts, running
from tm.commands import selection, sources, style, terminal
from tm.commands.framework import TmCommand, command
from tm.commands.output import plural, printable, write, write_json
from tm.commands.reports import DOMAIN, KEY, LIMIT, limit_of
from tm.commands.snapshots import FILE, path_of
from tm.errors import TmError
from tm.exports import timeline
from tm.live import Picture, Row
from tm.options import Declaration, Option, Parsed
from tm.render import place_text
from tm.sampling import notes, short_note
from tm.series import KEPT_LINES, Series
from tm.statistics import format_size
from tm.wholefile import write_whole

FRAMES_SHOWN = 3  # of a traceback, on its line
ROWS_BESIDE = 5  # of the terminal that are not for the table
ERASE_TO_END, ERASE_BELOW = "\x1b[K", "\x1b[J"  # of the line, of the screen (ECMA-48, EL, ED)


# ---- what is shown -------------------------------------------------------------


def name_of(traceback: Any, key: str, **shown: Any) -> str:
    """What names a line; of a traceback the most recent calls do."""
    if key != "traceback":
        return place_text(traceback[-1], key, **shown)
    recent = list(traceback)[:-FRAMES_SHOWN - 1:-1]
    return " < ".join(place_text(frame, "lineno", **shown) for frame in recent)


def _row(statistic: Any, key: str, shown: Dict[str, Any]) -> Row:
    frame = statistic.traceback[-1]
    has_place = key in ("lineno", "traceback") and frame.has_line and frame.lineno
    return Row(name_of(statistic.traceback, key, **shown), statistic.size, statistic.count,
               getattr(statistic, "size_diff", None), getattr(statistic, "count_diff", 0),
               (frame.filename, frame.lineno) if has_place else None, statistic.figures(),
               name_of(statistic.traceback, key))


def picture_of(snapshot: Any, old: Optional[Any], key: str = "lineno",
               limit: Optional[int] = None) -> Picture:
    """The largest lines of a snapshot (None: all), and how they differ from an older one."""
    groups = snapshot.groups(key)
    number = len(groups) if limit is None else min(limit, len(groups))
    others, size, _count = groups.rest(number)
    largest, changes = groups[:number], (None, 0)
    if old is not None:
        largest = snapshot.differences(old, key, by="size")[:number]
        changes = snapshot.size - old.size, snapshot.blocks - old.blocks
    shown = {name: each for name, each in sources.display().items() if name != "paint"}
    return Picture([_row(each, key, shown) for each in largest], snapshot.size, snapshot.blocks,
                   *changes, others, size, short_note(snapshot))


# ---- where it is shown -----------------------------------------------------------


class Moment:
    """A round of a watch, as the views are told of it."""

    def __init__(self, series: Series, picture: Picture, snapshot: Any) -> None:
        self.series, self.picture, self.snapshot = series, picture, snapshot
        self.seconds, self.stopped = series.rounds[-1].seconds, series.rounds[-1].stopped

    def times(self) -> str:
        """`after 12.0 s, stopped for 2.3 ms`."""
        return live.joined(["after %.1f s" % self.seconds,
                            "" if self.stopped is None else "stopped for %.1f ms" % self.stopped])


View = Callable[[Moment], None]


def in_blocks(limit: Optional[int]) -> View:
    """A block of lines each time, in the words of the reports."""
    def show(moment: Moment) -> None:
        picture = moment.picture
        size, count = format_size(picture.size), plural(picture.count, "block")
        if picture.size_diff is not None:
            size += " (%s)" % format_size(picture.size_diff, True)
            count += " (%+d)" % picture.count_diff
        lines = ["[ %s: %s in %s ]" % (moment.times().capitalize(), size, count)]
        rows, others, others_size = live.shown_rows(picture, limit)
        lines += ["%s: %s" % (row.name, row.figures) for row in rows]
        if others:
            lines.append("%d other: size=%s" % (others, format_size(others_size)))
        write("\n".join(lines) + "\n" + notes(moment.snapshot))
        gdb.flush()
    return show


def as_documents(key: str, limit: Optional[int]) -> View:
    """A JSON document each time."""
    def show(moment: Moment) -> None:
        document = render.top_document(moment.snapshot, key, limit)
        document.update(command="watch", seconds=round(moment.seconds, 3),
                        stopped_ms=moment.stopped and round(moment.stopped, 3))
        write_json(document)
        gdb.flush()
    return show


class OnTerminal:
    """A table that is drawn anew in its place; the cursor rests below it."""

    def __init__(self, limit: Optional[int]) -> None:
        self._limit = limit
        self._widths: List[int] = []  # of the lines that are on the screen

    def __call__(self, moment: Moment) -> None:
        size = os.get_terminal_size(terminal.TERMINAL)
        columns = min(size.columns or 80, gdb.parameter("width") or size.columns or 80)
        lines = self._lines(moment, max(columns - 1, 20), max(size.lines - ROWS_BESIDE, 1))
        # A terminal that was made narrower has broken the lines that are there.
        above = sum(max(1, -(-width // (size.columns or 80))) for width in self._widths)
        text = "\x1b[%dA\r" % above if above else ""
        is_styled = style.is_wanted()
        for line in lines:
            text += printable(live.styled(line, is_styled)) + ERASE_TO_END + "\n"
        gdb.write(text + ERASE_BELOW)
        gdb.flush()
        self._widths = [live.width_of(live.plain(line)) for line in lines]

    def _lines(self, moment: Moment, width: int, rows: int) -> List[live.Line]:
        glyphs = live.glyphs(gdb.host_charset() if hasattr(gdb, "host_charset") else "utf-8")
        picture = moment.picture
        limit = rows if self._limit is None else min(self._limit, rows)
        sizes = moment.series.sizes
        low_high = "%s %s %s" % (format_size(min(sizes)), glyphs.dash, format_size(max(sizes)))
        curve = live.sparkline(sizes, min(width - len(low_high) - 2, 60), glyphs)
        lines = [[("%s; Ctrl-C ends the watch" % moment.times().capitalize(), "quiet")],
                 live.totals(picture),
                 [(curve, "bar"), ("  " + low_high, "quiet")]]
        return [live.fitted(line, width) for line in lines] \
            + live.table(picture, width, limit, glyphs)


def view_for(values: Parsed, key: str, limit: Optional[int]) -> View:
    """How it can be shown where the output goes."""
    if values.json:
        return as_documents(key, limit)
    if terminal.has_place() and style.is_typed():
        return OnTerminal(limit)
    return in_blocks(limit)


# ---- the command -------------------------------------------------------------------


class Watched:
    """What was watched last; `tm timeline` plots it."""

    series: Optional[Series] = None


@command
class Watch(TmCommand):
    declaration = Declaration(
        name="watch",
        summary="Let the process run, and show what holds its memory every second.",
        arguments=(KEY,),
        options=(Option("interval", "Take a snapshot every so many seconds, 0.1 or more.  "
                        "Default: 1.", "seconds", "SECONDS", minimum=0.1, maximum=86400,
                        default=1),
                 LIMIT, DOMAIN,
                 Option("count", "End after N snapshots; the process stays stopped.", "integer",
                        "N", minimum=1)),
        details="Ctrl-C ends it, and so does whatever else stops the process.  It is stopped\n"
                "only for the snapshots; names are looked up while it runs.  On a terminal the\n"
                "table is drawn in its place, elsewhere each snapshot is a block of lines.\n"
                "Under gdbserver the process is stopped with SIGINT.  Each of its stops runs your\n"
                "hook-stop, and the watch takes one breakpoint number.",
        examples=("tm watch", "tm watch -interval 0.5 function", "tm watch -count 10 -limit 3"),
        json=True, needs_tracing=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        key = values.key or "lineno"
        limit = limit_of(values)
        view = view_for(values, key, limit)
        with progress.told_to(None), running.slices() as runner:
            thread = gdb.selected_thread()
            series = Watched.series = Series(key, "process %d" % runner.pid)
            rounds = Rounds(runner, series, values, key, limit, view)
            try:
                stop = rounds.run()
            except KeyboardInterrupt:  # while the process stood still
                stop = running.Stop(True, is_users=True)
            if stop.is_ours and thread.is_valid():
                thread.switch()
            if not values.json:  # before gdb counts lines for its pager again
                write(_ending(series, stop, rounds.seconds()))


class Rounds:
    """The snapshots of one watch, and the running between them."""

    def __init__(self, runner: Any, series: Series, values: Parsed, key: str,
                 limit: Optional[int], view: View) -> None:
        self.runner, self.series, self.view = runner, series, view
        self.key, self.limit, self.values = key, limit, values
        self.old: Any = None  # the snapshot of the round before
        self._began = time.monotonic()

    def seconds(self) -> float:
        """How long it has gone on."""
        return time.monotonic() - self._began

    def run(self) -> running.Stop:
        """Rounds until something ends them."""
        sent_at, number, interrupted = None, 0, restarts.Restarts()
        while True:
            moment = self.seconds() if number else 0.0
            make = process.read_snapshot()
            number += 1
            show = self._shower(make, moment, sent_at)
            if number == self.values.count:
                show(time.monotonic())
                return running.Stop(True)
            if restarts.may_be_needed():
                with inferior.quiet_session():
                    interrupted.restart()
            stop = self.runner.run(self.values.interval, show)
            if not stop.is_ours:
                return stop
            sent_at = self.runner.sent_at()

    def _shower(self, make: Callable, moment: float,
                sent_at: Optional[float]) -> Callable[[float], None]:
        def show(let_go: float) -> None:
            snapshot = selection.apply(make(), self.values.domain)
            kept = None if self.limit is None else max(self.limit, KEPT_LINES)
            picture = picture_of(snapshot, self.old, self.key, kept)
            stopped = None if sent_at is None else 1000 * (let_go - sent_at)
            self.series.add(moment, snapshot.size, snapshot.blocks, stopped,
                            [(row.full_name, row.size) for row in picture.rows], self.limit)
            self.old = snapshot
            self.view(Moment(self.series, picture, snapshot))
        return show


def _ending(series: Series, stop: running.Stop, seconds: float) -> str:
    rounds, average, longest = series.times_stopped()
    text = "Watched for %.1f s: %s" % (
        seconds, plural(len(series.rounds) + series.left_out, "snapshot"))
    if rounds:
        text += ", stopped for %.1f ms each, %.1f ms at most" % (average, longest)
    why = "  Ended with the process." if stop.has_ended else \
        "" if stop.is_ours or stop.is_users else "  Ended where the program stopped."
    return text + "." + why


@command
class Timeline(TmCommand):
    declaration = Declaration(
        name="timeline",
        summary="Plot what \"tm watch\" saw last, as a page for a browser.",
        arguments=(FILE,),
        details="The total and the lines with the highest peaks over time, in one file that needs\n"
                "no network.  The file is written whole or not at all.",
        examples=("tm timeline heap-over-time.html",),
        json=True)

    def run(self, values: Parsed, from_tty: bool) -> None:
        series = Watched.series
        if series is None or not series.rounds:
            raise TmError('Nothing was watched yet: use "tm watch" first.')
        path = path_of(values.file)
        page = timeline.contents(series)
        try:
            write_whole(path, page)
        except OSError as error:
            raise TmError("Cannot write %s: %s." % (path, error.strerror)) from None
        if values.json:
            write_json({"command": "timeline", "file": path, "file_size": len(page),
                        "snapshots": len(series.rounds), "peak": series.peak().size})
            return
        write("Timeline of %s written to %s (%s)."
              % (plural(len(series.rounds), "snapshot"), path, format_size(len(page))))
