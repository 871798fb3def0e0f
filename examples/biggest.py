"""Get the traceback of a memory block: the traceback that holds most, and a block.

    gdb -q -x gdb-plugin/tm-gdb.py -x examples/biggest.py build/examples/leak
"""
import gdb

import tm as tracemalloc

gdb.execute("break requests_done", to_string=True)
gdb.execute("run", to_string=True)

# Store 25 frames
tracemalloc.start(25)

gdb.execute("continue", to_string=True)  # ... run the application ...

snapshot = tracemalloc.take_snapshot()
top_stats = snapshot.statistics('traceback')

# pick the biggest memory block
stat = top_stats[0]
print("%s memory blocks: %.1f KiB" % (stat.count, stat.size / 1024))
for line in stat.traceback.format():
    print(line)

# and one block that a variable of the program points to
traceback = tracemalloc.get_object_traceback(gdb.parse_and_eval("last_leaked->buffer"))
for line in traceback.format(limit=1):
    print(line)
