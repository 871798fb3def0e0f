"""Display the top 10: the ten lines that hold most memory.

    gdb -q -x gdb-plugin/tm-gdb.py -x examples/top10.py build/examples/leak
"""
import gdb

import tm as tracemalloc

gdb.execute("break requests_done", to_string=True)
gdb.execute("run", to_string=True)

tracemalloc.start()

gdb.execute("continue", to_string=True)  # ... run the application ...

snapshot = tracemalloc.take_snapshot()
top_stats = snapshot.statistics('lineno')

print("[ Top 10 ]")
for stat in top_stats[:10]:
    print(stat)
