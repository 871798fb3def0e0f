# Display the top 10: the ten lines that hold most memory.
#     make all examples
#     gdb -q -x examples/top10.gdb build/examples/leak
set confirm off
set pagination off
source gdb-plugin/tm-gdb.py
break requests_done
run
tm start
continue
tm snapshot
tm top
