"""Plots as SVG: lines over logarithmic axes, with a legend; no library, no network.

May use: the standard library.  Must never measure.  Readable on light and on dark ground:
every plot brings its own, and follows the reader's preference where the viewer knows it.
"""
import html
import math

WIDTH, HEIGHT = 760, 470
LEFT, RIGHT, TOP, BOTTOM = 78, 170, 56, 62
# Told apart also without colors: each line has its own marker.
COLORS = ("#3b82f6", "#ea6a12", "#16a34a", "#a855f7", "#b8860b", "#db2777")
STYLE = """
svg { background: #ffffff; font: 13px sans-serif; }
text { fill: #1f2328; } .grid { stroke: #d0d7de; stroke-width: 1; } .minor { stroke: #eef1f4; }
.axis { stroke: #57606a; stroke-width: 1; } .title { font-size: 16px; font-weight: bold; }
.note { fill: #57606a; font-size: 12px; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; } text { fill: #e6edf3; } .grid { stroke: #30363d; }
  .minor { stroke: #1c2128; } .note { fill: #9198a1; } .axis { stroke: #9198a1; }
}
"""


class Scale:
    """Values to pixels, by logarithm or evenly."""

    def __init__(self, low, high, start, end, logarithmic=True):
        self.logarithmic = logarithmic
        if logarithmic:
            # Whole decades would waste half of the plot where values lie close together.
            low, high = math.log10(low), math.log10(high)
            if high - low < 0.8:
                low, high = (low + high) / 2 - 0.4, (low + high) / 2 + 0.4
        self.low, self.high, self.start, self.end = low, high, start, end

    def __call__(self, value):
        at = math.log10(value) if self.logarithmic else value
        return self.start + (at - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self):
        """[(value, whether it has a label)]"""
        if not self.logarithmic:
            step = 10 ** math.floor(math.log10(self.high))
            step = next(step / by for by in (1, 2, 5, 10) if self.high * by / step >= 4)
            return [(step * number, True) for number in range(int(self.high / step) + 1)]
        decades = self.high - self.low
        labelled = (1,) if decades > 2.5 else (1, 2, 5)
        return [(digit * 10.0 ** power, digit in labelled)
                for power in range(math.floor(self.low), math.ceil(self.high) + 1)
                for digit in range(1, 10)
                if self.low - 1e-9 <= math.log10(digit * 10.0 ** power) <= self.high + 1e-9]


def number(value):
    """1000 as 1k, 1000000 as 1M; small ones as they are."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def text(x, y, words, anchor="start", style="", turned=False):
    rotation = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}"{rotation}>'
            f"{html.escape(words)}</text>")


def line(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def marker(kind, x, y, color):
    shapes = (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"',
              f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"',
              f'<path d="M{x:.1f} {y - 5:.1f}l5 9h-10z"',
              f'<path d="M{x:.1f} {y - 5:.1f}l5 5-5 5-5-5z"',
              f'<path d="M{x:.1f} {y + 5:.1f}l5-9h-10z"',
              f'<ellipse cx="{x:.1f}" cy="{y:.1f}" rx="6" ry="3"')
    return shapes[kind % len(shapes)] + f' fill="{color}"/>'


def frame(title, note, x_label, y_label, x_scale, y_scale, x_ticks=None):
    """The ground of a plot: title, grid, axes and their labels."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             f'width="{WIDTH}" height="{HEIGHT}"><style>{STYLE}</style>',
             text(LEFT, 24, title, style="title"), text(LEFT, 42, note, style="note")]
    for value, labelled in x_ticks or x_scale.ticks():
        x = x_scale(value)
        parts.append(line(x, TOP, x, bottom, "grid" if labelled else "grid minor"))
        if labelled:
            parts.append(text(x, bottom + 18, number(value), "middle"))
    for value, labelled in y_scale.ticks():
        y = y_scale(value)
        parts.append(line(LEFT, y, right, y, "grid" if labelled else "grid minor"))
        if labelled:
            parts.append(text(LEFT - 8, y + 4, number(value), "end"))
    parts += [line(LEFT, bottom, right, bottom, "axis"), line(LEFT, TOP, LEFT, bottom, "axis"),
              text((LEFT + right) / 2, HEIGHT - 16, x_label, "middle"),
              text(20, (TOP + bottom) / 2, y_label, "middle", turned=True)]
    return parts


def lines(title, note, x_label, y_label, series, even=False):
    """A plot of {name: [(x, y), …]}; x by logarithm, y too unless `even`.

    Values that a logarithm has no place for are left out.
    """
    series = {name: [(x, y) for x, y in points if y > 0 or even]
              for name, points in series.items()}
    series = {name: points for name, points in series.items() if points}
    xs = sorted({x for points in series.values() for x, y in points})
    ys = [y for points in series.values() for x, y in points]
    bottom = HEIGHT - BOTTOM
    x_scale = Scale(xs[0], xs[-1], LEFT + 12, WIDTH - RIGHT - 12)
    y_scale = Scale(0, max(ys) * 1.1, bottom, TOP, False) if even else \
        Scale(min(ys) / 1.3, max(ys) * 1.3, bottom, TOP)
    # Where few places were measured, these are the ones to be named.
    ticks = [(x, True) for x in xs] if len(xs) < 8 else None
    parts = frame(title, note, x_label, y_label, x_scale, y_scale, ticks)
    placed = []
    kinds = {name: kind for kind, name in enumerate(series)}
    for name, points in sorted(series.items(), key=lambda each: -each[1][-1][1]):
        kind = kinds[name]
        color = COLORS[kind % len(COLORS)]
        path = " ".join(f"{x_scale(x):.1f},{y_scale(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [marker(kind, x_scale(x), y_scale(y), color) for x, y in points]
        # Names stand at the ends of their lines, as far apart as they need to be.
        y = max([y_scale(points[-1][1])] + [other + 17 for other in placed[-1:]])
        placed.append(y)
        parts += [marker(kind, WIDTH - RIGHT + 16, y, color),
                  text(WIDTH - RIGHT + 27, y + 4, name)]
    return "\n".join(parts + ["</svg>"]) + "\n"


def bars(title, note, x_label, y_label, series, limit=None):
    """A histogram of {name: [(upper end of a class, count), …]}, both axes by logarithm."""
    ends = sorted({x for points in series.values() for x, count in points if count})
    highest = max(count for points in series.values() for x, count in points)
    bottom = HEIGHT - BOTTOM
    x_scale = Scale(ends[0] / 2, max(ends[-1], limit or 0) * 1.2, LEFT, WIDTH - RIGHT)
    y_scale = Scale(0.7, highest * 1.5, bottom, TOP)
    parts = frame(title, note, x_label, y_label, x_scale, y_scale)
    for kind, (name, points) in enumerate(series.items()):
        color = COLORS[kind]
        for x, count in points:
            if count:
                left, right = x_scale(x / 2), x_scale(x)
                width = (right - left - 2) / len(series)
                top = y_scale(count)
                parts.append(f'<rect x="{left + 1 + kind * width:.1f}" y="{top:.1f}" '
                             f'width="{width:.1f}" height="{bottom - top:.1f}" fill="{color}"/>')
        parts += [marker(1, WIDTH - RIGHT + 16, TOP + 14 + 20 * kind, color),
                  text(WIDTH - RIGHT + 27, TOP + 18 + 20 * kind, name)]
    if limit:
        parts += [line(x_scale(limit), TOP, x_scale(limit), bottom, "axis"),
                  text(x_scale(limit) - 4, TOP + 14, "aim", "end", "note")]
    return "\n".join(parts + ["</svg>"]) + "\n"
