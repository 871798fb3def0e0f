"""The benchmark's arithmetic: interleaved ratios, and which aims are met, from made-up figures.

May use: tests/bench.  Must never time anything.
"""
import pathlib
import sys
import unittest
import unittest.mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bench"))

import aims  # noqa: E402
import pauses  # noqa: E402
import report  # noqa: E402
from measure import Figures, interleave, spread  # noqa: E402
from variants import Failed, Variant  # noqa: E402


def one(value):
    return {"median": value, "min": value, "max": value}


def made_up():
    """A result of which every aim is met."""
    ratios = {"tm 10 to heaptrack": one(0.1), "tm 25 to heaptrack": one(0.2),
              "tm 10 to floor 10": one(1.4), "tm 25 to floor 25": one(1.5)}
    column = {"native": {timer: one(50) for timer in ("wall", "processor")}, "failures": {},
              "added": {timer: {"tm 10": one(60)} for timer in ("wall", "processor")},
              "ratios": {timer: dict(ratios) for timer in ("wall", "processor")}}
    both = {"wall": one(1.1), "processor": one(1.0)}
    histogram = {"histogram": [0] * 8 + [100000000], "once": [0] * 9, "longest": 900000,
                 "pairs": 100000000, "runs": 2}
    program = {"native seconds": one(1), "wall": {"tm 10": one(1.2), "tm 25 sampled": one(1.01)},
               "processor": {}, "failures": {}, "to heaptrack": one(0.2),
               "to tracemalloc": {"10": one(0.05)}, "seconds": 1}
    steps = {"native": 142, "same": 500, "alternating": 600, "new": 700, "stopped": 142,
             "operations": {"native": 120, "same": 430, "alternating": 520, "new": 600},
             "components": {kind: {"unwind": 100} for kind in ("same", "alternating", "new")}}
    tools = {"tm": one(1), "addr2line": one(2)}
    return {
        "machine": "made up", "rounds": 1, "took": {"micro": 1.0}, "quick": False,
        "micro": {"live 1,000": column}, "threads": {"tm 10": both},
        "memory": {"empty": 1 << 20, "blocks": {"1000000": 23.0, "10000000": 24.0},
                   "peers": {"heaptrack": 1800.0}, "failures": {}},
        "pauses": {"tm 10": histogram, "native": histogram,
                   "first calls": {"10": 90000, "500": 1000000}},
        "steps": {"10": steps, "preloaded, not started": {**steps, "same": 142}},
        "start": {"1": one(20), "100": one(50)},
        "snapshot": {"10000000": {"snapshot": 0.4, "top": 0.9}},
        "grouping": [{"tracebacks": 1000000, "key": "lineno", "groups": 5, "seconds": 0.5,
                      "MiB": 3.0}],
        "symbols": {"object": {"addresses": 10000, "failures": {}, "cold": tools, "again": tools,
                               "cold to tm": dict(tools), "again to tm": dict(tools)}},
        "programs": {"python3 malloc": program},
    }


class Ratios(unittest.TestCase):
    def figures(self, *rounds):
        figures = Figures([])
        figures.rounds = list(rounds)
        return figures

    def test_within_the_rounds(self):
        """The second round is twice as slow; the ratio of what is added does not change."""
        figures = self.figures({"native": 50, "tm": 60, "other": 130},
                               {"native": 100, "tm": 120, "other": 260})
        self.assertEqual(figures.ratio("tm", "native", "other", "native"), one(0.125))
        self.assertEqual(figures.value("tm", "native"), {"median": 15, "min": 10, "max": 20})
        self.assertEqual(figures.times("other", "native"), one(2.6))

    def test_a_round_without_one_of_them_does_not_count(self):
        figures = self.figures({"native": 50, "tm": 60}, {"native": 10, "tm": 30, "other": 50})
        self.assertEqual(figures.ratio("tm", "native", "other", "native"), one(0.5))
        self.assertIsNone(figures.times("other", "nothing"))

    def test_by_timer(self):
        figures = self.figures({"native": {"wall": 2, "processor": 1}, "tm": {"wall": 3}})
        self.assertEqual(figures.times("tm", "native", "wall"), one(1.5))
        self.assertIsNone(figures.times("tm", "native", "processor"))

    def test_spread(self):
        self.assertEqual(spread([3, 1, 9]), {"median": 3, "min": 1, "max": 9})
        self.assertIsNone(spread([]))

    def test_no_round_is_begun_after_the_time_given_but_the_first(self):
        self.assertEqual(len(interleave([Variant("a")], 5, lambda each: 1, until=0.001).rounds), 1)
        self.assertEqual(len(interleave([Variant("a")], 5, lambda each: 1).rounds), 5)

    def test_interleaved_and_failures_keep_their_reason(self):
        order = []

        def once(variant):
            order.append(variant.name)
            if variant.name == "bad":
                raise Failed("longer than 5 s")
            return len(order)

        figures = interleave([Variant("a"), Variant("bad"), Variant("b")], 2, once)
        self.assertEqual(order, ["a", "bad", "b", "a", "b"])
        self.assertEqual(figures.failures, {"bad": "failed: longer than 5 s"})


