"""Small call paths folded together, so that a page stays small for any heap.

May use the standard library and the model.  Must not import gdb.  Totals stay
exact: what is folded is added up where it was, and the tables are those of the
whole snapshot.
"""

from heapq import nlargest

from tm import progress

FOLDED = -1  # stands for a key in the nodes: calls too small to be shown by themselves
ROWS = 500  # of a table: the largest by each measure


def _largest_share(values, wholes):
    return max(value / whole if whole else 0 for value, whole in zip(values, wholes))


def shares(paths):
    """Per node the largest of its shares: of the bytes and of the blocks, now and before."""
    totals = paths.totals()
    wholes = [sum(values[place] for (_key, parent), values in zip(paths.nodes, totals)
                  if parent is None) for place in range(len(totals[0]) if totals else 0)]
    return [_largest_share(values, wholes) for values in totals]


class Folded:
    """The tree with its `limit` largest nodes; a parent is never smaller than its child.

    nodes and values are as in Paths, with nodes of the key FOLDED for the others.
    """

    def __init__(self, paths, node_shares, limit):
        order = sorted(range(len(paths.nodes)), key=lambda number: (-node_shares[number], number))
        self.share = node_shares[order[limit]] if len(order) > limit else 0
        kept = bytearray(len(order))
        for number in order[:limit]:
            kept[number] = True
        self.nodes, self.values = [], []
        self.paths, self.sums = 0, [0, 0, 0, 0]
        self._numbers = {}  # of a node in the paths, or (FOLDED, parent): the one here
        for number, (key, parent) in enumerate(progress.each("Folding small calls", paths.nodes,
                                                             len(paths.nodes))):
            if kept[number]:
                self._numbers[number] = self._add(key, parent, paths.values[number])
            else:
                self._fold(number, parent, paths.values[number])

    def _add(self, key, parent, values):
        self.nodes.append((key, None if parent is None else self._numbers[parent]))
        self.values.append(list(values))
        return len(self.nodes) - 1

    def _fold(self, number, parent, values):
        here = self._numbers.get(parent)
        if here is None or self.nodes[here][0] != FOLDED:  # its parent is shown, or it has none
            mark = (FOLDED, parent)
            if mark not in self._numbers:
                self._numbers[mark] = self._add(FOLDED, parent, [0] * len(values))
            here = self._numbers[mark]
        self._numbers[number] = here
        if any(values):
            self.paths += 1
        for place, value in enumerate(values):
            self.values[here][place] += value
            self.sums[place] += value


def _figures(statistic, compared):
    before = (statistic.size - statistic.size_diff, statistic.count - statistic.count_diff) \
        if compared else (0, 0)
    return [statistic.size, statistic.count, *before]


def table(snapshot, old, key_type):
    """The largest rows of a table, [(frame, size, count, size and count before, size with
    callees)], and how many others there are, with their sums.

    Also how much the rows that grew grew, and how much the others shrank.
    """
    compared = old is not None
    if compared:
        own = snapshot.differences(old, key_type)
        under = snapshot.differences(old, key_type, True)
    else:
        own, under = snapshot.groups(key_type), snapshot.groups(key_type, True)
    found = {}
    for groups, place in ((under, 1), (own, 0)):
        for statistic in groups:
            frame = statistic.traceback[-1]
            entry = found.setdefault((frame.filename, frame.lineno, frame.has_line),
                                     [frame, [0, 0, 0, 0], 0])
            if place:
                entry[2] = statistic.size
            else:
                entry[1] = _figures(statistic, compared)
    rows = list(found.values())
    chosen = {}
    for measure in (lambda row: row[1][0], lambda row: row[1][1], lambda row: row[2],
                    lambda row: abs(row[1][0] - row[1][2])):
        for row in nlargest(ROWS, rows, measure):
            chosen[id(row)] = row
    others = [row for row in rows if id(row) not in chosen]
    changes = [row[1][0] - row[1][2] for row in rows]
    return {"rows": [(frame, *figures, under) for frame, figures, under in chosen.values()],
            "others": [len(others), *(sum(row[1][place] for row in others)
                                      for place in range(4))],
            "grown": sum(change for change in changes if change > 0),
            "shrunk": sum(change for change in changes if change < 0)}
