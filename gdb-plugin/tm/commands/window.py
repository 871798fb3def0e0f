"""The TUI window of `layout tm`: the largest lines, refreshed at every stop.

May use: gdb, tm.live for drawings.  Must never cost anything while it is not shown,
and must never let a snapshot that fails disturb a stop: the window says why.
"""

import contextlib
import re
import sys
import textwrap
from typing import Any, List, Optional

import gdb

import _tm
from tm import live, process, progress
from tm.commands import framework, selection, sources, style
from tm.commands.live import picture_of
from tm.commands.output import printable, write
from tm.errors import TmError
from tm.live import Line, Picture
from tm.statistics import format_size

NAME = "tm"
LAYOUT = "tm 3 src 2 status 0 cmd 2"
SINCE = " since the last stop"
HEAD_LINES = 2
MAX_ROWS = 500
FARTHEST = 16  # the beginning of a source is at most 2 ** (FARTHEST + 1) lines away
STARTING = 'The lines that hold the memory are shown when the process is traced and stands still.'


class Heap:
    """What all windows show: the heap at the last stop, compared with the stop before."""

    def __init__(self) -> None:
        self.picture: Optional[Picture] = None
        self.message = STARTING
        self.peak = 0
        self._now: Any = None  # snapshots, at the last stop and at the one before it
        self._before: Any = None

    def refresh(self, has_stopped: bool) -> None:
        """Looks at the process.  has_stopped: it ran since the last time."""
        try:
            with progress.told_to(None):
                self._look(has_stopped)
        except (TmError, _tm.Error, gdb.error) as error:
            self._forget(str(error).split("\n")[0])
        except KeyboardInterrupt:
            self._forget("Interrupted: the next stop shows it again.")

    def _forget(self, message: str) -> None:
        self.picture, self._now, self._before = None, None, None
        self.message = message

    def _look(self, has_stopped: bool) -> None:
        if not framework.has_target():
            self._forget('No process: use "run" or "attach", then "tm start".')
            return
        framework.check_stopped()
        if not framework.is_traced():
            self._forget(framework.not_traced() + ".")
            return
        snapshot = process.take_snapshot()
        if has_stopped:
            self._before = self._now
        self._now = snapshot
        shown = selection.apply(snapshot)
        self.peak = max(shown.size, snapshot.peak or 0)
        before = self._before
        if before is not None and before.pid == snapshot.pid:
            before = selection.apply(before)
        self.picture = picture_of(shown, before, "lineno", MAX_ROWS)


heap = Heap()
_windows: List["HeapWindow"] = []  # that are on the screen


