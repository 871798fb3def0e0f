"""Every instruction of the stubs and of what they call, on the way of calls that are as usual:
at each of them the backtrace leads to the caller, the table has the blocks of before or of
after the call and nothing else, and a signal handler may run, and allocate, with every
register as it was.

Which instructions these are is found out by stepping, so the stubs may change.
`tests/run --full e2e/test_every_step` does it for more functions and kinds of tracing.
"""
import json
import re
import tempfile
import unittest

from gdbsession import FULL, TestCase, build

STEPS = """
import gdb, json

KINDS = ("SIGUSR1", "SIGUSR2")
MOST = 20000  # instructions of a call
GENERAL = ("rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip").split()
bad, told = [], 0


def say(line):
    return gdb.execute(line, to_string=True)


def integer(expression):
    return int(gdb.parse_and_eval(expression).cast(gdb.lookup_type("unsigned long")))


def code():
    # Executable memory of no file: the helper and the relays.
    with open(f"/proc/{gdb.selected_inferior().pid}/maps") as file:
        lines = [line.split() for line in file]
    return [tuple(int(each, 16) for each in line[0].split("-"))
            for line in lines if "x" in line[1] and len(line) == 5]


def blocks():
    traces = json.loads(say("tm traces -json -limit unlimited"))
    return {(each["domain"], each["size"], each["count"],
             *(frame["function"] for frame in each["frames"][-2:])) for each in traces["traces"]}


def registers():
    frame = gdb.newest_frame()
    return [int(frame.read_register(name).cast(gdb.lookup_type("unsigned long")))
            for name in GENERAL] + [int(frame.read_register("eflags"))
                                    & 0xcd5]  # the status flags, and DF


def problem(place, text):
    if len(bad) < 20:
        bad.append(f"{place}: {text}")


def check_backtrace(place, function, rsp):
    names, frame = [], gdb.newest_frame()
    while frame is not None and len(names) < 30:
        names.append(frame.name())
        if frame.name() == function:
            found = int(frame.read_register("rsp").cast(gdb.lookup_type("unsigned long")))
            if found != rsp:
                problem(place, f"{function} has rsp {found:#x}, not {rsp:#x}")
            if None in names:
                problem(place, f"the backtrace is {names}")
            if frame.older() is None or frame.older().name() != "main":
                problem(place, f"{function} was not called by main")
            return
        frame = frame.older()
    problem(place, f"the backtrace is {names}")


def is_assembler():
    symtab = gdb.newest_frame().find_sal().symtab
    return symtab is None or symtab.filename.endswith(".S")


def send(place, kind):
    before, delivered = registers(), integer("delivered")
    say(f"queue-signal {kind}")
    say("stepi")
    stop = gdb.Breakpoint(f"*{before[-2]:#x}", internal=True, temporary=True)
    stop.silent = True
    stop.condition = f"(unsigned long)$rsp == {before[7]:#x}"
    say("continue")
    if stop.is_valid():
        stop.delete()
    if integer("delivered") != delivered + 1:
        problem(place, f"the handler of {kind} did not run")
    if registers() != before:
        problem(place, f"after {kind} registers are {registers()}, were {before}")


def step_through(function):
    global told
    say(f"tbreak *{function}")
    say("continue")
    ranges = code()
    before, tables, outside, count = blocks(), [], False, 0
    while count < MOST:
        pc, rsp = integer("$pc"), integer("$rsp")
        name = gdb.newest_frame().name()
        if name == function:
            if outside:
                break
            own = rsp
        elif any(start <= pc < end for start, end in ranges):
            outside = True
            place = f"{function}: {name}, {say('x/i $pc').strip()}"
            told += 1
            if name:  # but for the relays, of which gdb knows nothing
                check_backtrace(place, function, own)
            if told % STRIDE == 0 or is_assembler():
                tables.append((place, blocks()))
                for kind in KINDS:
                    send(place, kind)
                tables.append((place + ", after the handlers", blocks()))
        say("stepi")
        count += 1
    say("finish")
    after = blocks()
    if EXACT and after and integer("$_tm_size(kept)") != max(each[1] for each in after):
        problem(function, "its block is not at its address")
    if EXACT and before == after:
        problem(function, f"nothing changed: {sorted(before)}")
    for place, table in tables:
        if not table <= before | after or EXACT and not table >= before & after:
            problem(place, f"{sorted(table)} in the middle of {sorted(before)} "
                           f"and {sorted(after)}")


for function in FUNCTIONS:
    step_through(function)
print("told", json.dumps([told, bad]))
"""

USUAL = "step_malloc", "step_free"
POOL = "step_pool_alloc", "step_pool_free"
ALL = (*USUAL, "step_calloc", "step_realloc", "step_memalign")
SOME = ALL if FULL else USUAL
STRIDE = 1 if FULL else 4  # in C; of the stubs, each instruction is looked at


class EveryStep(TestCase):
    def check(self, functions, options="", exact=True):
        with tempfile.NamedTemporaryFile("w") as output:
            gdb = self.session(build("everystep.c"), settings=["set disable-randomization on"])
            if functions is POOL:
                gdb.run("tm domain add pool -alloc pool_alloc:1 -free pool_free:1")
            gdb.run("break checkpoint")
            gdb.run(f"run >{output.name}")
            gdb.run(f"tm start 5 {options}")
            for turn in range(5):  # until their stacks are known
                gdb.run("continue")
            gdb.run("delete")
            for kind in ("SIGUSR1", "SIGUSR2"):
                gdb.run(f"handle {kind} nostop noprint pass")
            text = gdb.python(f"FUNCTIONS, EXACT, STRIDE = {functions!r}, {exact}, {STRIDE}\n"
                              + STEPS)
            found = re.search(r"^told (.*)\Z", text, re.MULTILINE)  # behind where it stopped
            self.assertTrue(found, text[-2000:])
            told, bad = json.loads(found[1])
            self.assertEqual(bad, [])
            self.assertGreater(told, 20 * len(functions))
            self.assertIn("exited normally", gdb.run("continue"))

    def test_every_block_recorded(self):
        self.check(SOME)

    def test_large_blocks_recorded(self):
        self.check(SOME, "-min-size 50")

    def test_an_allocator_of_its_own(self):
        self.check(POOL)

    @unittest.skipUnless(FULL, "the long form samples as well")
    def test_sampled(self):
        self.check(ALL, "-sample 1KiB", exact=False)


if __name__ == "__main__":
    unittest.main()
