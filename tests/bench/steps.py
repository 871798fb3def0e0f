"""Runs in gdb, from at_entry.py: counts instructions of the micro-benchmark's one_pair.

One line of JSON: of the untouched program, traced, and after the end of tracing.
"""
import json
import os

import gdb


def instructions():
    """From the entry of the next one_pair to its return."""
    gdb.execute("tbreak *one_pair", to_string=True)
    gdb.execute("continue", to_string=True)
    end = int(gdb.parse_and_eval("*(unsigned long *)$sp"))
    count = 0
    while int(gdb.parse_and_eval("(unsigned long)$pc")) != end:
        gdb.execute("stepi", to_string=True)
        count += 1
    return count


counts = {}
instructions()  # the first makes the heap, and what dynamic linking puts off
counts["native"] = instructions()
gdb.execute("tm start " + os.environ["TM_BENCH_STEPS"], to_string=True)
for each in range(4):
    instructions()
counts["traced"] = instructions()
gdb.execute("tm stop", to_string=True)
counts["stopped"] = instructions()
print(json.dumps(counts), flush=True)
gdb.execute("kill")
