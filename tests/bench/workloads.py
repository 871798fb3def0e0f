"""The whole programs that are measured: real ones, as Debian has them, with work of our own.

A workload makes a command of how large its work is to be; what it needs and does not find
makes it unavailable, with the reason.  May use: variants.py, the standard library.
"""
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time

from variants import BUILD, PYTHON, Failed, end_session, environment_of

SQL = """
create table t(id integer primary key, name text, size integer);
with recursive n(i) as (select 1 union all select i + 1 from n where i < {work})
insert into t select i, printf('block %d of %d', i * 7919 % 10007, i), i % 977 from n;
create index by_name on t(name);
select count(*), sum(length(a.name)) from t a join t b on b.id = a.size + 1;
select size, group_concat(substr(name, 1, 9)) from t group by size order by 2 limit 3;
update t set name = name || '!' where id % 3 = 0;
select count(distinct name) from t;
"""

PYTHON_TEXT = """
import json
class Node:
    def __init__(self, name, children):
        self.name, self.children = name, children
def tree(depth):
    return Node("n%d" % depth, [tree(depth - 1) for each in range(4)] if depth else [])
def plain(node):
    return {{"name": node.name, "children": [plain(each) for each in node.children]}}
for turn in range({work}):
    text = json.dumps(plain(tree(6)))
    data = json.loads(text)
    words = sorted(set(str(each * 7919 % 10007) for each in range(20000)))
    table = {{word: [word, len(word)] for word in words}}
"""

PERL = """
my %h; my @l;
for my $i (1..{work}) {{
    my $k = "key" . ($i * 7919 % 100003);
    push @{{$h{{$k}}}}, {{name => $k, list => [1..4]}};
    push @l, join(",", map {{ $_ * 2 }} 1..6) if $i % 3 == 0;
    if ($i % 50000 == 0) {{ my @s = sort {{ $a cmp $b }} keys %h; %h = (); @l = (); }}
}}
"""

AWK = """BEGIN {{
    for (i = 0; i < {work}; i++) {{
        k = "key" (i * 7919 % 100003)
        c[k] = c[k] substr(k, 1, 3)
        if (length(c[k]) > 40) delete c[k]
        n = split(k " a b c d", p, " ")
        s += n
    }}
    print s
}}
"""

C_FUNCTION = """
int f{number}(const struct item *items, int count)
{{
    int sum = {number};
    for (int i = 0; i < count; i++)
        switch (items[i].kind) {{
        case 0: sum += items[i].value * {number}; break;
        case 1: sum ^= items[i].value >> {shift}; break;
        case 2: sum += items[i].value % (sum | 1); break;
        default: sum -= f{before}(items + i, count / 2);
        }}
    return sum;
}}
"""

EXIT_TIME = BUILD / "exit_time.so"


def stored(name, text):
    """The path of a file with this text."""
    path = BUILD / name
    path.write_text(text)
    return str(path)


class Workload:
    """A program that does its work and ends."""

    tracemalloc = False  # whether CPython's own is a peer

    def __init__(self, name, program, command, environment=None):
        """`command(scale)`: the whole command line."""
        self.name, self.program, self.command = name, program, command
        self.environment = environment or {}

    def missing(self):
        return None if shutil.which(self.program) else f"{self.program} is not installed"

    def once(self, variant, command, timeout):
        """{"wall": seconds, "processor": seconds} of the program itself, as it tells them at
        its end; not of what starts it or evaluates it, which is killed then."""
        name = re.escape(os.path.basename(command[0])[:15])
        with contextlib.closing(error_lines(variant, command, self.environment, timeout)) as lines:
            for line in lines:
                told = re.match(rf"EXIT {name}\S* ([0-9.]+) ([0-9.]+) \d+$", line)
                if told:
                    return {"processor": float(told[1]), "wall": float(told[2])}
        raise Failed(f"longer than {timeout} s, or the program did not tell its time")


def error_lines(variant, command, environment, timeout):
    """What the program writes to its standard error, as it comes; then all of it is ended."""
    with tempfile.TemporaryDirectory(prefix="run-", dir=BUILD) as folder:
        command, additions = variant.command(command, folder)
        environment = environment_of({**environment, "LD_PRELOAD": str(EXIT_TIME)}, additions)
        process = subprocess.Popen(command, env=environment, cwd=folder, text=True,
                                   errors="replace", stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   start_new_session=True)
        watch = threading.Timer(timeout, end_session, (process,))
        watch.start()
        try:
            yield from process.stderr
        finally:
            watch.cancel()
            end_session(process)


