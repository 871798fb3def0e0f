# Record the current and peak size of all traced memory blocks.
#     make all examples
#     gdb -q -x examples/peak.gdb build/examples/peak
set confirm off
set pagination off
source gdb-plugin/tm-gdb.py
break summed
run
tm start
continue
pipe tm status | head -2
tm reset-peak
continue
pipe tm status | head -2
