"""Changes to gdb's state that are undone whatever happens, Ctrl-C at any line included.

May use the standard library.  Must not ask gdb for anything.
"""

import contextlib
import signal
from typing import Iterator


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C waits: nothing inside is left half done.  For what is short."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def undone() -> Iterator[contextlib.ExitStack]:
    """A stack of what is to be undone; who adds to it holds interrupts from the change on."""
    with contextlib.ExitStack() as undo:  # itself for Ctrl-C right before _undo_all
        try:
            yield undo
        finally:
            _undo_all(undo)


def _undo_all(undo: contextlib.ExitStack) -> None:
    while True:
        try:
            with interrupts_held():
                undo.close()
            return
        except KeyboardInterrupt:  # before or behind it: what was undone stays so
            pass
