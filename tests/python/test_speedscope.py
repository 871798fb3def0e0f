"""speedscope, a viewer that others wrote, imports what tm exports for it.

    npm install --prefix build/peers speedscope

May use the standard library, tm and a headless Chromium.  Must never need gdb, and
never fetch anything: without the package, or Chromium, the test is skipped.
"""
import base64
import json
import os
import pathlib
import tempfile
import time
import unittest

import browser
from test_html_report import NEW

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLACES = (ROOT / "build" / "peers" / "node_modules", pathlib.Path("/usr/local/lib/node_modules"),
          pathlib.Path("/usr/lib/node_modules"))
PAGE = next((page for page in (place / "speedscope" / "dist" / "release" / "index.html"
                               for place in PLACES) if page.exists()), None)
TIMEOUT = 20


@unittest.skipUnless(browser.CHROMIUM, "Chromium is not installed: Debian package chromium")
@unittest.skipUnless(PAGE, "speedscope is not installed: npm install --prefix build/peers "
                     "speedscope")
class Speedscope(unittest.TestCase):
    def rows(self, format):
        """What its table of functions shows of the export: {name: (total, self)}."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "heap." + format)
            NEW.export(format, path)
            # As its own command line hands a file over.
            with open(path, "rb") as file, open(path + ".js", "w") as script:
                script.write("speedscope.loadFileFromBase64(%s, %s)" % (
                    json.dumps("heap." + format),
                    json.dumps(base64.b64encode(file.read()).decode())))
            with browser.Browser() as page:
                page.open(f"{PAGE}#localProfilePath={path}.js")
                self.wait_for(page, "!document.body.innerText.includes('Drag')"
                              " && document.querySelectorAll('canvas').length > 0")
                page.press("3")  # the table
                self.wait_for(page, "document.querySelectorAll('td').length > 9")
                found = page.evaluate(
                    "[...document.querySelectorAll('tr')].slice(1).map(row => "
                    "[...row.querySelectorAll('td')].map(cell => cell.innerText.trim()))")
        return {name: tuple(text.rsplit(" (", 1)[0] for text in figures)
                for *figures, name in filter(None, found)}

    def wait_for(self, page, condition):
        end = time.monotonic() + TIMEOUT
        while not page.evaluate(condition):
            self.assertLess(time.monotonic(), end, condition)
            time.sleep(0.05)

    def test_collapsed_stacks(self):
        rows = self.rows("collapsed")
        self.assertEqual(rows["take"], ("12,600", "12,600"))
        self.assertEqual(rows["serve"], ("31,188", "0"))
        self.assertEqual(sum(int(own.replace(",", "")) for _total, own in rows.values()), NEW.size)

    def test_its_own_format(self):
        rows = self.rows("speedscope")
        self.assertEqual(rows["take"], ("12.30 KB", "12.30 KB"))
        self.assertEqual(rows["serve"], ("30.46 KB", "0 B"))
        self.assertEqual(rows["main"], ("32.90 KB", "0 B"))

    def test_pprof(self):
        rows = self.rows("pprof")
        self.assertEqual(rows["main"], ("32.90 KB", "0 B"))
        # Of inlined calls it shows the function that contains them.
        self.assertEqual(rows["pool_get"], ("12.30 KB", "12.30 KB"))


if __name__ == "__main__":
    unittest.main()
