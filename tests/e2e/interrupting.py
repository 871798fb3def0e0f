"""Ctrl-C at each line of functions of tm.running, for test_watch.

Sourced by gdb; may import it.  Prints a line for each place where something was
left over, and how many places there were.
"""
import os
import signal
import sys

import gdb

SHOWN = ("info breakpoints", "show print thread-events", "show print inferior-events",
         "show confirm", "show pagination")


def state():
    return [gdb.execute(command, to_string=True) for command in SHOWN]


def interrupt_at(number, command, functions):
    """Runs the command, with SIGINT at the so many-th line of the functions; that line."""
    passed, place = 0, ""

    def trace(frame, event, _argument):
        nonlocal passed, place
        if not frame.f_code.co_filename.endswith("tm/running.py") \
                or frame.f_code.co_name not in functions:
            return None
        passed += event == "line"
        if passed == number and not place:
            place = "%s: %d" % (frame.f_code.co_name, frame.f_lineno)
            os.kill(os.getpid(), signal.SIGINT)
        return trace

    sys.settrace(trace)
    try:
        gdb.execute(command, to_string=True)
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
