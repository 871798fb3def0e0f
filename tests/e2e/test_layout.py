"""`layout tm`: the window as it is seen on a terminal, at several widths and resized.

Draws with tmux.  Must never wait for a time: only for what is on the screen.
"""
import re
import unittest

from gdbsession import FULL, ROOT, TestCase, build
from tmux import GdbScreen

SOURCE = "live.c"
FOLDER = "/src/tm"  # so that the columns do not depend on where this is
GROW, FILL, FRESH = ":66", ":72", ":83"
FIRST, SECOND = r"^│\* +193 KiB  new ", r"^│- +191 KiB  -2000 B "  # what the first two rounds show


def inside(text, title="tm: what holds the memory"):
    """The lines of the window, without its border."""
    lines = text.split("\n")
    first = next(place for place, line in enumerate(lines) if title in line)
    last = next(place for place in range(first + 1, len(lines)) if lines[place].startswith("└"))
    return [line.strip("│").rstrip() for line in lines[first + 1:last]]


class Window(TestCase):
    def screen(self, *commands, columns=80, rows=30, **options):
        program = build(SOURCE, "live-on-a-screen", flags="-O1 -g", folder=FOLDER)
        return self.enterContext(GdbScreen(
            f"set substitute-path {FOLDER} '{ROOT}'", *commands,
            program=["--args", program, "100000", "1"], columns=columns, rows=rows, **options))

    def traced(self, rounds=0, **options):
        """Traced from main on, after some rounds, with the layout on the screen."""
        screen = self.screen("tbreak main", "run", "tm start 5", "break round_done", **options)
        screen.line("layout tm")
        screen.wait_for(r"^│0 B in 0 blocks")
        for number, wanted in list(enumerate((FIRST, SECOND), 1))[:rounds]:
            screen.line("continue")
            screen.wait_for(wanted)
        return screen

    def check_fits(self, text, columns):
        for line in text.split("\n"):
            self.assertLessEqual(len(line), columns)

    def test_what_changed_is_marked(self):
        screen = self.traced(1)
        self.assertEqual(inside(screen.text())[0],
                         "221 KiB in 139 blocks  +221 KiB, +139 blocks since the last stop")
        screen.line("continue")
        text = screen.wait_for(SECOND)
        self.check_fits(text, 80)
        lines = inside(text)
        self.assertEqual(lines[0],
                         "258 KiB in 149 blocks  +37.1 KiB, +10 blocks since the last stop")
        self.assertRegex(lines[1], r"^█+ +100% of the peak, 258 KiB$")
        self.assertRegex(lines[2], r"^- +191 KiB  -2000 B +98  █+\S? \S*live\.c%s$" % FILL)
        self.assertRegex(lines[3], r"^\* +29\.3 KiB  new +1  █\S? +\S*live\.c%s$" % FRESH)
        self.assertRegex(lines[4], r"^\+ +19\.5 KiB  \+10000 B +20  \S+ +\S*live\.c%s$" % GROW)
        self.assertRegex(lines[5], r"^ +900 B +1  ▏ +\S*live\.c:29$")
        styled = screen.text(styled=True)
        for colour, mark in ((31, "+"), (32, "-"), (33, "*")):
            self.assertRegex(styled, r"\x1b\[%dm(\x1b\[49m)?%s" % (colour, re.escape(mark)))

    def test_widths_and_resizing(self):
        screen = self.traced(2, columns=60)
        self.check_fits(screen.text(), 60)
        for columns, wanted in ((200, r"^│- +191 KiB  -2000 B +98  +7\d%% +█+ %s/\S*live.c:72 +│$"),
                                (80, r"^│- +191 KiB  -2000 B +98  █+\S? \S+live.c:72 +│$"),
                                (60, r"^│- +191 KiB  -2000 B +█+\S? \S+live.c:72 +│$")):
            screen.resize(columns, 30)
            pattern = wanted % FOLDER if columns == 200 else wanted
            self.check_fits(screen.wait_for(pattern), columns)

    def test_keys_and_mouse_lead_to_the_source(self):
        screen = self.traced(2)
        screen.press("Down")
        screen.wait_for(r"^│ +83 +keep\(calloc\(1, 30000\)\);")
        screen.press("Down")
        screen.wait_for(r"^│ +66 +keep\(malloc\(1000\)\);")
        # Row 8 of the screen is the window's sixth line of the table (xterm's X10 protocol).
        screen.type("\x1b[M \x2a\x29\x1b[M#\x2a\x29")
        text = screen.wait_for(r"^│ +31 +keep\(malloc\(860\)\);")
        self.assertRegex(text.split("\n")[8], r"live\.c:31 ")
        # Beyond the last row that is seen, the table moves.
        screen.press(*["Down"] * 20)
        text = screen.wait_for(r"live\.c:51 +│$")
        self.assertNotIn("live.c:72 ", text)
        self.assertRegex(inside(text)[0], r"^258 KiB in 149 blocks ")
        screen.press(*["Right"] * 4)
        screen.wait_for(r"▏ +%s\S*" % re.escape(f"{FOLDER}/tests/e2e/live.c:51"[4:]))

    def test_messages(self):
        screen = self.screen("break round_done", "run", columns=60)
        screen.line("layout tm")
        screen.wait_for(r"^│The process is not being traced: use \"tm start\" first\. +│$")
        screen.line("tm start 5")
        screen.wait_for(r"^│0 B in 0 blocks")
        screen.line("continue")
        screen.wait_for(r"^│\* +29\.3 KiB  new")
        screen.line("tm stop")
        screen.wait_for(r"^│The process is not being traced")
        screen.line("kill")
        screen.wait_for(r"^│No process: use \"run\" or \"attach\", then \"tm start\"\. +│$")

    def test_a_snapshot_that_fails_disturbs_nothing(self):
        screen = self.traced()
        screen.line('python import _tm; _tm.snapshot = lambda *each: (_ for _ in ()).throw('
                    '_tm.Error("the table is damaged"))')
        screen.line("continue")
        text = screen.wait_for(r"^│the table is damaged +│$")
        self.assertIn("round_done (number=", text)
        self.assertNotIn("Traceback", text)

    def test_nothing_is_done_while_it_is_not_shown(self):
        screen = self.traced()
        screen.line("layout src")
        screen.wait_for(r"^│ +> +93 ")
        screen.line("python import tm.process; tm.process.take_snapshot = None")
        screen.line("continue")
        text = screen.wait_for(r"round_done \(number=")
        self.assertNotRegex(text, "Traceback|Python Exception")

    def test_no_colour(self):
        if not FULL:
            screen = self.traced(2, settings=["set style enabled off"])
        else:
            screen = self.traced(2, environment={"NO_COLOR": "1"}.items())
        self.assertNotRegex(screen.text(styled=True), r"\x1b\[3[123]m")


if __name__ == "__main__":
    unittest.main()
