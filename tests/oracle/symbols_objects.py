"""Objects with debug information for symbols_oracle: small ones of every kind, and large ones.

What is compiled is kept below build/tests/oracle and made again when its source is newer.
May use: the compilers, the standard library.  Must not import tm or _tm.
"""
import os
import pathlib
import shutil
import subprocess
import sysconfig

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "tests" / "oracle"

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


def _compile(target, sources, *command, libraries=()):
    """Runs the compiler in the folder of the objects unless the target is newer."""
    made = max((FOLDER / path).stat().st_mtime for path in sources + [pathlib.Path(__file__)])
    if not target.exists() or target.stat().st_mtime < made:
        subprocess.run([*command, "-o", str(target), *map(str, sources), *libraries], check=True,
                       cwd=FOLDER)
    return str(target)


def _write(name, text):
    path = FOLDER / "src" / name
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return path.relative_to(FOLDER)


def small(everything):
    """Programs of both languages by each compiler, optimized and not, DWARF 4 and 5."""
    for name, text, compilers in (("plain.c", C_SOURCE, ("gcc",)),
                                  ("session.cc", CC_SOURCE, ("g++", "clang++"))):
        source = _write(name, text)
        for compiler in filter(shutil.which, compilers):
            for level in ("-O2", "-O0")[:1 + everything]:
                for version in (4, 5):
                    # Named relative to the folder, so that paths have to be put together.
                    yield _compile(FOLDER / f"{name}-{compiler}{level}-dwarf{version}", [source],
                                   compiler, level, f"-gdwarf-{version}", "-Wl,--build-id=none")


def _native(compiler, version):
    """Our own C sources, linked together."""
    include = sysconfig.get_path("include")
    return _compile(
        FOLDER / f"native-{compiler}-dwarf{version}.so",
        sorted((ROOT / "gdb-plugin" / "native").glob("*.c")), compiler, "-std=gnu11", "-O2",
        f"-gdwarf-{version}", "-w", "-shared", "-fPIC", "-D_GNU_SOURCE=",
        "-DPy_LIMITED_API=0x03090000", f"-I{ROOT}/include", f"-I{ROOT}/gdb-plugin/native",
        "-isystem", include)


def _heavy(compiler, version):
    """C++ of templates, lambdas and regular expressions: nearly all calls are inlined."""
    return _compile(FOLDER / f"heavy-{compiler}-dwarf{version}",
                    [ROOT / "tests" / "oracle" / "heavy.cc"], compiler, "-std=c++17", "-O2",
                    f"-gdwarf-{version}", "-pthread")


def large(everything):
    """Two compiled objects, or four; the C library and Python with their debug files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for build, compiler, version, always in (
            (_heavy, "g++", 5, True), (_native, "clang", 5, True),
            (_native, "gcc", 4, False), (_heavy, "clang++", 4, False)):
        if (always or everything) and shutil.which(compiler):
            yield build(compiler, version)
    python = os.path.realpath("/usr/bin/python3")
    for path in ("/lib/x86_64-linux-gnu/libc.so.6", python, f"{python}-dbg"):
        if pathlib.Path(path).exists():
            yield path


def judge():
    """The program line_table, compiled."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    return _compile(FOLDER / "line_table", [ROOT / "tests" / "oracle" / "line_table.c"], "gcc",
                    "-O2", "-Wall", "-Wextra", libraries=["-ldwarf"])
