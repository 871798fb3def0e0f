# Pretty top: the ten lines that hold most, with their source, without libraries.
#     make all examples
#     gdb -q -x examples/pretty.gdb build/examples/shapes
set confirm off
set pagination off
source gdb-plugin/tm-gdb.py
break drawn
run
tm start
continue
tm filter add -exclude <unknown>
tm filter add -exclude /usr/include/*
tm filter add -exclude libstdc++.so*
tm filter list
tm top -source -limit 3
tm filter clear
