"""The live views as lines of text: rows with bars and marks, a sparkline, for any width.

May use the standard library, the model's classes and names.  Must not import gdb,
and must never make a line that is wider than it was told, whatever is in a name.
"""

import unicodedata
from typing import Iterable, List, NamedTuple, Optional, Sequence, Tuple

from tm.exports.names import clean
from tm.statistics import format_size

Segment = Tuple[str, str]  # a text and its style: one of STYLES, or ""
Line = List[Segment]

# Select Graphic Rendition parameters (ECMA-48, SGR).
STYLES = {"grown": "31", "shrunk": "32", "new": "33", "bar": "36", "head": "1", "quiet": "2",
          "chosen": "7"}


class Glyphs(NamedTuple):
    """What drawings are made of."""

    bar: str  # from the narrowest to a whole column
    spark: str  # from the lowest to the highest
    cut: str  # stands for what was left out
    dash: str
    rest: str  # the part of a bar that is not there


UNICODE = Glyphs("▏▎▍▌▋▊▉█", "▁▂▃▄▅▆▇█", "…", "–", "░")
ASCII = Glyphs("#", "_.-=*#", "...", "-", ".")


def glyphs(charset: str) -> Glyphs:
    """Those that the character set has."""
    try:
        "".join(UNICODE).encode(charset)
    except (LookupError, UnicodeEncodeError):
        return ASCII
    return UNICODE


class Row(NamedTuple):
    """A line of the table."""

    name: str
    size: int
    count: int
    size_diff: Optional[int] = None  # None: nothing to compare with
    count_diff: int = 0
    place: Optional[Tuple[str, int]] = None  # the source file and line
    figures: str = ""  # in the words of the reports
    full_name: str = ""  # whatever the settings are

    @property
    def mark(self) -> str:
        """How it differs from before: new, grown, shrunk, or not at all."""
        if self.size_diff is None or (not self.size_diff and not self.count_diff):
            return ""
        if self.size == self.size_diff and self.count == self.count_diff:
            return "new"
        return "grown" if (self.size_diff, self.count_diff) > (0, 0) else "shrunk"


class Picture(NamedTuple):
    """The largest lines of one moment."""

    rows: List[Row]  # largest first
    size: int  # of all blocks
    count: int
    size_diff: Optional[int]
    count_diff: int
    others: int = 0  # lines that are not in rows
    others_size: int = 0
    note: str = ""  # how good the figures are, where they are estimates


MARKS = {"new": "*", "grown": "+", "shrunk": "-", "": " "}


# ---- text of a width ---------------------------------------------------------


