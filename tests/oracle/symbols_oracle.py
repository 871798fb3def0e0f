"""Compares _tm.Symbolizer with libdwarf, addr2line and llvm-symbolizer, address by address.

    symbols_oracle.py [--addresses N] [--all] [FILE …]

Without FILE: the objects of symbols_objects.  Of each object N random addresses and all
function entries (no more than N without --all) are asked for.  The innermost file and line
must equal libdwarf's reading of the line table; the whole chain of inlined calls must equal
what addr2line and llvm-symbolizer say.  A difference counts as explained only if a rule here
says why, and each rule has its entry in DIFFERENCES.md.

May use: _tm (TM_BUILD or build/), gcc, nm, readelf, c++filt, addr2line, llvm-symbolizer
(left out when it is missing).  Must not import tm.
"""
import argparse
import bisect
import collections
import functools
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys

import symbols_objects

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, os.environ.get("TM_BUILD", str(ROOT / "build")))

import _tm  # noqa: E402

PT_LOAD, PF_X = 1, 1
BIAS = 0x7F0000000000
LLVM = "llvm-symbolizer"
SUFFIX = re.compile(r"(\.(part|isra|constprop|cold|lto_priv|localalias|llvm))?(\.\d+)*(?=$|\.)")


def output_of(*command, text=""):
    return subprocess.run(command, input=text, text=True, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout


# ---- one object ---------------------------------------------------------------------

class Object:
    """A file: where its code is, and what its symbol tables say."""

    def __init__(self, path):
        self.path = path
        facts = _tm.elf_segments(path)
        build_id = facts["build_id"].hex()
        debug = f"/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
        self.debug = debug if build_id and os.path.exists(debug) else path
        self.code = [(segment[1], segment[1] + segment[3]) for segment in facts["segments"]
                     if segment[0] == PT_LOAD and segment[5] & PF_X]
        self.symbols = sorted({symbol for file in {path, self.debug}
                               for symbol in self._functions(file)})
        self.plain = demangle({name for _low, _high, name in self.symbols})
        self._starts = [low for low, _high, _name in self.symbols]
        self.all_names = {line.split()[-1] for file in {path, self.debug}
                          for line in output_of("nm", "--defined-only", file).splitlines()}
        self._entries = collections.defaultdict(set)
        for low, _high, name in self.symbols:
            self._entries[self.plain[name]].add(low)
        sections = [line.split() for line in output_of("readelf", "-SW", path).replace(
            "[ ", "[").splitlines() if line.lstrip().startswith("[")]
        self.debug_sections = {fields[1] for fields in sections if len(fields) > 5}
        self._stubs = [(int(fields[3], 16), int(fields[3], 16) + int(fields[5], 16))
                       for fields in sections if len(fields) > 5 and ".plt" in fields[1]]

    @functools.cached_property
    def labels(self):
        """(name, name for the assembler) of functions that have both."""
        told = output_of(symbols_objects.judge(), "-labels", self.debug)
        return {tuple(line.split(" ", 1)) for line in told.splitlines()}

    @staticmethod
    def _functions(file):
        for line in output_of("nm", "-S", "--defined-only", file).splitlines():
            fields = line.split()
            if len(fields) == 4 and fields[2] in "tTwWiI":
                start = int(fields[0], 16)
                yield start, start + int(fields[1], 16), fields[3].split("@")[0]

    def addresses(self, count, seed, everything):
        """Random ones, all of a small file; and the function entries."""
        picker = random.Random(seed)
        size = sum(high - low for low, high in self.code)
        if size <= count:
            return [address for low, high in self.code for address in range(low, high)]
        chosen = {picker.randrange(low, high) for low, high in self.code
                  for _ in range(count * (high - low) // size)}
        entries = sorted({low for low, _high, _name in self.symbols
                          if any(start <= low < end for start, end in self.code)})
        if not everything and len(entries) > count:
            entries = picker.sample(entries, count)
        return sorted(chosen.union(entries))

    def names_at(self, address):
        """The symbols that cover an address, as they are in the tables."""
        at = bisect.bisect_right(self._starts, address)
        return [name for _low, high, name in self.symbols[max(at - 40, 0):at] if high > address]

    def are_one_function(self, *names):
        return bool(set.intersection(*(self._entries[name] for name in names)))

    def is_stub(self, address):
        thunks = ("_ZTh", "_ZTv", "_ZTc")
        return (any(low <= address < high for low, high in self._stubs)
                or any(name.startswith(thunks) for name in self.names_at(address)))


def demangle(names):
    """As `_tm` shows functions: without parameters and return type."""
    names = sorted(names)
    return dict(zip(names, output_of("c++filt", "-i", "-p", text="\n".join(names)).split("\n")))


# ---- the tools ----------------------------------------------------------------------

def path_of(text):
    return None if text in ("", "??") else os.path.normpath(text)


def with_plain_names(answers):
    plain = demangle({frame[0] for frames in answers for frame in frames if frame[0]})
    return [[(plain.get(name), file, line) for name, file, line in frames] for frames in answers]


def ask_addr2line(path, addresses):
    """Per address the list of (function, file, line), innermost first; unknown is None or 0."""
    output = output_of("addr2line", "-a", "-i", "-f", "-e", path,
                       text="\n".join(map(hex, addresses))).splitlines()
    answers = []
    at = 0
    while at < len(output):
        if re.fullmatch("0x[0-9a-f]{16}", output[at]):
            answers.append([])
            at += 1
            continue
        file, line = re.fullmatch(r"(.*):([0-9?]+)(?: \(discriminator \d+\))?",
                                  output[at + 1]).groups()
        answers[-1].append((None if output[at] == "??" else output[at], path_of(file),
                            int(line) if line.isdigit() else 0))
        at += 2
    return with_plain_names(answers)


def ask_llvm(path, addresses):
    output = output_of(LLVM, "--output-style=JSON", "--inlines", "--no-demangle", "-e", path,
                       text="\n".join(map(hex, addresses)))
    return with_plain_names([[(frame["FunctionName"] or None, path_of(frame["FileName"]),
                               frame["Line"]) for frame in json.loads(line)["Symbol"]]
                             for line in output.splitlines()])


def ask_libdwarf(path, addresses):
    """Per address (file, line, the file if the row's file register was 1), or None."""
    output = output_of(symbols_objects.judge(), path,
                       text="".join(f"{address:x}\n" for address in addresses))
    answers = []
    for text in output.splitlines():
        place, _, other = text.partition("\t")
        file, _, line = place.rpartition(":")
        answers.append((path_of(file), int(line), path_of(other)) if file else None)
    return answers


def ask_tm(path, addresses):
    symbolizer = _tm.Symbolizer()
    symbolizer.add_module(path, BIAS, BIAS + (1 << 40), BIAS)
    answers = symbolizer.resolve([BIAS + address for address in addresses])
    for frames in answers:
        if frames and [frame[5] for frame in frames] != [True] * (len(frames) - 1) + [False]:
            raise AssertionError(f"only the last frame is not inlined: {frames}")
    return [[(function, file and os.path.normpath(file), line)
             for file, line, function, module, offset, inlined in frames] for frames in answers]


# ---- rules --------------------------------------------------------------------------

def skeleton(name):
    """A name without template arguments and the numbers of lambdas."""
    name = re.sub(r"\{lambda\(.*?\)#\d+\}", "{lambda}", name)
    guarded = re.sub(r"operator(<=>|<<=?|>>=?|<=?|>=?|->\*?)",
                     lambda match: match.group().translate({60: "\1", 62: "\2"}), name)
    shorter = None
    while shorter != guarded:
        shorter, guarded = guarded, re.sub(r"<[^<>]*>", "", guarded)
    return guarded.replace(" ", "")


def doubled(mine, other):
    """Whether the other path is mine with the compilation's relative directory twice."""
    if not mine or not other or mine.startswith("/") or not other.endswith("/" + mine):
        return False
    return mine.startswith(other[:-len(mine)])


class Case:
    """One address: tm's answer, and what there is to judge a difference by."""

    def __init__(self, object, address, ours, place):
        self.object, self.address, self.ours, self.place = object, address, ours, place
        self.symbols = object.names_at(address)

    def between_functions(self):
        return self.ours[-1][0] is None and not self.symbols

    def first_file(self, mine, other):
        """Whether the row's file was never set: then it is 1 (DWARF 5, table 6.4)."""
        place = self.place
        return bool(place and place[2] and mine == place[2] not in (place[0], other)
                    and (other == place[0] or doubled(place[0], other)))

    def judge_place(self):
        """Why the innermost place is not libdwarf's: a class, "" if it is, None unknown."""
        _name, file, line = self.ours[0]
        if self.place is None:
            return "" if not file else None
        if (file, line) == self.place[:2]:
            return ""
        if (file, line) == (None, 0) and self.between_functions():
            return "between functions"
        if line == self.place[1] and self.first_file(file, self.place[0]):
            return "first file"
        return None

    def judge_file(self, mine, other):
        if self.first_file(mine, other):
            return "first file"
        return "directory twice" if doubled(mine, other) else None

    def judge_name(self, mine, other, outermost):
        plain = [self.object.plain[name] for name in self.symbols]
        short = [SUFFIX.sub("", name) for name in plain]
        if mine and other is None:
            known = mine in short or mine in self.object.all_names
            return "no debug file's symbols" if known else None
        if mine is None or other is None:
            return None
        if SUFFIX.sub("", other) == mine:
            return "symbol of a part"
        full, theirs = skeleton(mine), skeleton(other)
        if full == theirs or full.endswith("::" + theirs):
            return "full name"
        if (mine, other) in self.object.labels:
            return "assembler's name"
        if not outermost and other in plain:
            return "symbol around a call"
        if mine in short and other in plain or self.object.are_one_function(mine, other):
            return "another symbol"
        return None

    def judge_chain(self, theirs, third):
        """Why another tool's chain is not tm's; `third` is the remaining tool's, or None."""
        ours = self.ours
        if ours == theirs:
            return ""
        if self.between_functions():
            placeless = ours[0][1:] == (None, 0)
            return "between functions" if placeless or ours[0][2] == theirs[0][2] else None
        if len(ours) != len(theirs):
            fewer = [frame for frame in ours if frame in theirs]
            clang = {".debug_addr", ".debug_rnglists"} <= self.object.debug_sections
            agrees = not third or [frame[1:] for frame in third] == [frame[1:] for frame in ours]
            return "indexed ranges" if clang and len(fewer) < len(ours) and agrees else None
        reasons = set()
        for depth, (mine, other) in enumerate(zip(ours, theirs)):
            if mine[2] != other[2]:
                return None
            if mine[1] != other[1]:
                bare = mine[1] is None and not mine[2]
                reasons.add("file of a symbol" if bare else self.judge_file(mine[1], other[1]))
            if mine[0] != other[0]:
                reasons.add(self.judge_name(mine[0], other[0], depth == len(ours) - 1))
        return None if None in reasons else " + ".join(sorted(reasons))


# ---- comparing ----------------------------------------------------------------------

def compare(path, count, seed, everything):
    """How many addresses, {(tool, class): count} and the unexplained differences."""
    object = Object(path)
    addresses = object.addresses(count, seed, everything)
    answers = {"addr2line": ask_addr2line(path, addresses)}
    if shutil.which(LLVM):
        answers[LLVM] = ask_llvm(path, addresses)
    counts = collections.Counter()
    unexplained = []
    for at, (address, ours, place) in enumerate(zip(
            addresses, ask_tm(path, addresses), ask_libdwarf(object.debug, addresses))):
        if not ours:
            reason = "stub" if object.is_stub(address) else None
            verdicts = [("libdwarf", reason, place)]
        else:
            case = Case(object, address, ours, place)
            counts["tm", "inlined calls"] += len(ours) - 1
            verdicts = [("libdwarf", case.judge_place(), place)]
            for tool, given in answers.items():
                third = next((other[at] for name, other in answers.items() if name != tool), None)
                verdicts.append((tool, case.judge_chain(given[at], third), given[at]))
        for tool, reason, theirs in verdicts:
            classes = "UNEXPLAINED" if reason is None else reason or "equal"
            for each in classes.split(" + "):
                counts[tool, each] += 1
            if reason is None:
                unexplained.append((address, tool, ours, theirs))
    return len(addresses), counts, unexplained


def described():
    """The classes that DIFFERENCES.md explains."""
    text = (ROOT / "tests" / "oracle" / "DIFFERENCES.md").read_text()
    return set(re.findall(r"^\| \*([^*|]+)\* \|", text, re.MULTILINE))


def run(files, count, seed=1, everything=False, show=5):
    """Prints what was found; the number of differences that nothing explains."""
    total, failed, sums = 0, 0, collections.Counter()
    if not shutil.which(LLVM):
        print(f"{LLVM} (Debian's llvm) is not installed: left out")
    for path in files:
        number, counts, unexplained = compare(path, count, seed, everything)
        total += number
        sums.update(counts)
        print(f"{os.path.basename(path)}: {number} addresses, "
              f"{counts['tm', 'inlined calls']} inlined calls")
        for tool in ("libdwarf", "addr2line", LLVM):
            told = ", ".join(f"{value} {what}" for (who, what), value in sorted(counts.items())
                             if who == tool)
            print(f"    {tool}: {told}")
        different = {(tool, str(ours), str(theirs)): (address, tool, ours, theirs)
                     for address, tool, ours, theirs in unexplained}
        for address, tool, ours, theirs in list(different.values())[:show]:
            print(f"  0x{address:x}\n    tm        {ours}\n    {tool} {theirs}")
        failed += len(unexplained)
    print(f"All: {total} addresses")
    for (tool, what), value in sorted(sums.items()):
        print(f"    {tool}: {value} {what}")
    unknown = {what for _tool, what in sums} - described() - {"equal", "inlined calls",
                                                              "UNEXPLAINED"}
    if unknown:
        print("not in DIFFERENCES.md:", ", ".join(sorted(unknown)))
    return failed + len(unknown)


def main(arguments=None):
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--addresses", type=int, default=2000, help="of each file")
    options.add_argument("--all", action="store_true", help="all function entries and objects")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--show", type=int, default=5, help="differences of each file")
    options.add_argument("files", nargs="*", metavar="FILE")
    chosen = options.parse_args(arguments)
    files = chosen.files or [*symbols_objects.large(chosen.all), *symbols_objects.small(chosen.all)]
    return 1 if run(files, chosen.addresses, chosen.seed, chosen.all, chosen.show) else 0


if __name__ == "__main__":
    sys.exit(main())