class HeapWindow:
    """One window on the screen; its methods are those that gdb calls."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self._top = 0  # the first row that is seen
        self._chosen = 0
        self._column = 0  # the first column of the names that is seen
        window.title = "tm: what holds the memory"
        _windows.append(self)
        gdb.post_event(_opened)

    def close(self) -> None:
        """The layout has gone."""
        if self in _windows:
            _windows.remove(self)

    # ---- drawing

    def render(self) -> None:
        """Draws what is known, in the size that the window has now."""
        if not self._window.is_valid():
            return
        width, height = self._window.width - 1, self._window.height
        if width < 1 or height < 1:
            return
        self._stay_inside(height)
        is_styled = style.is_wanted()
        text = "\n".join(live.styled(line, is_styled)
                         for line in self._lines(width, height)[:height])
        self._window.erase()
        self._window.write(printable(text))

    def _rows(self) -> List[live.Row]:
        return heap.picture.rows if heap.picture else []

    def _stay_inside(self, height: int) -> None:
        room = max(1, height - HEAD_LINES)
        self._chosen = max(0, min(self._chosen, len(self._rows()) - 1))
        if self._chosen < self._top:
            self._top = self._chosen
        elif self._chosen >= self._top + room:
            self._top = self._chosen - room + 1
        self._top = max(0, min(self._top, len(self._rows()) - room))

    def _lines(self, width: int, height: int) -> List[Line]:
        picture = heap.picture
        if picture is None:
            return [[(text, "")] for text in textwrap.wrap(heap.message, max(width, 2))]
        glyphs = live.glyphs(gdb.host_charset() if hasattr(gdb, "host_charset") else "utf-8")
        lines = [live.totals(picture), self._peak_line(picture, width, glyphs)]
        since = live.plain(lines[0]) + SINCE
        if picture.size_diff is not None and len(since) <= width:
            lines[0].insert(2, (SINCE, "quiet"))
        rows = picture.rows
        largest = max([row.size for row in rows], default=0)
        for place in range(self._top, min(len(rows), self._top + height - HEAD_LINES)):
            lines.append(live.row_line(rows[place], largest, picture.size, width, glyphs,
                                       self._column, place == self._chosen))
        if picture.others:
            lines.append(live.others_line(picture.others, picture.others_size, width))
        return [live.fitted(line, width) for line in lines]

    @staticmethod
    def _peak_line(picture: Picture, width: int, glyphs: live.Glyphs) -> Line:
        room = min(max(width // 3, 10), 60)
        share = picture.size / heap.peak if heap.peak else 0
        drawn = live.bar(share, room, glyphs)
        return [(drawn, "bar"), (glyphs.rest * (room - len(drawn)), "quiet"),
                ("  %d%% of the peak, %s" % (round(100 * share), format_size(heap.peak)), "quiet")]

    # ---- keys and the mouse

    def vscroll(self, number: int) -> None:
        """Up and Down: choose a row, and show its source line."""
        before = self._chosen
        self._chosen += number
        self.render()
        if self._chosen != before:
            self._show_source()

    def hscroll(self, number: int) -> None:
        """Left and Right: scroll the names."""
        self._column = max(0, self._column + number)
        self.render()

    def click(self, _x: int, y: int, button: int) -> None:
        """The first button chooses a row, and shows its source line."""
        row = y - HEAD_LINES + self._top
        if button == 1 and y >= HEAD_LINES and row < len(self._rows()):
            self._chosen = row
            self.render()
            self._show_source()

    def _show_source(self) -> None:
        rows = self._rows()
        place = rows[self._chosen].place if rows else None
        if place is not None:
            show_source(*place)


def show_source(filename: str, lineno: int) -> None:
    """The line in the middle of the source window; without one, where `list` shows it."""
    height = re.search(r"(?m)^src +(\d+)", gdb.execute("info win", to_string=True))
    first = max(1, lineno - (int(height.group(1)) - 2) // 2) if height else lineno
    # gdb knows the file by the place where it finds it, see `set substitute-path`.
    name = sources.Finder().path(filename) or filename
    name = name.replace("\\", "\\\\").replace('"', '\\"')
    try:
        if height:
            _scroll_to_beginning()
        gdb.execute('list "%s":%d,%d' % (name, first, first), to_string=bool(height))
        if height:
            gdb.execute("+ %d src" % (first - 1), to_string=True)
    except gdb.error as error:
        write(str(error))


def _scroll_to_beginning() -> None:
    """The source window shows what `list` chose at gdb's next prompt; scrolling shows it at
    once.  gdb does not tell where the window is, and does not scroll beyond the beginning."""
    for power in range(FARTHEST, -1, -1):
        gdb.execute("- %d src" % (1 << power), to_string=True)


# ---- when it is refreshed -------------------------------------------------------


class Listener:
    """Hears of stops and prompts; does nothing while no window is on the screen."""

    def __init__(self) -> None:
        self._has_stopped = False
        self._commands = framework.invocations()

    def stopped(self, _event: Any) -> None:
        self._has_stopped = True

    def prompted(self, *_unused: Any) -> None:
        if not _windows:
            return
        if self._has_stopped or self._commands != framework.invocations():
            self.refresh()

    def refresh(self) -> None:
        has_stopped, self._has_stopped = self._has_stopped, False
        self._commands = framework.invocations()
        heap.refresh(has_stopped)
        for window in list(_windows):
            window.render()


listener = Listener()


def _opened() -> None:
    """A window has come on the screen, and takes the keys for scrolling."""
    if _windows:
        listener.refresh()
        with contextlib.suppress(gdb.error):  # the layout has gone again
            gdb.execute("focus " + NAME, to_string=True)


def make_window(window: Any) -> HeapWindow:
    """Makes a window, by the module as it was loaded last."""
    return sys.modules[__name__].HeapWindow(window)


def register() -> None:
    """Define the layout, where gdb has the TUI and it is not defined yet."""
    for registry, function in _listeners():
        registry.connect(function)
    if not hasattr(gdb, "register_window_type"):
        return
    with contextlib.suppress(gdb.error):
        gdb.execute("help layout %s" % NAME, to_string=True)
        return  # it makes its windows by the module that is loaded then
    gdb.register_window_type(NAME, make_window)
    with contextlib.suppress(gdb.error):  # of a gdb without the TUI
        gdb.execute("tui new-layout %s %s" % (NAME, LAYOUT), to_string=True)


def unregister() -> None:
    """Let go of gdb's events, before the plugin is loaded anew."""
    for registry, function in _listeners():
        registry.disconnect(function)


def _listeners() -> List[Any]:
    return [(gdb.events.stop, listener.stopped), (gdb.events.exited, listener.stopped),
            (gdb.events.before_prompt, listener.prompted)]
