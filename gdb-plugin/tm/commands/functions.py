"""Convenience functions for expressions and the conditions of breakpoints.

May use: gdb, tm.counts.  Must never do what takes long: a condition is
evaluated at every pass.
"""

from typing import Any, Callable, Dict, List, Type

import gdb

from tm import counts
from tm.commands.framework import integer_of, user_errors
from tm.errors import TmError


class TmFunction(gdb.Function):
    """A function; subclasses declare name and operands, and write figure()."""

    name = ""
    operands = 0
    figure: Callable[..., int]

    def __init__(self) -> None:
        super().__init__(self.name)

    def invoke(self, *operands: gdb.Value) -> int:
        results: List[int] = []
        user_errors(self._invoke, operands, results)
        return results[0]

    def _invoke(self, operands: Any, results: List[int]) -> None:
        if len(operands) != self.operands:
            raise TmError("$%s takes %s." % (self.name, "one argument, an address"
                                             if self.operands else "no arguments"))
        counts.require_target()
        results.append(self.figure(*(integer_of(each) & 0xffffffffffffffff
                                     for each in operands)))


class Size(TmFunction):
    """$_tm_size (ADDRESS): the size of the traced block that holds ADDRESS.
It is 0 when no traced block does."""

    name = "_tm_size"
    operands = 1

    def figure(self, address: int) -> int:
        return max(0, counts.block_size(address))


class Traced(TmFunction):
    """$_tm_traced (ADDRESS): 1 when a traced block holds ADDRESS, else 0."""

    name = "_tm_traced"
    operands = 1

    def figure(self, address: int) -> int:
        return int(counts.block_size(address) >= 0)


class Count(TmFunction):
    """$_tm_count (): how many traced blocks there are."""

    name = "_tm_count"

    def figure(self) -> int:
        return counts.counters()["blocks"]


class Current(TmFunction):
    """$_tm_current (): bytes in traced blocks."""

    name = "_tm_current"

    def figure(self) -> int:
        return counts.counters()["current"]


class Peak(TmFunction):
    """$_tm_peak (): most bytes that were in traced blocks at one time."""

    name = "_tm_peak"

    def figure(self) -> int:
        return counts.counters()["peak"]


FUNCTIONS: List[Type[TmFunction]] = [Size, Count, Current, Peak, Traced]


DEFINED: Dict[str, TmFunction] = {}


def find(name: str) -> TmFunction:
    """The function of this name."""
    return DEFINED[name]


def register() -> None:
    """Define the functions, or define them again."""
    for kind in FUNCTIONS:
        DEFINED[kind.name] = kind()