class Python(Workload):
    tracemalloc = True


class Redis(Workload):
    """redis-server: what redis-benchmark takes to have its requests answered."""

    def once(self, variant, command, timeout):
        deadline = time.monotonic() + timeout
        with tempfile.TemporaryDirectory(prefix="redis-", dir=BUILD) as folder:
            socket = f"{folder}/socket"
            server, additions = variant.command([*command[:-1], "--unixsocket", socket], folder)
            process = subprocess.Popen(server, cwd=folder, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       env=environment_of({"LD_PRELOAD": str(EXIT_TIME)},
                                                          additions), start_new_session=True)
            try:
                while subprocess.run(["redis-cli", "-s", socket, "ping"],
                                     capture_output=True).stdout != b"PONG\n":
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise Failed("the server did not start")
                    time.sleep(0.05)
                began = time.monotonic()
                subprocess.run(["redis-benchmark", "-s", socket, "-q", "-n", command[-1], "-r",
                                "100000", "-c", "20", "-P", "16", "-d", "100", "-t",
                                "set,get,lpush,lpop,hset,zadd"],
                               check=True, stdout=subprocess.DEVNULL,
                               timeout=max(deadline - began, 0.1))
                return {"wall": time.monotonic() - began}
            except subprocess.TimeoutExpired:
                raise Failed(f"longer than {timeout} s") from None
            finally:
                subprocess.run(["redis-cli", "-s", socket, "shutdown", "nosave", "now"],
                               capture_output=True)
                end_session(process)


def sqlite_command(scale):
    sql = stored("program.sql", SQL.format(work=int(250000 * scale)))
    return ["/usr/bin/sqlite3", "-init", sql, ":memory:"]


def python_command(scale):
    return [PYTHON, stored("program.py", PYTHON_TEXT.format(work=int(20 * scale) or 1))]


def perl_command(scale):
    return ["/usr/bin/perl", stored("program.pl", PERL.format(work=int(200000 * scale)))]


def awk_command(scale):
    return ["/usr/bin/gawk", "-f", stored("program.awk", AWK.format(work=int(700000 * scale)))]


def xml_command(scale):
    """A document with three million nodes, which xmllint keeps in memory as a tree."""
    text = "".join(f'<e id="{i}"><n>name {i * 7919 % 10007}</n><v>{i % 977}</v></e>\n'
                   for i in range(int(400000 * scale)))
    return ["/usr/bin/xmllint", "--noout", stored("program.xml", f"<r>{text}</r>\n")]


def compiler_command(scale):
    """The compiler proper, on a source of many functions that call each other.

    Of C: heaptrack's interpreter ends early on the C++ compiler, which then waits for it.
    """
    source = "struct item { int kind, value; };\n" + "".join(
        C_FUNCTION.format(number=number, before=max(number - 1, 0), shift=number % 5)
        for number in range(int(120 * scale) or 1))
    proper = subprocess.run(["gcc", "-print-prog-name=cc1"], stdout=subprocess.PIPE,
                            text=True, check=True).stdout.strip()
    return [proper, "-quiet", "-O2", "-o", "/dev/null", stored("program.c", source)]


def redis_command(scale):
    """The server's command; its last word is the number of requests of each kind."""
    return ["/usr/bin/redis-server", "--port", "0", "--save", "", "--appendonly", "no",
            str(int(150000 * scale))]


def workloads():
    return [
        Workload("sqlite3", "/usr/bin/sqlite3", sqlite_command),
        Python("python3 malloc", PYTHON, python_command, {"PYTHONMALLOC": "malloc"}),
        Python("python3", PYTHON, python_command),
        Redis("redis-server", "/usr/bin/redis-server", redis_command),
        Workload("xmllint", "/usr/bin/xmllint", xml_command),
        Workload("perl", "/usr/bin/perl", perl_command),
        Workload("gawk", "/usr/bin/gawk", awk_command),
        Workload("c compiler", "gcc", compiler_command),
    ]
