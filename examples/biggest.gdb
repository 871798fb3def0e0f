# Get the traceback of a memory block: the traceback that holds most, and a block.
#     make all examples
#     gdb -q -x examples/biggest.gdb build/examples/leak
set confirm off
set pagination off
source gdb-plugin/tm-gdb.py
break requests_done
run
tm start 25
continue
tm top traceback -limit 1
tm traceback last_leaked->buffer
tm traceback last_leaked->buffer -limit 1 -most-recent-first
