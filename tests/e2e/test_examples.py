"""Every transcript in examples/ and in README.md is what a real gdb prints today.

tests/e2e/transcript.py says which few things are made equal before comparing.
"""
import re
import unittest

import transcript
from gdbsession import ROOT, TestCase

EXAMPLES = ROOT / "examples"


class Examples(TestCase):
    def check(self, name):
        wanted = (EXAMPLES / f"{name}.txt").read_text()
        found = transcript.play(EXAMPLES / f"{name}.gdb", ROOT / "build" / "examples" / name)
        self.assertEqual(transcript.normalise(found), transcript.normalise(wanted))

    def test_leak(self):
        self.check("leak")

    def test_churn(self):
        self.check("churn")

    def test_shapes(self):
        self.check("shapes")


class Readme(TestCase):
    def test_every_session_file_has_its_transcript_and_program(self):
        for path in EXAMPLES.glob("*.gdb"):
            self.assertTrue(path.with_suffix(".txt").exists(), path)
            self.assertTrue(any(path.with_suffix(each).exists() for each in (".c", ".cc")), path)

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
