"""The timeline: what is in the file, and what it does in a headless Chromium.

May use the standard library and tm.  Must never need gdb.  Without Debian's
chromium (300 MB, so nobody is asked to have it) what needs a browser is skipped.
"""
import json
import os
import re
import tempfile
import unittest

import browser
from tm.exports import timeline
from tm.series import Series

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e{{style}}"


def watched():
    series = Series("lineno", "process 42" + HOSTILE)
    for second in range(20):
        sizes = {"/src/session.cc:88": 5000 * second, "/src/cache.cc:7": 40000 - 1500 * second,
                 HOSTILE: 3000 + 100 * (second % 3)}
        if 8 <= second < 12:
            sizes["/src/burst.c:3"] = 200000 - 1000 * second
        lines = sorted(sizes.items(), key=lambda line: -line[1])
        series.add(float(second), sum(sizes.values()) + 512, 100 + second,
                   1.5 + second if second else None, lines, 4)
    return series


class File(unittest.TestCase):
    def setUp(self):
        self.text = timeline.contents(watched()).decode()
        data = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.text,
                         re.DOTALL)
        self.data = json.loads(data.group(1))

    def test_what_it_holds(self):
        series = watched()
        self.assertEqual([each[1] for each in self.data["rounds"]], series.sizes)
        self.assertEqual(self.data["rounds"][0][3], None)
        self.assertEqual(self.data["lines"][0]["name"], "/src/burst.c:3")
        self.assertEqual(len(self.data["lines"]), 4)
        for place, each in enumerate(self.data["rounds"]):
            known = sum(line["sizes"][place] or 0 for line in self.data["lines"])
            self.assertEqual(each[1] - known, 512)

    def test_it_loads_nothing_and_names_are_harmless(self):
        self.assertIn("default-src 'none'", self.text)
        self.assertNotRegex(self.text, r"(?i)(src|href)\s*=\s*[\"']?(https?:|//)|@import|url\(")
        self.assertNotIn("<script>alert", self.text)
        self.assertNotIn("<img", self.text)
        self.assertNotIn("\u202e", self.text)
        self.assertLess(len(self.text), 100000)


@unittest.skipUnless(browser.CHROMIUM, "there is no chromium (apt install chromium)")
class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.path = os.path.join(cls.folder, "timeline.html")
        with open(cls.path, "wb") as file:
            file.write(timeline.contents(watched()))
        cls.page = cls.enterClassContext(browser.Browser())

    def setUp(self):
        self.page.open(self.path)
        self.addCleanup(lambda: self.assertEqual(self.page.problems, []))

    def count(self, selector):
        return self.page.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")

    def test_areas_lines_and_peak(self):
        self.assertEqual(self.count("#chart .area"), 5)
        self.assertEqual(self.count("#chart .total"), 1)
        self.assertEqual(self.page.evaluate("document.querySelector('.peak-text').textContent"),
                         "peak 265 KiB")
        self.page.click("[data-kind=line]")
        self.assertEqual((self.count("#chart .area"), self.count("#chart .line")), (0, 5))

    def test_keys_and_the_mouse_show_values(self):
        self.page.evaluate("document.querySelector('#chart').focus()")
        self.page.press("Home")
        self.assertTrue(self.page.text("#details").startswith("After 0.0 s: 42.5 KiB in 100 bl"))
        self.page.press("ArrowRight")
        self.assertRegex(self.page.text("#details"), r"^After 1\.0 s: .*, stopped for 2\.5 ms")
        self.page.press("p")
        self.assertRegex(self.page.text("#details"), r"^After 11\.0 s: .*, the peak\s+/src/burst")
        box = self.page.evaluate("(() => { const r = document.querySelector('#chart')"
                                 ".getBoundingClientRect(); return [r.x, r.y, r.width]; })()")
        self.page.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + box[2] * 0.98,
                       y=box[1] + 60)
        self.assertTrue(self.page.text("#details").startswith("After 19.0 s"))

    def test_the_table(self):
        rows = self.page.texts("#lines tbody tr")
        self.assertEqual(len(rows), 5)
        self.assertEqual(rows[0].split(), ["/src/burst.c:3", "188", "KiB"])
        self.assertEqual(rows[1].split(), ["/src/session.cc:88", "0", "B", "92.8", "KiB",
                                           "+92.8", "KiB", "92.8", "KiB"])


if __name__ == "__main__":
    unittest.main()
