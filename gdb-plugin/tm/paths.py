"""The arrays of a snapshot as viewers want them: call paths with bytes and blocks.

May use the standard library, the model and _tm.  Must not import gdb.
"""

import struct

import _tm

from tm import progress
from tm.sampling import sample_weight

_ROW = struct.Struct(_tm.ROW_FORMAT)
_NODE = struct.Struct(_tm.NODE_FORMAT)
_NO_NODE = _tm.layout["NO_NODE"]


def _kinds(snapshot):
    """The rows with (blocks, bytes) behind each.

    Of a sampled snapshot these are estimates: blocks are rounded so that they
    add up to those of the snapshot, what one row loses the next ones get.
    """
    period, rest = snapshot.sample_period, 0.5
    for row in _ROW.iter_unpack(snapshot._rows):
        size, count = row[:2]
        if not period:
            yield row, count, size * count
            continue
        blocks = count * sample_weight(size, period) + rest
        rest = blocks % 1
        yield row, int(blocks), count * _tm.sample_bytes(size, period)


def rows(snapshot):
    """(node, size of each block, blocks, bytes, domain) for each kind of equal blocks."""
    for (size, _count, _total, node, domain), blocks, bytes_ in _kinds(snapshot):
        yield node, size, blocks, bytes_, domain


def row_count(snapshot):
    """How many of them there are."""
    return len(snapshot._rows) // _ROW.size


def cut_blocks(snapshot):
    """How many blocks have a traceback that was cut at the limit."""
    return sum(blocks for row, blocks, _bytes in _kinds(snapshot) if row[2] < 0)


def node_count(snapshot):
    """How many nodes the tree of its call paths has."""
    return len(snapshot._nodes) // _NODE.size


def nodes(snapshot):
    """(frame's number, parent's node or None); a parent comes before its children."""
    snapshot.blocks  # has every number in the arrays checked
    for frame, parent in _NODE.iter_unpack(snapshot._nodes):
        yield frame, None if parent == _NO_NODE else parent


class Paths:
    """The call paths of one or two snapshots, with frames of one key made one.

    nodes: a list of (key's number, parent or None); values: per node the list
    [bytes, blocks] of the new snapshot, and behind it of the old one, for the
    blocks whose most recent frame the node is.
    """

    def __init__(self, snapshots, key_of):
        self.keys = {}    # key -> number
        self.frames = []  # by key, one frame that stands for it
        self._numbers = {}
        self.nodes = []
        self.values = []
        for place, snapshot in enumerate(snapshots):
            self._add(snapshot, place * 2, len(snapshots) * 2, key_of)
        self._drop_unused()

    def _add(self, snapshot, place, width, key_of):
        keys = []
        for frame in snapshot._frames:
            key = key_of(frame)
            number = self.keys.get(key)
            if number is None:
                number = self.keys[key] = len(self.frames)
                self.frames.append(frame)
            keys.append(number)
        mine = []
        for frame, parent in progress.each("Joining call paths", nodes(snapshot),
                                           node_count(snapshot)):
            node = (keys[frame], None if parent is None else mine[parent])
            number = self._numbers.get(node)
            if number is None:
                number = self._numbers[node] = len(self.nodes)
                self.nodes.append(node)
                self.values.append([0] * width)
            mine.append(number)
        for node, _size, blocks, bytes_, _domain in progress.each(
                "Adding up", rows(snapshot), row_count(snapshot)):
            value = self.values[mine[node]]
            value[place] += bytes_
            value[place + 1] += blocks

    def _drop_unused(self):
        """What a filter left without blocks goes, frames too."""
        used = [any(value) for value in self.values]
        for number in range(len(self.nodes) - 1, -1, -1):
            parent = self.nodes[number][1]
            if used[number] and parent is not None:
                used[parent] = True
        node_numbers, key_numbers = {None: None}, {}
        kept_nodes, kept_values = [], []
        for number, (key, parent) in enumerate(self.nodes):
            if used[number]:
                node_numbers[number] = len(kept_nodes)
                key = key_numbers.setdefault(key, len(key_numbers))
                kept_nodes.append((key, node_numbers[parent]))
                kept_values.append(self.values[number])
        self.frames = [self.frames[key] for key in key_numbers]
        self.nodes, self.values = kept_nodes, kept_values
        del self.keys, self._numbers

    def totals(self):
        """Per node its values with those of everything below it."""
        totals = [list(value) for value in self.values]
        for number in range(len(self.nodes) - 1, -1, -1):
            parent = self.nodes[number][1]
            if parent is not None:
                totals[parent] = [a + b for a, b in zip(totals[parent], totals[number])]
        return totals

    def path(self, number):
        """The keys from the oldest frame to this node."""
        path = []
        while number is not None:
            key, number = self.nodes[number]
            path.append(key)
        return path[::-1]


def line_key(frame):
    """Frames of one function, file and line are one."""
    return (frame.function, frame.filename, frame.lineno, frame.has_line, frame.module)


def function_key(frame):
    """Frames of one function are one, whatever their lines; those without a name stay."""
    if frame.function:
        return (frame.function, frame.filename if frame.has_line else None, frame.module)
    return (None, frame.filename, frame.lineno, frame.module)
