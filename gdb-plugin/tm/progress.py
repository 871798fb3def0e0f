"""What long work tells of itself while it goes on: which step it is in, and how far.

    with progress.told_to(listener):          # whoever shows it; tm.commands.terminal does
        with progress.step("Finding names", len(addresses)) as at:
            at(number)                        # as often as is convenient
        for row in progress.each("Writing samples", rows, count):
            ...

May use the standard library.  Must not import gdb.  Without a listener all of it
does nothing.  An exception of the listener ends the work, as Ctrl-C does: work
that takes steps must leave nothing half done behind when it ends anywhere.
"""

import contextlib
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Optional

EVERY = 256  # items between two looks at the listener


class Step(NamedTuple):
    """One kind of work: what it is, in the words of the user."""

    text: str  # "Finding names"
    total: Optional[int]  # how much there is to do; None: not known
    is_bytes: bool  # whether that is bytes, or things to be counted


Listener = Callable[[Step, int], Any]  # is told the step and how much of it is done

_listener: Optional[Listener] = None


@contextlib.contextmanager
def told_to(listener: Optional[Listener]) -> Iterator[None]:
    """Tells the listener (None: nobody) of the steps of the work inside."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def _tell_nobody(done: int) -> None:
    pass


@contextlib.contextmanager
def step(text: str, total: Optional[int] = None,
         is_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """A step of the work; gives a function to be told how much of it is done."""
    listener = _listener
    if listener is None:
        yield _tell_nobody
        return
    described = Step(text, total, is_bytes)

    def at(done: int) -> None:
        listener(described, done)

    at(0)
    yield at


def each(text: str, items: Iterable, total: Optional[int] = None) -> Iterable:
    """The items, one after the other, as a step of the work."""
    return items if _listener is None else _told(text, items, total)


def _told(text: str, items: Iterable, total: Optional[int]) -> Iterator:
    with step(text, total) as at:
        for number, item in enumerate(items):
            if number % EVERY == 0:
                at(number)
            yield item


def tell(text: str, done: int, total: Optional[int] = None, is_bytes: bool = False) -> None:
    """Tells of work that is asked how far it is, inside a step or not."""
    if _listener is not None:
        _listener(Step(text, total, is_bytes), done)


def reader(text: str, read: Callable[[int, int], Any]) -> Callable[[int, int], Any]:
    """A read(address, length) that tells how many bytes were read; `read` does it."""
    listener = _listener
    if listener is None:
        return read
    described, done = Step(text, None, True), 0

    def told(address: int, length: int) -> Any:
        nonlocal done
        listener(described, done)
        done += length
        return read(address, length)

    return told
