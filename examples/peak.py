"""Record the current and peak size of all traced memory blocks.

    gdb -q -x gdb-plugin/tm-gdb.py -x examples/peak.py build/examples/peak
"""
import gdb

import tm as tracemalloc

gdb.execute("break summed", to_string=True)
gdb.execute("run", to_string=True)

tracemalloc.start()

# a sum with a large temporary array
gdb.execute("continue", to_string=True)

first_size, first_peak = tracemalloc.get_traced_memory()

tracemalloc.reset_peak()

# a sum with a small temporary array
gdb.execute("continue", to_string=True)

second_size, second_peak = tracemalloc.get_traced_memory()

print(f"{first_size=}, {first_peak=}")
print(f"{second_size=}, {second_peak=}")
