"""Whole tracebacks of real programs equal libunwind's, at random allocations.

stacks.c is preloaded into the programs.  Where the chains differ, a rule has to account for
it: the difference begins behind code that has no call frame information by libgcc's
look-up, where both walkers guess.  May use the standard library, gcc and g++; programs that
are not installed are skipped.
"""
import collections
import os
import pathlib
import re
import shutil
import struct
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FULL = bool(os.environ.get("TM_TEST_FULL"))
EACH = 17000 if FULL else 400  # comparisons in each program
MOST_RUNS = 40
FIELDS = ("wanted", "every", "walks", "known", "compared", "frames", "interrupted", "deepest",
          "at_limit", "guessed", "unexplained")

PYTHON_SCRIPT = """
import ast, collections, decimal, json, re, sqlite3, tempfile, xml.etree.ElementTree as tree
source = open(re.__file__.replace('__init__', '_parser')).read()
for i in range(8):
    ast.unparse(ast.parse(source))
    json.loads(json.dumps([{'a': [i, {'b': str(n)}]} for n in range(2000)]), object_hook=dict)
    re.compile('(a|b)*[c-f]{2,%d}(?P<x>y+)' % (i + 3)).search('ab' * 500)
    tree.fromstring('<a>' + '<b c="d">e</b>' * 500 + '</a>')
    base = sqlite3.connect(':memory:')
    base.create_function('f', 1, lambda n: str(n) * 3)
    base.executescript('create table t(a, b); create index i on t(b);')
    base.executemany('insert into t values(?, f(?))', [(n, n) for n in range(300)])
    base.execute('select f(a) from t order by b desc').fetchall()
    sorted(range(200), key=lambda n: str(decimal.Decimal(n) / 7))
"""
PERL_SCRIPT = r"""
use POSIX; use List::Util qw(reduce);
my %table;
sub walk { my ($n) = @_; my @list = map { { name => "n$_", list => [1 .. $n] } } 1 .. 5;
           return $n ? scalar(@list) + walk($n - 1) : 0 }
for my $i (1 .. 60) {
    walk(25);
    my $text = join ",", map { sprintf "%05d", $_ } 1 .. 200;
    $text =~ s/(\d)(\d+)/$table{$1 . $i} = $2; "$2$1"/ge;
    my @sorted = sort { length($a) <=> length($b) || $a cmp $b } split /,/, $text;
    eval { die { code => $i, list => [@sorted] } };
    eval "sub f$i { my \$x = shift; return \$x x $i } f$i('ab')";
}
"""
SQL_SCRIPT = """
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000)
insert into t select i, hex(randomblob(i % 40)), i / 7.0 from n;
create index i on t(b, c);
select count(*), group_concat(substr(b, 1, 2)) from t group by a % 50 order by 2;
select json_group_array(json_object('a', a, 'b', b)) from t where a % 3 = 0;
with x as (select a.b, row_number() over (partition by a.a % 5 order by a.c) r from t a
join t b on a.a = b.a + 1) select max(r), printf('%s', b) from x group by r % 9;
"""
CC_SOURCE = """
#include <map>
#include <regex>
#include <string>
#include <algorithm>
int main(int argc, char **argv) {
    std::regex pattern("(a|b)*c"); std::map<std::string, std::smatch> found;
    for (int i = 0; i < argc; i++) { std::string s(argv[i]); std::smatch m;
        if (std::regex_search(s, m, pattern)) found[s] = m; }
    return int(found.size());
}
"""


def compile_library(folder):
    source = ROOT / "tests" / "oracle" / "stacks.c"
    links = re.search(r"links:(.*?)\*/", source.read_text(), re.DOTALL)[1]
    library = folder / "stacks.so"
    subprocess.run(["gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-D_GNU_SOURCE",
                    "-DTM_HOST_TEST", "-shared", "-fPIC", "-ftls-model=initial-exec",
                    "-fvisibility=default", "-Iinclude", "-Ihelper", "-Ihelper/arch/x86_64",
                    "-Itests/unit", "-o", str(library), str(source),
                    *re.findall(r"helper/\w+\.c", links), "-lunwind", "-lgcc_s", "-ldl"],
                   cwd=ROOT, check=True)
    return library


def compile_program(folder):
    program = folder / "stacks_program"
    subprocess.run(["g++", "-O2", "-g", "-pthread", "-Wall", "-Wextra", "-o", str(program),
                    str(ROOT / "tests" / "oracle" / "stacks_program.cc")], check=True)
    return program


class Stacks(unittest.TestCase):
    total = collections.Counter()

    @classmethod
    def setUpClass(cls):
        cls.keeper = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.keeper.name)
        cls.judge_library = compile_library(cls.folder)

    @classmethod
    def tearDownClass(cls):
        print("all programs: {compared} stacks compared, {frames} frames, {guessed} explained, "
              "{unexplained} unexplained differences".format_map(cls.total))
        cls.keeper.cleanup()

    def compare(self, name, *command, every, text="", **environment):
        """Runs the program until there are enough comparisons."""
        if not shutil.which(command[0]):
            self.skipTest(f"{command[0]} is not installed")
        shared = self.folder / (name + ".counts")
        log = shared.with_name(shared.name + ".log")
        shared.write_bytes(struct.pack("11Q", EACH, every if FULL else 4 * every, *[0] * 9))
        for seed in range(MOST_RUNS):
            done = subprocess.run(
                command, input=text, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env=dict(os.environ, LD_PRELOAD=str(self.judge_library), TM_STACKS_FILE=str(shared),
                         TM_STACKS_SEED=str(seed), **environment), cwd=self.folder)
            self.assertEqual(done.returncode, 0, done.stderr)
            counts = dict(zip(FIELDS, struct.unpack("11Q", shared.read_bytes())))
            if counts["compared"] >= EACH or counts["unexplained"]:
                break
        counts["compared"] = min(counts["compared"], EACH)  # threads that counted at once
        print(f"{name}:", ", ".join(f"{value} {key}" for key, value in counts.items()))
        self.total.update(counts)
        self.assertEqual(counts["unexplained"], 0, log.exists() and log.read_text())
        self.assertEqual(counts["compared"], EACH)
        self.assertGreater(counts["frames"], 2 * EACH)
        return counts

    def test_python(self):
        self.compare("python3", "/usr/bin/python3", "-c", PYTHON_SCRIPT, every=20,
                     PYTHONMALLOC="malloc")

    def test_perl(self):
        self.compare("perl", "perl", "-", every=5, text=PERL_SCRIPT)

    def test_sqlite(self):
        self.compare("sqlite3", "sqlite3", ":memory:", every=2, text=SQL_SCRIPT)

    def test_compiler(self):
        self.compare("cc1plus", "g++", "-O2" if FULL else "-fsyntax-only", "-S", "-x", "c++", "-",
                     "-o", "/dev/null", every=20, text=CC_SOURCE)

    def test_gdb(self):
        self.compare("gdb", "gdb", "-nx", "-batch", "-ex", "info functions recurse", "-ex",
                     "python import json", "-ex", "list judge", str(self.judge_library), every=30)

    def test_unusual_stacks(self):
        program = compile_program(self.folder)
        counts = self.compare("stacks_program", str(program), "400", every=10)
        self.assertGreater(counts["interrupted"], 0)
        self.assertGreater(counts["at_limit"], 0)


if __name__ == "__main__":
    unittest.main()
