"""Pretty top: the ten lines that hold most, with their source, without libraries.

    gdb -q -x gdb-plugin/tm-gdb.py -x examples/pretty.py build/examples/shapes
"""
import linecache
import os

import gdb

import tm as tracemalloc


def display_top(snapshot, key_type='lineno', limit=10):
    snapshot = snapshot.filter_traces((
        tracemalloc.Filter(False, "<unknown>"),
        tracemalloc.Filter(False, "/usr/include/*"),
        tracemalloc.Filter(False, "libstdc++.so*"),
    ))
    top_stats = snapshot.statistics(key_type)

    print("Top %s lines" % limit)
    for index, stat in enumerate(top_stats[:limit], 1):
        frame = stat.traceback[0]
        # replace "/path/to/module/file.c" with "module/file.c"
        filename = os.sep.join(frame.filename.split(os.sep)[-2:])
        print("#%s: %s:%s: %.1f KiB"
              % (index, filename, frame.lineno, stat.size / 1024))
        line = linecache.getline(frame.filename, frame.lineno).strip()
        if line:
            print('    %s' % line)

    other = top_stats[limit:]
    if other:
        size = sum(stat.size for stat in other)
        print("%s other: %.1f KiB" % (len(other), size / 1024))
    total = sum(stat.size for stat in top_stats)
    print("Total allocated size: %.1f KiB" % (total / 1024))


gdb.execute("break drawn", to_string=True)
gdb.execute("run", to_string=True)

tracemalloc.start()

gdb.execute("continue", to_string=True)  # ... run the application ...

display_top(tracemalloc.take_snapshot(), limit=3)
