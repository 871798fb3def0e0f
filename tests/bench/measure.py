"""Interleaved measurements: A B C A B C …, and the ratios between them.

May use: variants.py, the standard library.  Must never compare figures of different rounds.
"""
import statistics
import sys

from variants import Failed, run


class Figures:
    """One value a round of each variant; None where it failed or was not run."""

    def __init__(self, variants):
        self.variants = variants
        self.rounds = []
        self.failures = {}

    def value(self, name, base=None):
        """Median, min and max of a variant's values, or of what it adds to its base."""
        found = self.added(name, base) if base else [
            each[name] for each in self.rounds if each.get(name) is not None]
        if not found:
            return None
        return {"median": statistics.median(found), "min": min(found), "max": max(found)}

    def added(self, name, base):
        return [each[name] - each[base] for each in self.rounds
                if each.get(name) is not None and each.get(base) is not None]

    def ratio(self, name, base, to, to_base):
        """What `name` adds to what `to` adds, of the rounds in which both ran."""
        found = [(each[name] - each[base]) / (each[to] - each[to_base]) for each in self.rounds
                 if None not in [each.get(one) for one in (name, base, to, to_base)]
                 and each[to] > each[to_base]]
        if not found:
            return None
        return {"median": statistics.median(found), "min": min(found), "max": max(found)}

    def times(self, name, base):
        """The quotient of two variants."""
        found = [each[name] / each[base] for each in self.rounds
                 if each.get(name) is not None and each.get(base)]
        if not found:
            return None
        return {"median": statistics.median(found), "min": min(found), "max": max(found)}


def interleave(variants, rounds, once, tell=None):
    """`once(variant)` of each variant in turn, `rounds` times."""
    figures = Figures(variants)
    for number in range(rounds):
        values = {}
        for variant in variants:
            if variant.name in figures.failures:
                continue
            reason = variant.missing()
            if reason:
                figures.failures[variant.name] = reason
                continue
            try:
                values[variant.name] = once(variant)
            except Failed as failure:
                figures.failures[variant.name] = f"failed: {failure}"
        figures.rounds.append(values)
        if tell:
            print(f"  {tell}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return figures


__all__ = ["Figures", "Failed", "interleave", "run"]
