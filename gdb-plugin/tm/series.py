"""What `tm watch` saw: the totals and the largest lines, round by round.

May use the standard library.  Must not import gdb or _tm: it holds plain numbers
and names, and a long watch must not hold ever more of them.
"""

import time
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

MAX_ROUNDS = 2000  # when there are so many, every second one is left out
KEPT_LINES = 50  # of each round, so that what is large later has a past


class Round(NamedTuple):
    """One snapshot of a watch."""

    seconds: float  # since the first one
    size: int  # bytes in blocks
    count: int  # blocks
    stopped: Optional[float]  # milliseconds; None: it was stopped before
    lines: Dict[int, int]  # by number of the line its bytes, of the largest lines


class Series:
    """The rounds of one watch."""

    def __init__(self, key_type: str, process: str) -> None:
        self.key_type = key_type
        self.process = process  # how the process is called
        self.began = time.time()
        self.rounds: List[Round] = []
        self.names: List[str] = []  # of lines, by number
        self.left_out = 0  # rounds that were thinned out
        self._numbers: Dict[str, int] = {}
        self._shown: Dict[int, bool] = {}  # lines that ever were in the table
        self._times = [0, 0.0, 0.0]  # with a time stopped: rounds, their sum, the longest

    def _number(self, name: str) -> int:
        number = self._numbers.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
        return number

    def add(self, seconds: float, size: int, count: int, stopped: Optional[float],
            lines: Iterable[Tuple[str, int]], top: Optional[int]) -> None:
        """A round; lines are (name, bytes) from the largest on, the first `top` are in the
        table (None: all)."""
        sizes: Dict[int, int] = {}
        for place, (name, line_size) in enumerate(lines):
            is_shown = top is None or place < top
            if place >= KEPT_LINES and not is_shown:
                break
            number = self._number(name)
            sizes[number] = sizes.get(number, 0) + line_size
            if is_shown:
                self._shown[number] = True
        if stopped is not None:
            self._times = [self._times[0] + 1, self._times[1] + stopped,
                           max(self._times[2], stopped)]
        self.rounds.append(Round(seconds, size, count, stopped, sizes))
        if len(self.rounds) > MAX_ROUNDS:
            self._thin()

    def _thin(self) -> None:
        """Of each two neighbours the larger one stays, so that peaks do."""
        rounds = self.rounds
        kept = [rounds[0]]
        for place in range(1, len(rounds) - 1, 2):
            kept.append(max(rounds[place:place + 2], key=lambda each: each.size))
        if kept[-1] is not rounds[-1]:
            kept.append(rounds[-1])
        self.left_out += len(rounds) - len(kept)
        self.rounds = kept
        used = {number for each in kept for number in each.lines}
        if len(used) < len(self.names):
            self._forget_lines_except(used)

    def _forget_lines_except(self, used: Iterable[int]) -> None:
        order = sorted(used)
        place_of = {number: place for place, number in enumerate(order)}
        self.names = [self.names[number] for number in order]
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._shown = {place_of[number]: True for number in self._shown if number in place_of}
        self.rounds = [each._replace(lines={place_of[number]: size
                                            for number, size in each.lines.items()})
                       for each in self.rounds]

    # ---- what is asked of it ----------------------------------------------

    @property
    def sizes(self) -> List[int]:
        """The totals, oldest first."""
        return [each.size for each in self.rounds]

    def peak(self) -> Round:
        """The round with the largest total, the first of equal ones."""
        return max(self.rounds, key=lambda each: each.size)

    def times_stopped(self) -> Tuple[int, float, float]:
        """(rounds, average, longest): for how many milliseconds the process was stopped."""
        number, total, longest = self._times
        return int(number), total / number if number else 0.0, longest

    def largest(self, limit: int) -> List[Tuple[str, List[Optional[int]]]]:
        """(name, bytes by round) of the lines that were in the table, those with the highest
        peak first; None where a line was too small to be kept."""
        peaks: Dict[int, int] = {}
        for each in self.rounds:
            for number, size in each.lines.items():
                if number in self._shown:
                    peaks[number] = max(size, peaks.get(number, 0))
        chosen = sorted(peaks, key=lambda number: (-peaks[number], self.names[number]))[:limit]
        return [(self.names[number], [each.lines.get(number) for each in self.rounds])
                for number in chosen]
