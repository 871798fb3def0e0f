# Compute differences: what a thousand requests leave behind.
#     make all examples
#     gdb -q -x examples/differences.gdb build/examples/leak
set confirm off
set pagination off
source gdb-plugin/tm-gdb.py
break requests_done
run
tm start
continue
tm snapshot
continue
tm snapshot
tm diff 1 2
