"""Runs in gdb, from at_entry.py: times tm snapshot and tm top on the full live set."""
import json
import time

import gdb


def seconds(command):
    began = time.monotonic()
    gdb.execute(command, to_string=True)
    return time.monotonic() - began


gdb.execute("tbreak filled", to_string=True)
gdb.execute("continue", to_string=True)
print(json.dumps({"snapshot": seconds("tm snapshot bench"), "top": seconds("tm top")}), flush=True)
gdb.execute("kill")
