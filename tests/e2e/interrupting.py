"""Ctrl-C at each line of functions that change gdb's state, for test_watch.

Sourced by gdb; may import it.  Prints a line for each place where something was
left over, and how many places there were.
"""
import os
import signal
import sys

import gdb

SHOWN = ("info breakpoints", "show print thread-events", "show print inferior-events",
         "show confirm", "show pagination", "show language", "show unwindonsignal",
         "show scheduler-locking", "output $bpnum", "frame")
FILES = ("tm/running.py", "tm/inferior.py", "tm/undoing.py")


def state():
    return [gdb.execute(command, to_string=True) for command in SHOWN]


def interrupt_at(number, command, functions):
    """Runs the command, or a function, with SIGINT at one line of `functions`; that line."""
    passed, place = 0, ""

    def trace(frame, event, _argument):
        nonlocal passed, place
        if not frame.f_code.co_filename.endswith(FILES) \
                or frame.f_code.co_name not in functions:
            return None
        passed += event == "line"
        if passed == number and not place:
            place = "%s: %d" % (frame.f_code.co_name, frame.f_lineno)
            os.kill(os.getpid(), signal.SIGINT)
        return trace

    sys.settrace(trace)
    try:
        command() if callable(command) else gdb.execute(command, to_string=True)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return place


def interrupt_everywhere(command, *functions):
    number, before = 1, state()
    while True:
        place = interrupt_at(number, command, functions)
        after = state()
        if after != before:
            print("left over after %s: %s" % (place, [pair for pair in zip(before, after)
                                                      if pair[0] != pair[1]]))
            before = after
        if not place:
            break
        number += 1
    print("interrupted at %d lines" % (number - 1))
