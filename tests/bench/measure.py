"""Interleaved measurements: A B C A B C …, and the ratios between them.

May use: variants.py, the standard library.  Must never compare figures of different rounds.
"""
import statistics
import sys
import time

from variants import Failed


def spread(values):
    """{"median", "min", "max"}, or None of no values."""
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


class Figures:
    """One value a round of each variant, or a dictionary of values by `timer`; nothing where
    it failed or was not run."""

    def __init__(self, variants):
        self.variants = variants
        self.rounds = []
        self.failures = {}

    def columns(self, names, timer):
        """The values of these variants, from each round in which all of them have one."""
        for each in self.rounds:
            values = [each.get(name) for name in names]
            if timer:
                values = [value and value.get(timer) for value in values]
            if None not in values:
                yield values

    def value(self, name, base=None, timer=None):
        """A variant's values, or what it adds to its base."""
        if base:
            return spread([one - other for one, other in self.columns([name, base], timer)])
        return spread([value for value, in self.columns([name], timer)])

    def ratio(self, name, base, to, to_base, timer=None):
        """What `name` adds to what `to` adds; of rounds in which `to` adds something."""
        return spread([(one - one_base) / (other - other_base) for one, one_base, other, other_base
                       in self.columns([name, base, to, to_base], timer) if other > other_base])

    def times(self, name, base, timer=None):
        """The quotient of two variants."""
        return spread([one / other for one, other in self.columns([name, base], timer) if other])


def interleave(variants, rounds, once, tell=None, until=None):
    """`once(variant)` of each variant in turn, `rounds` times.  One that fails has failed: it
    is not tried again.  `until`: when to begin no more rounds, by time.monotonic(); the first
    one is always made."""
    figures = Figures(variants)
    for number in range(rounds):
        if number and until and time.monotonic() > until:
            break
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
