"""The call tree of a snapshot, as text and as a document.

May use the standard library and the model.  Must not import gdb: how file
names are shown is handed in.
"""

from tm import progress
from tm.documents import frame_document, sampling_keys
from tm.paint import PLAIN
from tm.paths import Paths, line_key
from tm.sampling import notes
from tm.statistics import format_size

_INDENT = 2


class Node:
    """A frame at one place of the tree, with the blocks below it; its own blocks are
    those of which it is the most recent frame."""

    __slots__ = ("frame", "size", "count", "own_size", "own_count", "children")

    def __init__(self, frame):
        self.frame = frame
        self.size = self.count = self.own_size = self.own_count = 0
        self.children = {}

    def sorted_children(self):
        """The largest first; of equal ones, those with more blocks."""
        return sorted(self.children.values(),
                      key=lambda node: (-node.size, -node.count, node.frame))


def call_tree(snapshot, invert=False):
    """The root, which has no frame.  Its children are the oldest frames, or with
    invert the most recent ones."""
    paths = Paths([snapshot], line_key)
    root = Node(None)
    for number, (size, count) in enumerate(progress.each("Making the tree", paths.values,
                                                         len(paths.values))):
        if not count:
            continue
        keys = paths.path(number)
        node = recent = root
        root.size += size
        root.count += count
        for key in reversed(keys) if invert else keys:
            node = node.children.setdefault(key, Node(paths.frames[key]))
            node.size += size
            node.count += count
            if not invert or recent is root:
                recent = node
        recent.own_size += size
        recent.own_count += count
    return root


class _Smaller:
    """The children of one node that are too small to be shown."""

    __slots__ = ("nodes", "size", "count")

    def __init__(self, nodes):
        self.nodes = len(nodes)
        self.size = sum(node.size for node in nodes)
        self.count = sum(node.count for node in nodes)


def _walk(root, percent):
    """(depth, node or _Smaller, parent), a node before its children."""
    least = root.size * percent / 100
    stack = [(0, node, root) for node in reversed(_shown(root, least))]
    while stack:
        depth, node, parent = stack.pop()
        yield depth, node, parent
        if isinstance(node, Node):
            stack += [(depth + 1, child, node) for child in reversed(_shown(node, least))]


def _shown(node, least):
    children = node.sorted_children()
    shown = [child for child in children if child.size >= least]
    rest = children[len(shown):]
    return shown + [_Smaller(rest)] if rest else shown


def _continues(node, parent):
    """Whether it is all that its caller is: then it stands below it without figures."""
    return (parent.frame is not None and isinstance(node, Node) and len(parent.children) == 1
            and (node.size, node.count) == (parent.size, parent.count))


def _label(frame, show_name, paint):
    if not frame.has_line:
        return paint.function(frame.filename)
    place = "%s:%s" % (paint.file(show_name(frame.filename)), frame.lineno)
    return "%s (%s)" % (paint.function(frame.function), place) if frame.function else place


def _own_name(filename):
    return filename


def render_tree(snapshot, invert=False, percent=1, show_name=_own_name, paint=PLAIN):
    """The text of `tm tree`."""
    root = call_tree(snapshot, invert)
    lines = [paint.title("[ Call tree, %s ]" % ("most recent call first" if invert
                                                else "oldest call first"))]
    width = len(str(root.count))
    columns = {id(root): 0}
    for _depth, node, parent in _walk(root, percent):
        column = columns[id(parent)]
        if _continues(node, parent):
            figures = " " * (19 + width)
        else:
            column += _INDENT if parent is not root else 0
            figures = "%5.1f%%  %9s  %*d" % (100 * node.size / root.size if root.size else 0,
                                             format_size(node.size), width, node.count)
        if isinstance(node, Node):
            columns[id(node)] = column
            label = _label(node.frame, show_name, paint)
        else:
            label = "%d smaller" % node.nodes
        lines.append("%s  %s%s" % (figures, " " * column, label))
    lines.append("Total allocated size: %s" % format_size(root.size))
    return "\n".join(lines) + "\n" + notes(snapshot)


def tree_document(snapshot, invert=False, percent=1):
    """What `tm tree -json` prints: the nodes in the order of the text, each with the
    number of its parent among them.

    Flat, because tracebacks may be deeper than readers of JSON like.
    """
    root = call_tree(snapshot, invert)
    numbers = {id(root): None}
    nodes = []
    for depth, node, parent in _walk(root, percent):
        described = {"parent": numbers[id(parent)], "depth": depth, "size": node.size,
                     "count": node.count}
        if isinstance(node, Node):
            numbers[id(node)] = len(nodes)
            frame = frame_document(node.frame)
            frame["address"] = None  # a node is a line, wherever its code is
            described.update(own_size=node.own_size, own_count=node.own_count, smaller=0, **frame)
        else:
            described["smaller"] = node.nodes
        nodes.append(described)
    return {"command": "tree", "snapshot": snapshot.name, "inverted": bool(invert),
            "minimum_percent": percent, "nodes": nodes, "total_size": root.size,
            "total_count": root.count, **sampling_keys(snapshot)}
