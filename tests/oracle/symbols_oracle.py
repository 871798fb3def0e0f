"""Compares _tm.Symbolizer with binutils' addr2line, address by address.

    symbols_oracle.py [--addresses N] [FILE …]

Without FILE: objects compiled here (C and C++, gcc and clang, DWARF 4 and 5), python3.11
and its debug build.  Prints the counts of each file and ends with 1 when something differs
that no rule in `explain` accounts for.

May use: _tm (TM_BUILD or build/), gcc, clang, addr2line, c++filt, and gdb, where
addr2line names another file.  Must not import tm.
"""
import argparse
import bisect
import collections
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, os.environ.get("TM_BUILD", str(ROOT / "build")))

import _tm  # noqa: E402

PT_LOAD, PF_X = 1, 1
BIAS = 0x7F0000000000

C_SOURCE = r"""
#include <stdlib.h>
#include <string.h>
struct list { struct list *next; char text[32]; };
static inline __attribute__((always_inline)) void *get(size_t size)
{
    void *block = malloc(size);
    if (!block)
        abort();
    return memset(block, 1, size);
}
static inline __attribute__((always_inline)) struct list *item(const char *text)
{
    struct list *item = get(sizeof(*item));
    strncpy(item->text, text, sizeof(item->text) - 1);
    return item;
}
static __attribute__((noinline)) struct list *push(struct list *head, const char *text)
{
    struct list *first = item(text);
    first->next = head;
    return first;
}
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int nested(int n)
{
    int sum = 0;
    int inner(int x) { sum += x; return x > 2 ? inner(x - 1) : x; }
    return inner(n) + sum;
}
int main(int argc, char **argv)
{
    struct list *head = NULL;
    int numbers[64];
    for (int i = 0; i < argc; i++)
        head = push(item(argv[i]), argv[i]);
    for (int i = 0; i < 64; i++)
        numbers[i] = (int)((size_t)get(16) >> 4) ^ i;
    qsort(numbers, 64, sizeof(int), compare);
    return head && nested(argc) ? numbers[3] : 0;
}
"""

CC_SOURCE = r"""
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>
namespace app {
namespace {
struct Cache {
    std::map<std::string, std::vector<int>> entries;
    const std::vector<int> &get(const std::string &name)
    {
        auto &entry = entries[name];
        if (entry.empty())
            entry.assign(name.size(), 1);
        return entry;
    }
};
}
class Session {
public:
    explicit Session(std::string name) : name_(std::move(name)), data_(new char[64]) {}
    virtual ~Session() = default;
    Session &operator<<(int value) { values_.push_back(value); return *this; }
    long operator()(int factor) const
    {
        long sum = 0;
        for (auto value : values_)
            sum += [&](int by) { return long(value) * by; }(factor);
        return sum;
    }
    operator bool() const { return !values_.empty(); }
    template <typename T> T convert(const T &start) const
    {
        T result(start);
        for (auto value : values_)
            result += static_cast<T>(value);
        return result;
    }
private:
    std::string name_;
    std::unique_ptr<char[]> data_;
    std::vector<int> values_;
};
template <typename F> auto twice(F f) -> decltype(f(1)) { return f(1) + f(2); }
}
int main(int argc, char **argv)
{
    std::vector<std::unique_ptr<app::Session>> sessions;
    app::Cache cache;
    for (int i = 0; i < argc; i++) {
        sessions.emplace_back(new app::Session(argv[i]));
        *sessions.back() << i << argc;
        cache.get(argv[i]);
    }
    std::function<int(int)> f = [&](int n) { return n + int(sessions.size()); };
    try {
        if (argc > 100)
            throw std::runtime_error("many");
    } catch (const std::exception &) {
        return 1;
    }
    return (*sessions[0])(3) + app::twice(f) + sessions[0]->convert(2.5) > 100;
}
"""


def code_of(path):
    """The bytes of the executable segments, and where they are."""
    data = pathlib.Path(path).read_bytes()
    return [(vaddr, data[offset:offset + size]) for kind, vaddr, offset, size, _, flags in
            _tm.elf_segments(path)["segments"] if kind == PT_LOAD and flags & PF_X]


