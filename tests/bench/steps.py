"""Runs in gdb, from at_entry.py: counts instructions of the micro-benchmark's one_pair.

One line of JSON: of the untouched program, traced, and after the end of tracing; and those
traced by the source files of the helper that they were compiled from.
"""
import collections
import json
import os

import gdb


def part_of(address):
    """The source file that an instruction of the helper is from, inlined functions' own."""
    symtab = gdb.find_pc_line(address).symtab
    if symtab and "tm-helper" in symtab.objfile.filename:
        return os.path.basename(symtab.filename)
    return "program and relays"


def instructions():
    """The addresses of those from the entry of the next one_pair to its return."""
    gdb.execute("tbreak *one_pair", to_string=True)
    gdb.execute("continue", to_string=True)
    end = int(gdb.parse_and_eval("*(unsigned long *)$sp"))
    result = []
    while True:
        address = int(gdb.parse_and_eval("(unsigned long)$pc"))
        if address == end:
            return result
        result.append(address)
        gdb.execute("stepi", to_string=True)


counts = {}
instructions()  # the first makes the heap, and what dynamic linking puts off
counts["native"] = len(instructions())
gdb.execute("tm start " + os.environ["TM_BENCH_STEPS"], to_string=True)
for each in range(4):
    instructions()
traced = instructions()
counts["traced"] = len(traced)
parts = collections.Counter(map(part_of, traced))
counts["parts"] = dict(parts.most_common())
gdb.execute("tm stop", to_string=True)
counts["stopped"] = len(instructions())
print(json.dumps(counts), flush=True)
gdb.execute("kill")
