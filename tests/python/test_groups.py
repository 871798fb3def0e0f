"""Of many groups only those that are shown are put in order and made objects.

May use the standard library, tm and _tm.  Must never need gdb.
"""

import struct
import unittest
from array import array
from unittest import mock

import _tm
import tm
from tm import render
from tm.grouping import ALL, PAGE

MANY = 5000


def snapshot_of(tracebacks):
    """One block of 8 bytes for each: their tracebacks alone put them in order."""
    return tm.Snapshot.from_traces([(0, 8, frames, None) for frames in tracebacks], 10)


def many(first=0):
    """Some frames occur in many tracebacks, in some more than once."""
    return snapshot_of([(("a.c", number % 7), ("b.c", number), ("c.c", number * 31 % 50))
                        for number in range(first, first + MANY)])


class FirstGroups(unittest.TestCase):
    def assert_first_are_right(self, make):
        """make: a keyword `first` -> Groups."""
        everything = list(make(first=ALL))
        for last in (10, PAGE, PAGE + 1, 3 * PAGE, len(everything)):
            groups = make()
            self.assertEqual(len(groups), len(everything))
            self.assertEqual(groups[:last], everything[:last])
            self.assertEqual(groups[last - 1], everything[last - 1])
            rest = everything[last:]
            self.assertEqual(groups.rest(last), (len(rest), sum(each.size for each in rest),
                                                 sum(each.count for each in rest)))
        self.assertEqual(list(make()), everything)
        self.assertEqual(make()[::-97], everything[::-97])
        self.assertEqual(make()[-1], everything[-1])

    def test_of_a_snapshot(self):
        snapshot = many()
        for by in ("size", "count", "average"):
            self.assert_first_are_right(
                lambda **first: snapshot.groups("traceback", by=by, **first))
        self.assert_first_are_right(lambda **first: snapshot.groups("lineno", True, **first))

    def test_of_a_comparison(self):
        new, old = many(), many(MANY // 2)
        for by in ("size", "difference"):
            self.assert_first_are_right(
                lambda **first: new.differences(old, "traceback", by=by, **first))

    def test_of_deep_tracebacks_that_hardly_differ(self):
        """To compare them one by one would look at very many frames."""
        path, tracebacks = (), []
        for number in range(1000):
            path = (("a.c", number % 3),) + path
            tracebacks.append(path)
        snapshot = snapshot_of(tracebacks)
        self.assert_first_are_right(lambda **first: snapshot.groups("traceback", **first))

    def test_distinct_tracebacks_with_equal_hashes(self):
        """Of so many hashes of 32 bits about twenty are equal."""
        count = 650
        frames = [tm.Frame(("a.c", line)) for line in range(count)]
        nodes, rows = array("I"), bytearray()
        for number in range(count):
            nodes.extend((number, _tm.layout["NO_NODE"]))
        for number in range(count * count):
            nodes.extend((number % count, number // count))
            nodes.extend((0, len(nodes) // 2 - 1))
            rows += struct.pack(_tm.ROW_FORMAT, 8, 1, 3, len(nodes) // 2 - 1, 0)
        snapshot = tm.Snapshot._from_arrays(bytes(rows), nodes.tobytes(), frames, 10)
        self.assertEqual(len(snapshot.groups("traceback")), count * count)

    def test_only_those_shown_become_objects(self):
        snapshot = many()
        with mock.patch.object(snapshot, "_traceback", wraps=snapshot._traceback) as made:
            render.render_top(snapshot, "traceback", 10)
            self.assertEqual(made.call_count, 10)
            render.render_diff(many(MANY), snapshot, "traceback", 10)
            self.assertLessEqual(made.call_count, 20)

    def test_only_a_page_is_put_in_order(self):
        with mock.patch("_tm.group", wraps=_tm.group) as group:
            render.render_top(many(), "traceback", 10)
        self.assertEqual([call.args[2] for call in group.call_args_list], [PAGE])


if __name__ == "__main__":
    unittest.main()