def width_of(text: str) -> int:
    """How many columns of a terminal it takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(letter) else
               2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _head(text: str, width: int) -> str:
    """As much of its beginning as fits."""
    if text.isascii():
        return text[:max(width, 0)]
    taken = 0
    for place, letter in enumerate(text):
        taken += width_of(letter)
        if taken > width:
            return text[:place]
    return text


def _tail(text: str, width: int) -> str:
    while text and width_of(text) > width:
        text = text[1:]
    return text


def shortened(text: str, width: int, cut: str = "…") -> str:
    """The text in so many columns, cut in the middle: the end of a name tells the most."""
    if width_of(text) <= width:
        return text
    room = width - width_of(cut)
    if room < 4:
        return _tail(text, width)
    tail = _tail(text, room - room // 3)
    return _head(text, room - width_of(tail)) + cut + tail


def from_column(text: str, first: int, width: int) -> str:
    """What of the text is to be seen in a window that begins at column `first`."""
    return _head(_tail(text, max(0, width_of(text) - first)), width)


def fitted(line: Line, width: int) -> Line:
    """The line without what goes beyond the width."""
    result: Line = []
    for text, style in line:
        text = _head(text, width)
        width -= width_of(text)
        if text:
            result.append((text, style))
    return result


def plain(line: Line) -> str:
    """The line without styles."""
    return "".join(text for text, _style in line).rstrip()


def styled(line: Line, is_styled: bool = True) -> str:
    """The line with escape sequences for its styles."""
    if not is_styled:
        return plain(line)
    return "".join("\x1b[%sm%s\x1b[m" % (STYLES[style], text) if style else text
                   for text, style in line)


# ---- drawings -----------------------------------------------------------------


def bar(share: float, width: int, glyphs_: Glyphs = UNICODE) -> str:
    """A bar of at most `width` columns; what is not nothing shows at least a trace."""
    share = min(max(share, 0.0), 1.0)
    steps = len(glyphs_.bar)
    length = int(share * width * steps + 0.5)
    if share > 0:
        length = max(1, length)
    full, rest = divmod(length, steps)
    return glyphs_.bar[-1] * full + (glyphs_.bar[rest - 1] if rest else "")


def sparkline(values: Sequence[int], width: int, glyphs_: Glyphs = UNICODE) -> str:
    """The values as a curve from their lowest to their highest, the latest at the end.

    Where there are more of them than columns, a column is the largest of some.
    """
    if not values or width <= 0:
        return ""
    if len(values) > width:
        values = [max(values[place * len(values) // width:
                             (place + 1) * len(values) // width]) for place in range(width)]
    low, high = min(values), max(values)
    top = len(glyphs_.spark) - 1
    return "".join(glyphs_.spark[(value - low) * top // (high - low) if high > low else 0]
                   for value in values)


def _signed(number: int) -> str:
    return "%+d" % number


def difference(picture: Picture) -> str:
    """`+12.0 KiB, +10 blocks`; nothing without an earlier moment."""
    if picture.size_diff is None:
        return ""
    if not picture.size_diff and not picture.count_diff:
        return "unchanged"
    return "%s, %s %s" % (format_size(picture.size_diff, True), _signed(picture.count_diff),
                          "block" if abs(picture.count_diff) == 1 else "blocks")


def totals(picture: Picture) -> Line:
    """The line above a table."""
    line = [("%s in %d %s" % (format_size(picture.size), picture.count,
                              "block" if picture.count == 1 else "blocks"), "head"),
            ("  " + difference(picture), "")]
    return line + [("  " + picture.note, "quiet")] if picture.note else line


def _change(row: Row) -> str:
    if row.mark == "new":
        return "new"
    return format_size(row.size_diff, True) if row.size_diff else ""


def row_line(row: Row, largest: int, total: int, width: int, glyphs_: Glyphs = UNICODE,
             first: int = 0, chosen: bool = False) -> Line:
    """A row of the table in at most `width` columns; `first` scrolls the name sideways."""
    mark = row.mark
    change = "%-10s" % _change(row)
    line: Line = [(MARKS[mark] + " ", mark), ("%9s  " % format_size(row.size), ""),
                  (change, mark)]
    if width >= 72:
        line.append((" %7d " % row.count, "quiet"))
    if width >= 100:
        share = 100 * row.size / total if total else 0
        line.append((" %3d%% " % round(share), ""))
    room = min(max(width // 8, 6), 30)
    if width >= 45:
        drawn = bar(row.size / largest if largest else 0, room, glyphs_)
        line += [(" ", ""), (drawn, "bar"), (" " * (room - len(drawn) + 1), "")]
    left = width - sum(width_of(text) for text, _style in line)
    name = clean(row.name)
    if glyphs_ is ASCII:
        name = name.encode("ascii", "backslashreplace").decode("ascii")
    name = from_column(name, first, left) if first else shortened(name, left, glyphs_.cut)
    line.append((name, "chosen" if chosen else ""))
    return fitted(line, width)


def others_line(others: int, size: int, width: int) -> Line:
    """What the table leaves out."""
    return fitted([("  %9s  %d other" % (format_size(size), others), "quiet")], width)


def shown_rows(picture: Picture, limit: Optional[int]) -> Tuple[List[Row], int, int]:
    """At most `limit` rows (None: all), how many others there are, and their bytes."""
    rows, hidden = picture.rows[:limit], [] if limit is None else picture.rows[limit:]
    return (rows, picture.others + len(hidden),
            picture.others_size + sum(row.size for row in hidden))


def table(picture: Picture, width: int, limit: Optional[int] = None,
          glyphs_: Glyphs = UNICODE) -> List[Line]:
    """The rows, at most `limit` of them (None: all), and what they leave out."""
    rows, others, others_size = shown_rows(picture, limit)
    largest = max([row.size for row in rows], default=0)
    lines = [row_line(row, largest, picture.size, width, glyphs_) for row in rows]
    return lines + ([others_line(others, others_size, width)] if others else [])


def joined(parts: Iterable[str]) -> str:
    """The parts that say something, with commas."""
    return ", ".join(part for part in parts if part)
