"""Every transcript in examples/ and in README.md is what a real gdb prints today.

Five of the examples are those of tracemalloc's documentation, as gdb commands and
as Python scripts that are, but for the program, what they are there.

tests/e2e/transcript.py says which few things are made equal before comparing.
"""
import re
import unittest

import transcript
from gdbsession import ROOT, TestCase

EXAMPLES = ROOT / "examples"


class Examples(TestCase):
    def check(self, name, session=".gdb", text=".txt"):
        wanted = (EXAMPLES / f"{name}{text}").read_text()
        found = transcript.play(EXAMPLES / f"{name}{session}")
        self.assertEqual(transcript.normalise(found), transcript.normalise(wanted))
        return found

    def check_both(self, name):
        """The commands and the script; what each printed."""
        return self.check(name), self.check(name, ".py", ".py.txt")

    def report(self, text, first, last):
        """The lines of a report, from its first to its last."""
        lines = text.splitlines()
        begin = lines.index(first)
        end = next(place for place in range(begin, len(lines)) if lines[place].startswith(last))
        return lines[begin:end + 1]

    def test_leak(self):
        self.check("leak")

    def test_churn(self):
        self.check("churn")

    def test_shapes(self):
        self.check("shapes")

    def test_top10(self):
        typed, script = self.check_both("top10")
        found = self.report(typed, "[ Top 10 ]", "Total allocated size: ")
        self.assertEqual(self.report(script, "[ Top 10 ]", found[-2]), found[:-1])

    def test_differences(self):
        typed, script = self.check_both("differences")
        title = "[ Top 10 differences ]"
        self.assertEqual(script[script.index(title):], typed[typed.index(title):])

    def test_biggest(self):
        typed, script = self.check_both("biggest")
        frames = script[script.index("10 memory blocks: 40.0 KiB\n"):].splitlines()
        self.assertGreater(len(frames), 8)
        for line in frames:
            self.assertIn(f"\n{line}", typed)  # there the function follows

    def test_pretty(self):
        typed, script = self.check_both("pretty")
        self.assertEqual(*(self.report(text, "Top 3 lines", "Total allocated size: ")
                           for text in (typed, script)))

    def test_peak(self):
        typed, script = self.check_both("peak")
        self.assertTrue(script.endswith("\nfirst_size=8, first_peak=800008\n"
                                        "second_size=16, second_peak=8016\n"))
        self.assertIn("\nPeak reset from 781 KiB to 8 B.\n", typed)


class Readme(TestCase):
    def test_every_session_file_has_its_transcript_and_program(self):
        sessions = [*EXAMPLES.glob("*.gdb"), *EXAMPLES.glob("*.py")]
        for path in sessions:
            self.assertTrue(path.with_suffix(".py.txt" if path.suffix == ".py" else ".txt")
                            .exists(), path)
            program = transcript.program_of(path).name
            self.assertTrue(any((EXAMPLES / f"{program}{each}").exists() for each in (".c", ".cc")),
                            path)
        tested = (ROOT / "tests" / "e2e" / "test_examples.py").read_text()
        for path in sessions:
            self.assertIn(f"def test_{path.stem}(", tested)

    def test_transcripts_of_the_readme_are_parts_of_the_examples(self):
        text = (ROOT / "README.md").read_text()
        examples = [transcript.normalise(path.read_text()) for path in EXAMPLES.glob("*.txt")]
        blocks = re.findall(r"```\w*\n(\(gdb\) .*?)```", text, re.DOTALL)
        self.assertGreater(len(blocks), 0)
        for block in blocks:
            self.assertTrue(any(transcript.normalise(block) in example for example in examples),
                            f"no example prints this:\n{block}")

    def test_the_two_commands_come_first(self):
        text = (ROOT / "README.md").read_text()
        self.assertLess(text.index("make demo"), 600)
        self.assertLess(text.index("make test"), 600)


if __name__ == "__main__":
    unittest.main()
