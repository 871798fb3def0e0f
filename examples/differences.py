"""Compute differences: what a thousand requests leave behind.

    gdb -q -x gdb-plugin/tm-gdb.py -x examples/differences.py build/examples/leak
"""
import gdb

import tm as tracemalloc

gdb.execute("break requests_done", to_string=True)
gdb.execute("run", to_string=True)

tracemalloc.start()
gdb.execute("continue", to_string=True)  # ... start the application ...

snapshot1 = tracemalloc.take_snapshot()
gdb.execute("continue", to_string=True)  # ... call the function that leaks memory ...
snapshot2 = tracemalloc.take_snapshot()

top_stats = snapshot2.compare_to(snapshot1, 'lineno')

print("[ Top 10 differences ]")
for stat in top_stats[:10]:
    print(stat)