class Pauses(unittest.TestCase):
    """Pairs 3, 7 and 9 took long in the first run, pair 7 in the second one as well."""

    def runs(self, again=70000):
        histogram = [0] * 13 + [5, 0, 1, 1, 1] + [0] * 4
        return [{"histogram": histogram, "threshold": 1 << 15, "long": long}
                for long in ([[3, 40000], [7, 90000], [9, 140000]],
                             [[5, 2000000], [7, again], [8, 99999]])]

    def test_a_pair_took_no_longer_than_its_shortest_time(self):
        self.assertEqual(pauses.shortest(self.runs()), {7: 70000})
        self.assertEqual(pauses.shortest(self.runs()[:1]), {3: 40000, 7: 90000, 9: 140000})

    def test_what_was_short_once_is_counted_below_what_is_long(self):
        self.assertEqual(pauses.summary(self.runs()), {
            "once": self.runs()[0]["histogram"], "runs": 2, "pairs": 8, "longest": 70000,
            "histogram": [0] * 13 + [5, 2, 0, 1, 0] + [0] * 4})

    def test_of_no_long_pair_the_class_is_told(self):
        runs = self.runs()
        runs[1]["long"] = []
        self.assertEqual(pauses.summary(runs)["longest"], 1 << 15)

    def test_runs_go_on_while_a_pair_seems_to_take_long(self):
        first, second = self.runs(again=3000000)
        first["long"][1][1] = 2000000
        third = dict(second, long=[[7, 999999]])
        for runs, count, longest in (([first, second, third], 3, 999999),
                                     ([first, second] * 3, 5, 2000000),
                                     (self.runs(), 2, 70000)):
            with unittest.mock.patch.object(pauses, "micro", side_effect=runs):
                told = pauses.measure(Variant("a"), 1, 2)
            self.assertEqual((told["runs"], told["longest"]), (count, longest))


class Aims(unittest.TestCase):
    def verdicts(self, result):
        return {row.aim: row.met for row in aims.rows(result)}

    def changed(self, change):
        """The aims whose verdict a change of the figures changes."""
        result = made_up()
        before = self.verdicts(result)
        change(result)
        after = self.verdicts(result)
        return {aim: after[aim] for aim in after if after[aim] != before.get(aim)}

    def test_all_eight_in_their_order(self):
        rows = aims.rows(made_up())
        numbers = [row.number for row in rows]
        self.assertEqual(numbers, sorted(numbers))
        self.assertEqual(set(numbers), set(range(1, 9)))
        for row in rows:
            self.assertEqual(row.met, None if row.number == 8 else True, row.aim)

    def test_each_figure_decides_its_aim(self):
        def over(*path):
            def change(result):
                for key in path[:-2]:
                    result = result[key]
                result[path[-2]] = path[-1]
            return change

        for change in (over("micro", "live 1,000", "ratios", "wall", "tm 10 to heaptrack",
                            one(0.126)),
                       over("micro", "live 1,000", "ratios", "wall", "tm 25 to heaptrack",
                            one(0.21)),
                       over("micro", "live 1,000", "ratios", "wall", "tm 25 to floor 25",
                            one(1.51)),
                       over("threads", "tm 10", "wall", one(1.16)),
                       over("memory", "blocks", "10000000", 24.1),
                       over("memory", "empty", (2 << 20) + 1),
                       over("pauses", "tm 10", "longest", 1000001),
                       over("pauses", "first calls", "500", 1000001),
                       over("start", "100", one(51)),
                       over("snapshot", "10000000", "snapshot", 0.51),
                       over("snapshot", "10000000", "top", 1.01),
                       over("programs", "python3 malloc", "to heaptrack", one(0.26)),
                       over("programs", "python3 malloc", "to tracemalloc", "10", one(0.11)),
                       over("programs", "python3 malloc", "wall", "tm 25 sampled", one(1.03)),
                       over("steps", "10", "stopped", 143),
                       over("steps", "preloaded, not started", "same", 148),
                       over("grouping", 0, "seconds", 1.1),
                       over("symbols", "object", "cold to tm", "addr2line", one(0.9)),
                       over("symbols", "object", "again to tm", "addr2line", one(0.9))):
            with self.subTest(change=change.__closure__[0].cell_contents):
                self.assertEqual(list(self.changed(change).values()), [False])

    def test_what_was_not_measured_is_neither_met_nor_missed(self):
        for row in aims.rows({}):
            self.assertIsNone(row.met, row.aim)
        failed = {name: {"failed": "no reason"} for name in report.SECTIONS}
        for row in aims.rows(failed):
            self.assertIsNone(row.met, row.aim)

    def test_those_over_the_limit_are_named_the_worst_first(self):
        row = aims.at_most(1, "x", 1, {"a": 0.5, "b": 2, "c": 3, "d": None}, aims.ratio)
        self.assertEqual((row.figure, row.met), ("c 3.00; b 2.00", False))


class Text(unittest.TestCase):
    def test_every_section_is_printed(self):
        text = report.text(made_up())
        for words in ("tm 10 to heaptrack", "100,000,000 pairs", "23.0 a live block",
                      "unwind", "310 (10)", "python3 malloc", "addr2line", "lineno", "The aims"):
            self.assertIn(words, text)
        self.assertNotIn("NOT met", text)

    def test_a_section_that_failed_says_so(self):
        result = made_up()
        result["memory"] = {"failed": "longer than 60 s"}
        self.assertIn("memory: longer than 60 s", report.text(result))


if __name__ == "__main__":
    unittest.main()
