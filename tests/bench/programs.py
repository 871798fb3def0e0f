"""Whole programs: sqlite, python, perl, a compiler; processor time to that of the program alone.

May use: variants.py, measure.py.  Programs that are not installed are left out.
"""
import os
import pathlib
import re
import shutil
import subprocess
import time

from measure import interleave
from variants import BENCH, BUILD, Failed, Heaptrack, Tm, Tracemalloc, run

SQL = """
create table t(id integer primary key, name text, size integer);
with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
insert into t select i, printf('block %d of %d', i * 7919 % 10007, i), i % 977 from n;
create index by_name on t(name);
select count(*), sum(length(a.name)) from t a join t b on b.id = a.size + 1;
select size, group_concat(substr(name, 1, 9)) from t group by size order by 2 limit 3;
update t set name = name || '!' where id % 3 = 0;
select count(distinct name) from t;
"""

PYTHON = """
import json
class Node:
    def __init__(self, name, children):
        self.name, self.children = name, children
def tree(depth):
    return Node("n%d" % depth, [tree(depth - 1) for each in range(4)] if depth else [])
def plain(node):
    return {{"name": node.name, "children": [plain(each) for each in node.children]}}
for turn in range({turns}):
    text = json.dumps(plain(tree(6)))
    data = json.loads(text)
    words = sorted(set(str(each * 7919 % 10007) for each in range(20000)))
    table = {{word: [word, len(word)] for word in words}}
"""

PERL = """
my %h; my @l;
for my $i (1..{turns}) {{
    my $k = "key" . ($i * 7919 % 100003);
    push @{{$h{{$k}}}}, {{name => $k, list => [1..4]}};
    push @l, join(",", map {{ $_ * 2 }} 1..6) if $i % 3 == 0;
    if ($i % 50000 == 0) {{ my @s = sort {{ $a cmp $b }} keys %h; %h = (); @l = (); }}
}}
"""


def compiler():
    """The command of the C++ compiler proper, on a source that is already preprocessed."""
    if not shutil.which("g++"):
        return None
    subprocess.run(["g++", "-E", "-o", BUILD / "compiled.ii", BENCH / "inlined.cc"], check=True)
    proper = subprocess.run(["g++", "-print-prog-name=cc1plus"], stdout=subprocess.PIPE,
                            text=True, check=True).stdout.strip()
    return [proper, "-quiet", "-O1", "-o", "/dev/null", str(BUILD / "compiled.ii")]


def stored(name, text):
    """The path of a file with this text: gdb passes on no arguments with line breaks."""
    path = BUILD / name
    path.write_text(text)
    return str(path)


def programs(scale):
    """(name, command, environment, more variants)"""
    tracemallocs = [Tracemalloc(1), Tracemalloc(10), Tracemalloc(25)]
    sql = stored("program.sql", SQL.format(rows=int(150000 * scale)))
    python = ["/usr/bin/python3", stored("program.py", PYTHON.format(turns=int(12 * scale) or 1))]
    perl = ["/usr/bin/perl", stored("program.pl", PERL.format(turns=int(400000 * scale)))]
    wanted = [
        ("sqlite3", ["/usr/bin/sqlite3", "-init", sql, ":memory:"], {}, []),
        ("python3", python, {}, tracemallocs),
        ("python3 with malloc", python, {"PYTHONMALLOC": "malloc"}, tracemallocs),
        ("perl", perl, {}, []),
        ("c++ compiler", compiler(), {}, []),
    ]
    return [each for each in wanted if each[1] and pathlib.Path(each[1][0]).exists()]


def processor_time(variant, command, environment):
    """Seconds of the program's own processor time."""
    library = str(BUILD / "exit_time.so")
    if isinstance(variant, Tm):
        environment = {**environment, "TM_BENCH_PRELOAD": library}
    else:
        environment = {**environment, "LD_PRELOAD": library}
    errors = run(variant, command, environment)[1]
    name = re.escape(os.path.basename(command[0]))
    told = re.findall(rf"^EXIT {name}\S* ([0-9.]+) (\d+)$", errors, re.M)
    if not told:
        raise Failed("the program did not tell its time")
    return max(float(seconds) for seconds, memory in told)


def measure(scale, rounds):
    """{program: {variant: {"median", "min", "max"} of the quotient to native}}"""
    results = {}
    for name, command, environment, more in programs(scale):
        began = time.monotonic()
        variants = [Tm("native", 0), Tm("tm 10", 10), Tm("tm 25", 25), Heaptrack("heaptrack"),
                    *more]
        figures = interleave(variants, rounds,
                             lambda each: processor_time(each, command, environment), name)
        results[name] = {
            "native seconds": figures.value("native"),
            "failures": figures.failures,
            "to native": {each.name: figures.times(each.name, "native")
                          for each in variants[1:]},
            "added, to heaptrack": {frames: figures.ratio(frames, "native", "heaptrack", "native")
                                    for frames in ("tm 10", "tm 25")},
            "added, to tracemalloc": {
                frames: figures.ratio(f"tm {frames}", "native", f"tracemalloc {frames}", "native")
                for frames in (10, 25)} if more else {},
            "took": time.monotonic() - began,
        }
    return results