def build_objects(folder):
    """Programs of both languages, by each compiler that is there: (file, addr2line's file)."""
    built = []
    for source, name, compilers in ((C_SOURCE, "plain.c", ("gcc",)),
                                    (CC_SOURCE, "session.cc", ("g++", "clang++"))):
        path = pathlib.Path(folder, "src", name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
        for compiler in filter(shutil.which, compilers):
            for level in ("-O2", "-O0")[:1 if compiler == "clang++" else 2]:
                targets = [str(pathlib.Path(folder, f"{name}-{compiler}{level}-dwarf{version}"))
                           for version in (4, 5)]
                for version, target in zip((4, 5), targets):
                    subprocess.run([compiler, level, f"-gdwarf-{version}", "-Wl,--build-id=none",
                                    "-o", target, f"src/{name}"], check=True, cwd=folder)
                # addr2line misses inlined calls in clang's DWARF 5; the code is the same.
                twin = targets[compiler != "clang++"]
                if code_of(twin) != code_of(targets[1]):
                    raise AssertionError(f"{twin} and {targets[1]} differ in their code")
                built += [(targets[0], targets[0]), (targets[1], twin)]
    return built


def sample_addresses(path, count, seed):
    """Addresses in the executable segments, all of a small file's."""
    ranges = [(segment[1], segment[1] + segment[3]) for segment in
              _tm.elf_segments(path)["segments"] if segment[0] == PT_LOAD and segment[5] & PF_X]
    size = sum(high - low for low, high in ranges)
    if size <= count:
        return [address for low, high in ranges for address in range(low, high)]
    picker = random.Random(seed)
    return sorted({picker.randrange(low, high) for low, high in ranges
                   for _ in range(count * (high - low) // size)})


def demangle(names):
    """As `_tm` shows functions: without parameters and return type."""
    result = subprocess.run(["c++filt", "-p"], input="\n".join(names), text=True, check=True,
                            stdout=subprocess.PIPE).stdout.split("\n")
    return dict(zip(names, result))


def ask_addr2line(path, addresses):
    """Per address the list of (function, file, line), innermost first; unknown is None or 0."""
    output = subprocess.run(["addr2line", "-a", "-i", "-f", "-e", path],
                            input="\n".join(map(hex, addresses)), text=True, check=True,
                            stdout=subprocess.PIPE).stdout.splitlines()
    answers = []
    at = 0
    while at < len(output):
        if re.fullmatch("0x[0-9a-f]{16}", output[at]):
            answers.append([])
            at += 1
            continue
        file, line = re.fullmatch(r"(.*):([0-9?]+)(?: \(discriminator \d+\))?",
                                  output[at + 1]).groups()
        answers[-1].append((None if output[at] == "??" else output[at],
                            None if file == "??" else os.path.normpath(file),
                            int(line) if line.isdigit() else 0))
        at += 2
    names = sorted({frame[0] for frames in answers for frame in frames if frame[0]})
    plain = demangle(names)
    return [[(plain.get(name), file, line) for name, file, line in frames] for frames in answers]


def ask_tm(path, addresses):
    symbolizer = _tm.Symbolizer()
    symbolizer.add_module(path, BIAS, BIAS + (1 << 40), BIAS)
    answers = symbolizer.resolve([BIAS + address for address in addresses])
    for frames in answers:
        if frames and [frame[5] for frame in frames] != [True] * (len(frames) - 1) + [False]:
            raise AssertionError(f"only the last frame is not inlined: {frames}")
    return [[(function, file and os.path.normpath(file), line)
             for file, line, function, module, offset, inlined in frames] for frames in answers]


def skeleton(name):
    """A name without template arguments and the numbers of lambdas."""
    name = re.sub(r"\{lambda\(.*?\)#\d+\}", "{lambda}", name)
    guarded = re.sub(r"operator(<=>|<<=?|>>=?|<=?|>=?|->\*?)",
                     lambda match: match.group().translate({60: "\1", 62: "\2"}), name)
    shorter = None
    while shorter != guarded:
        shorter, guarded = guarded, re.sub(r"<[^<>]*>", "", guarded)
    return guarded.replace(" ", "")


def explain_name(ours, theirs):
    """Why two names of one function differ, or None."""
    if ours is None or theirs is None:
        return None
    if theirs.startswith(ours + "."):
        return "addr2line names the symbol of a part"
    full, other = skeleton(ours), skeleton(theirs)
    if full == other or full.endswith("::" + other):
        return "tm puts a full name together"
    return None


def explain(ours, theirs, in_symbol):
    """Why the answers may differ, or None."""
    if ours[-1][0] is None and not in_symbol:
        return "between functions"
    if theirs[0][2] == 0 and ours[0][2] == 0 and ours[0][0] == theirs[0][0]:
        return "addr2line takes the file from a symbol"
    if len(ours) != len(theirs):
        return None
    reasons = set()
    for depth, (mine, other) in enumerate(zip(ours, theirs)):
        if mine[2] != other[2]:
            return None
        if mine[0] != other[0]:
            if depth < len(ours) - 1 and not explain_name(mine[0], other[0]) \
                    and explain_name(ours[-1][0], other[0]):
                reasons.add("addr2line names the symbol around an inlined call")
            else:
                reasons.add(explain_name(mine[0], other[0]))
        if mine[1] != other[1]:
            artificial = other[1] and other[1].endswith("<artificial>")
            reasons.add("addr2line names an artificial unit" if artificial else None)
    return None if None in reasons else " and ".join(sorted(reasons))


def symbol_ranges(path):
    """Where functions are by the symbol table, as sorted (start, end)."""
    build_id = _tm.elf_segments(path)["build_id"].hex()
    debug = f"/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
    ranges = []
    for file in (path, debug):
        listed = subprocess.run(["nm", "-S", "--defined-only", file], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        for line in listed.splitlines():
            fields = line.split()
            if len(fields) == 4 and fields[2] in "tTwWiI":
                start = int(fields[0], 16)
                ranges.append((start, start + int(fields[1], 16)))
    return sorted(ranges)


def gdb_agrees(path, address, ours):
    """Whether gdb, a third reader, gives our file where addr2line has another (lines agree)."""
    told = subprocess.run(["gdb", "-nx", "-batch", "-ex", f"info line *{address}", path], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    match = re.search(r'Line \d+ of "(.*?)"', told)
    return (match and ours[0][1]
            and os.path.basename(match.group(1)) == os.path.basename(ours[0][1]))


def compare(path, reference, count, seed):
    """Counts of agreements and explained differences, and the unexplained ones."""
    addresses = sample_addresses(path, count, seed)
    ranges = symbol_ranges(path)
    starts = [low for low, high in ranges]
    counts = collections.Counter()
    unexplained = []
    for address, ours, theirs in zip(addresses, ask_tm(path, addresses),
                                     ask_addr2line(reference, addresses)):
        counts["inlined"] += len(ours) > 1
        if not ours:
            counts["stubs that no traceback shows"] += 1
            continue
        if ours == theirs:
            counts["equal"] += 1
            continue
        at = bisect.bisect_right(starts, address)
        reason = explain(ours, theirs, any(high > address for low, high in ranges[at - 8:at]))
        only_file = (ours[0][0], ours[0][2], ours[1:]) == (theirs[0][0], theirs[0][2], theirs[1:])
        if not reason and only_file and len(unexplained) < 20 and gdb_agrees(path, address, ours):
            reason = "gdb agrees with tm"
        counts[reason or "UNEXPLAINED"] += 1
        if not reason:
            unexplained.append((address, ours, theirs))
    return len(addresses), counts, unexplained


def default_files(folder):
    files = build_objects(folder)
    files += [(path, path) for path in ("/usr/bin/python3.11", "/usr/bin/python3.11-dbg")
              if os.path.exists(path)]
    return files


def main(arguments=None):
    options = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    options.add_argument("--addresses", type=int, default=2000, help="of each file")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--show", type=int, default=5, help="differences of each file")
    options.add_argument("files", nargs="*", metavar="FILE")
    chosen = options.parse_args(arguments)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        files = [(path, path) for path in chosen.files] or default_files(folder)
        for path, reference in files:
            total, counts, unexplained = compare(path, reference, chosen.addresses, chosen.seed)
            told = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
            print(f"{os.path.basename(path)}: {total} addresses: {told}")
            for address, ours, theirs in unexplained[:chosen.show]:
                print(f"  0x{address:x}\n    tm        {ours}\n    addr2line {theirs}")
            failed += len(unexplained)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
