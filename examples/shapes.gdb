# Which lines of a C++ program said `new`?
#     make all examples
#     gdb -q -x examples/shapes.gdb build/examples/shapes
set confirm off
set pagination off
source gdb-plugin/tm-gdb.py
break drawn
run
tm start 10
continue
tm top lineno -limit 5
tm top function -limit 5
tm top traceback -limit 1
tm traceback tiles[7]
tm snapshot
continue
tm diff 1 now -limit 3
tm stop
continue
