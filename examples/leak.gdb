# Where does the leak come from?
#     make all examples
#     gdb -q -x examples/leak.gdb build/examples/leak
set confirm off
set pagination off
source gdb-plugin/tm-gdb.py
break requests_done
run
tm start 10
continue
tm snapshot
tm top
continue
tm diff 1 now
tm traceback last_leaked->buffer
tm top traceback -limit 1
tm snapshots
tm stop
continue
continue
