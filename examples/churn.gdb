# Who holds how much, in a program with several threads?
#     make all examples
#     gdb -q -x examples/churn.gdb build/examples/churn
set confirm off
set pagination off
set print thread-events off
source gdb-plugin/tm-gdb.py
break round_begins
run
tm start 10
continue
tm top function
tm top lineno -by count -limit 2
tm top filename
tm snapshot first
continue
tm diff first now
tm traceback kept[1][500] + 100
tm clear
tm stop
continue
