#!/bin/sh
# Makes examples/report.webp, the picture in README.md: the report of a python3 that
# holds a database, documents and lists, as Chromium shows it.
#     make all && examples/picture.sh
# May use gdb, python3-dbg and chromium.  Must never change anything but the picture.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat >"$folder/program.py" <<'PROGRAM'
import json, os, sqlite3, xml.dom.minidom
text = json.dumps([{"id": i, "name": "item %d" % i, "tags": ["a%d" % i, "b"]} for i in range(900)])
xmls = "<items>%s</items>" % "".join("<item id='%d'>text</item>" % i for i in range(700))
os.getppid()
database = sqlite3.connect(":memory:")
database.execute("create table t (a, b)")
database.executemany("insert into t values (?, ?)", [(i, "row %d" % i * 9) for i in range(6000)])
documents = [json.loads(text) for _ in range(4)]
tree = xml.dom.minidom.parseString(xmls)
arrays = [bytearray(range(200)) * (i % 40) for i in range(300)]
os.getppid()
PROGRAM

PYTHONMALLOC=malloc gdb -nx -q -batch -ex 'set debuginfod enabled off' -ex 'source gdb-plugin/tm-gdb.py' \
	-ex 'break getppid' -ex run -ex 'tm start 16' -ex continue -ex 'set tm inline off' \
	-ex "tm export html $folder/report.html" \
	--args /usr/bin/python3 "$folder/program.py" >"$folder/log" 2>&1 \
	|| { cat "$folder/log"; exit 1; }
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1060,696 \
	--screenshot="$PWD/examples/report.webp" "file://$folder/report.html" >>"$folder/log" 2>&1 \
	|| { cat "$folder/log"; exit 1; }
ls -l examples/report.webp
