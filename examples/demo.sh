#!/bin/bash
# Attaches to a redis-server that is busy under redis-benchmark, finds out which
# lines hold its memory, what grew, and where its biggest block comes from; then
# stops tracing and leaves.  Nothing was prepared in redis: it is Debian's package.
#
# May use redis, gdb and the build folder; everything it starts listens on
# loopback alone, keeps nothing on disk, and ends with it.
set -u
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
server= load=
cleanup() {
	[ -n "$load" ] && kill "$load" 2>/dev/null
	[ -n "$server" ] && kill "$server" 2>/dev/null
	wait 2>/dev/null
	rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail() {
	echo "demo: $*" >&2
	exit 1
}

# A free port: the server says at once when it is taken by somebody else.
for attempt in 1 2 3 4 5 6 7 8 9 10; do
	port=$((20000 + RANDOM % 20000))
	redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$folder" \
		>"$folder/server.log" 2>&1 &
	server=$!
	for tick in $(seq 50); do
		redis-cli -p "$port" ping >/dev/null 2>&1 && break 2
		kill -0 $server 2>/dev/null || break
		sleep 0.1
	done
	kill $server 2>/dev/null
	server=
done
[ -n "$server" ] || fail "redis-server did not start: $(cat "$folder/server.log")"

# Work until the session is over, a minute at most.
(
	end=$((SECONDS + 60))
	while [ $SECONDS -lt $end ] && ! [ -e "$folder/over" ]; do
		redis-benchmark -h 127.0.0.1 -p "$port" -q -n 5000 -r 200000 -d 120 \
			-t set,lpush,sadd,hset || exit 1
	done
) >"$folder/load.log" 2>&1 &
load=$!

# What a person would type, between two looks of two seconds at the running server.
cat >"$folder/session.gdb" <<'SESSION'
python
import json
import os
import signal
import threading
import gdb


def say(line):
    print(f"(gdb) {line}", flush=True)
    gdb.execute(line)


def run_for(seconds):
    """Lets the server run, then interrupts it as Ctrl-C does."""
    print(f"(the server runs on for {seconds} seconds)", flush=True)
    server = gdb.selected_inferior().pid
    threading.Timer(seconds, os.kill, (server, signal.SIGINT)).start()
    gdb.execute("continue", to_string=True)


for setting in ("pagination off", "confirm off", "print thread-events off", "width 0",
                "debuginfod enabled off"):
    gdb.execute("set " + setting)
say("source gdb-plugin/tm-gdb.py")
say("tm start 10")
run_for(2)
say("tm snapshot")
say("tm top lineno")
# The server's own wrappers of malloc say little: who calls them?
say("tm skip z*alloc*")
say("tm top lineno 1")
run_for(2)
say("tm diff 1 now")
say("tm traces -address -limit 3")
traces = json.loads(gdb.execute("tm traces -address -limit 1 -json", to_string=True))["traces"]
say("tm traceback " + traces[0]["address"])
say("tm status")
say("tm stop")
say("detach")
print("Done.")
end
SESSION

echo "Attaching to redis-server, process $server, busy under redis-benchmark."
gdb -nx -q -batch -p "$server" -x "$folder/session.gdb" >"$folder/session.log" 2>&1
grep -v -E '^\[(New|Thread|Inferior)|^Using host|^warning: |^0x[0-9a-f]+ in |^[0-9]+\s|^__|^$' "$folder/session.log"
grep -q '^Done\.$' "$folder/session.log" || fail "the session did not come to its end"

touch "$folder/over"
wait "$load" || fail "redis-benchmark failed: $(tail -5 "$folder/load.log")"
load=
if grep -qi error "$folder/load.log"; then
	fail "redis-benchmark reports: $(grep -i error "$folder/load.log" | head -3)"
fi
requests=$(redis-cli -p "$port" info stats | tr -d '\r' | sed -n 's/^total_commands_processed://p')
echo "redis-benchmark finished with no error; the server answered $requests commands," \
	"before, while and after it was traced."
