"""Runs in gdb, behind the plugin: starts the program, traces it from its entry point on, and
lets it go.

TM_BENCH_FRAMES: frames a traceback keeps, or empty for a run without tm.
TM_BENCH_PRELOAD: a library to preload into the program.
TM_BENCH_WITHIN: a file of Python to run in this gdb instead of letting the program go.
Prints `BEGIN` and the monotonic clock when the program goes on.
"""
import os
import re
import time

import gdb

frames = os.environ.get("TM_BENCH_FRAMES", "")
within = os.environ.get("TM_BENCH_WITHIN", "")
for setting in ("pagination off", "confirm off", "breakpoint pending on",
                "startup-with-shell off", "disable-randomization off", "style enabled off",
                "debuginfod enabled off", "suppress-cli-notifications on"):
    gdb.execute("set " + setting)
if "TM_BENCH_PRELOAD" in os.environ:
    gdb.execute("set environment LD_PRELOAD " + os.environ["TM_BENCH_PRELOAD"])
gdb.execute("starti", to_string=True)
entry = re.search(r"AT_ENTRY\s.*\s(0x\w+)$", gdb.execute("info auxv", to_string=True), re.M)[1]
gdb.execute("tbreak *" + entry, to_string=True)
gdb.execute("continue", to_string=True)
if frames:
    print(gdb.execute("tm start " + frames, to_string=True), flush=True)
if within:
    with open(within) as file:
        exec(compile(file.read(), within, "exec"))
else:
    print(f"BEGIN {time.monotonic():.6f}", flush=True)
    gdb.execute("detach", to_string=True)
