#!/usr/bin/python3
"""How long `tm start 10` takes, with 1 and with 100 threads.

    tests/bench/start_time.py [ROUNDS]

Two figures for each: the time that the command names itself, and the wall time
from sending the command to its answer; medians with min and max over the rounds.
A benchmark, never part of `make test`.
"""
import os
import pathlib
import re
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from gdbsession import Program, Session, build  # noqa: E402


def once(threads):
    with Program(build("anywhere.c", libs="-ldl"), threads) as program, Session() as gdb:
        program.wait_for("ready")
        gdb.attach(program)
        began = time.monotonic()
        text = gdb.run("tm start 10")
        wall = (time.monotonic() - began) * 1000
        gdb.run("tm stop")
        gdb.run("detach")
        os.kill(program.pid, 10)
        program.finish()
    return wall, int(re.search(r"\((\d+) ms\)", text)[1]), text


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    for threads in (1, 100):
        walls, told, answers = zip(*[once(threads) for each in range(rounds)])
        for name, values in (("sent to answered", walls), ("told by tm start", told)):
            print(f"{threads:4} threads, {name}: median {statistics.median(values):.0f} ms "
                  f"({min(values):.0f} to {max(values):.0f})")
        print(f"      {answers[0]}")


if __name__ == "__main__":
    main()
