#!/usr/bin/python3
"""How fast 10,000 distinct addresses are named: tm, addr2line, eu-addr2line, llvm-symbolizer, gdb.

    tests/bench/symbols.py [--rounds N] [--addresses N] [OBJECT …]

Everyone gets the same sorted addresses and tells file, line, function and inlined calls, gdb's
find_pc_line file and line alone.  Cold is a fresh process, from its start to its end, with the
files in the page cache; of gdb it is the time from `file` on, without gdb's own start.  Again is
the second time in the same process.  addr2line prints mangled names unless it is given -C: the
others demangle, so that is the one to compare with.  Those that take seconds run once, beside tm,
and have a time limit.  A benchmark, never part of `make test`.
"""
import argparse
import json
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

from measure import Figures, interleave
from variants import BENCH, BUILD, GDB, PYTHON, ROOT, Failed, end_session

sys.path.insert(0, str(ROOT / "build"))
import _tm  # noqa: E402

OBJECTS = (pathlib.Path(PYTHON).resolve(), BUILD / "inlined.so")
TIMEOUT = 15  # seconds
ROUNDS_TIME = 20  # seconds for an object after which no more rounds begin
PT_LOAD, PF_X = 1, 1


class Tool:
    """A program that is given addresses as arguments, once and, if asked, `turns` times."""

    def __init__(self, name, *command, turns=5):
        self.name, self.words, self.turns = name, command, turns

    def missing(self):
        return None if shutil.which(self.words[0]) else f"{self.words[0]} is not installed"

    def seconds(self, path, addresses):
        began = time.monotonic()
        output(self, [*self.words, path, *addresses])
        return time.monotonic() - began

    def both(self, path, addresses):
        """(seconds of the first time, of another one in the same process or None)"""
        once = self.seconds(path, addresses)
        if self.turns == 1:
            return once, None
        return once, (self.seconds(path, addresses * self.turns) - once) / (self.turns - 1)


class Ours(Tool):
    """tm's symbolizer, in a fresh Python of its own."""

    def __init__(self):
        super().__init__("tm", PYTHON, "-I", "-S", str(BENCH / "symbols_tm.py"))

    def both(self, path, addresses):
        began = time.monotonic()
        again = json.loads(output(self, [*self.words, path, *addresses]))
        return time.monotonic() - began - again, again


class Gdb(Tool):
    def __init__(self):
        super().__init__("gdb find_pc_line", GDB)

    def both(self, path, addresses):
        script = (f"import gdb, time\nbegan = time.monotonic()\ngdb.execute('file {path}')\n"
                  f"for turn in range(2):\n"
                  f"  for each in {[int(each, 16) for each in addresses]}: gdb.find_pc_line(each)\n"
                  f"  now = time.monotonic()\n  print('SECONDS', now - began)\n  began = now\n")
        (BUILD / "symbols_gdb.py").write_text(script)
        text = output(self, [GDB, "-nx", "-batch", "-iex", "set debuginfod enabled off",
                             "-x", str(BUILD / "symbols_gdb.py")])
        return tuple(float(line.split()[1]) for line in text.splitlines()
                     if line.startswith("SECONDS"))


def tools(quick):
    """Those that are run in each round, and those that are run once."""
    return ([Ours(), Tool("addr2line", "addr2line", "-a", "-i", "-f", "-e"),
             Tool("addr2line -C", "addr2line", "-C", "-a", "-i", "-f", "-e"),
             Tool("llvm-symbolizer", "llvm-symbolizer", "-a", "-e")],
            [Ours(), Gdb()] + ([] if quick else [
                Tool("eu-addr2line", "eu-addr2line", "-a", "-i", "-f", "-e", turns=1)]))


def limit_processor_time():
    """Of the process that is being started: it ends even if this one is killed meanwhile."""
    resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT, TIMEOUT))


def output(tool, command):
    """What it printed; it and all that it started have ended then, whatever happens here."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, start_new_session=True,
                               preexec_fn=limit_processor_time)
    try:
        text = process.communicate(timeout=TIMEOUT)[0]
    except subprocess.TimeoutExpired:
        raise Failed(f"longer than {TIMEOUT} s") from None
    finally:
        end_session(process)
        process.stdout.close()
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise Failed(f"longer than {TIMEOUT} s")
    if process.returncode:
        raise Failed(f"{tool.name}: status {process.returncode}")
    return text


def some_addresses(path, count):
    """Distinct addresses in the object's code, sorted, always the same ones."""
    low, high = max(((segment[1], segment[1] + segment[3])
                     for segment in _tm.elf_segments(str(path))["segments"]
                     if segment[0] == PT_LOAD and segment[5] & PF_X),
                    key=lambda each: each[1] - each[0])
    return [hex(each) for each in
            sorted(random.Random(1).sample(range(low, high), min(count, high - low)))]


def one_object(path, count, rounds, tell, quick=False):
    """{"cold" | "again": {tool: seconds}, "… to tm": {tool: ratio}, "failures": {tool: reason}}"""
    addresses = some_addresses(path, count)
    result = {"addresses": len(addresses), "cold": {}, "again": {}, "cold to tm": {},
              "again to tm": {}, "failures": {}}
    often, once = tools(quick)
    for group, turns in ((often, rounds), (once, 1)):
        again = Figures(group)

        def cold(tool):
            first, second = tool.both(str(path), addresses)
            if tool is group[0]:
                again.rounds.append({})
            again.rounds[-1][tool.name] = second
            return first

        for tool in group[:1] + often[1:]:  # brings the files into the page cache
            if not tool.missing():
                tool.seconds(str(path), addresses[:1])
        figures = interleave(group, turns, cold, tell, time.monotonic() + ROUNDS_TIME)
        result["failures"].update(figures.failures)
        for name, measured in (("cold", figures), ("again", again)):
            for tool in group:
                if tool.name not in result[name]:
                    result[name][tool.name] = measured.value(tool.name)
                    result[name + " to tm"][tool.name] = measured.times(tool.name, "tm")
    return result


def measure(quick, rounds):
    """{object's name: one_object()}; objects that are not there are left out."""
    return {path.name: one_object(path, 1000 if quick else 10000, rounds, f"names in {path.name}",
                                  quick)
            for path in OBJECTS if path.exists()}


def main():
    import report
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--addresses", type=int, default=10000)
    parser.add_argument("objects", nargs="*", type=pathlib.Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *which: sys.exit(1))  # what was started must end too
    print("\n".join(report.symbols(
        {path.name: one_object(path, options.addresses, options.rounds, path.name)
         for path in options.objects or OBJECTS if path.exists()})))


if __name__ == "__main__":
    main()
