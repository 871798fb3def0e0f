"""Runs in gdb, from at_entry.py: counts instructions of the micro-benchmark's single pairs.

TM_BENCH_STEPS: the frames of `tm start`, or empty where the program traces itself, or does not.
One line of JSON: of the untouched program, of three traced pairs, and after the end of tracing;
the traced ones also by the component of the helper that they belong to; and how many operations
of the processor those about are.
"""
import collections
import json
import os

import gdb

# Which component the code of a source file is; files not named here are their own.
COMPONENTS = {"entry.S": "entry", "usual.S": "entry", "usual.c": "guard", "hooks.c": "guard",
              "guard.h": "guard", "record.h": "guard", "record.c": "guard",
              "thread.c": "guard", "thread.h": "guard",
              "unwind.c": "unwind", "unwind.h": "unwind", "rule.c": "unwind", "stack.c": "unwind",
              "fullwalk.c": "unwind", "cfi.c": "unwind", "cfi.h": "unwind", "modules.c": "unwind",
              "modules.h": "unwind", "expression.c": "unwind", "traceback.c": "intern",
              "traceback.h": "intern", "recall.h": "recall",
              "table.c": "table", "table.h": "table", "table_usual.h": "table",
              "segment.c": "table", "segment.h": "table", "counter.h": "counters"}
# Belong to the code that they are inlined into.
SHARED = ("tm_layout.h", "arch.h", "lock.h", "helper.h")


def source_file(function):
    return os.path.basename(function.symtab.filename)


def component(address):
    """What an instruction is part of."""
    symtab = gdb.find_pc_line(address).symtab
    if not symtab or "tm-helper" not in symtab.objfile.filename:
        known = symtab or gdb.solib_name(address) or gdb.block_for_pc(address)
        return "program" if known else "relay"
    name = os.path.basename(symtab.filename)
    block = gdb.block_for_pc(address)
    while name in SHARED and block:
        if block.function:
            name = source_file(block.function)
        block = block.superblock
    return COMPONENTS.get(name, name)


def go_to(function):
    gdb.execute("tbreak *" + function, to_string=True)
    gdb.execute("continue", to_string=True)


def instructions():
    """The addresses of those from here, a function's entry, to its return."""
    end = int(gdb.parse_and_eval("*(unsigned long *)$sp"))
    result = []
    while True:
        address = int(gdb.parse_and_eval("(unsigned long)$pc"))
        if address == end:
            return result
        result.append(address)
        gdb.execute("stepi", to_string=True)


def operations(addresses):
    """How many there are where a comparison and the jump behind it are one, as for processors."""
    names = {address: gdb.execute(f"x/i {address}", to_string=True).split(":", 1)[1].split()[0]
             for address in set(addresses)}
    pairs = zip(addresses, addresses[1:])
    return len(addresses) - sum(names[first][:3] in ("cmp", "tes") and names[second][0] == "j"
                                and names[second] != "jmp" for first, second in pairs)


def components(addresses):
    """{component: instructions} of a pair; the table's are `put` until malloc has returned."""
    own = {address: gdb.find_pc_line(address).symtab for address in set(addresses)}
    own = {address for address, symtab in own.items()
           if symtab and os.path.basename(symtab.filename) == "micro.c"}
    halves = [number for number, address in enumerate(addresses)
              if address in own and number and addresses[number - 1] not in own]
    kinds = {address: component(address) for address in set(addresses)}
    counted = collections.Counter()
    for number, address in enumerate(addresses):
        kind = kinds[address]
        if kind == "table":
            kind = "table put" if number < halves[0] else "table take"
        counted[kind] += 1
    return dict(counted)


frames = os.environ["TM_BENCH_STEPS"]
counts = {"components": {}, "operations": {}}
go_to("one_pair")  # the first makes the heap, and what dynamic linking puts off
go_to("one_pair")
untouched = instructions()
counts["native"] = len(untouched)
counts["operations"]["native"] = operations(untouched)
if frames:
    gdb.execute("tm start " + frames, to_string=True)
for name, function, passes in (("same", "one_pair", 5), ("alternating", "one_pair", 5),
                               ("new", "fresh_pair", 1)):
    for turn in range(passes):
        go_to(function)
    traced = instructions()
    counts[name] = len(traced)
    counts["components"][name] = components(traced)
    counts["operations"][name] = operations(traced)
go_to("one_pair")
if frames:
    gdb.execute("tm stop", to_string=True)
counts["stopped"] = len(instructions())
print(json.dumps(counts), flush=True)
gdb.execute("kill")
