"""The HTML report: what is in the file, and what it does in a headless Chromium.

May use the standard library, tm and _tm.  Must never need gdb.  Without Debian's
chromium (300 MB, so nobody is asked to have it) what needs a browser is skipped.
"""

import json
import os
import random
import re
import shutil
import tempfile
import unittest
import unittest.mock

import browser
import tm
from tm.exports import folding, html
from tm.statistics import format_size
from tm.tracebacks import Frame

HOSTILE = ("</script><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\"'`${alert(3)}"
           "\u202e\u2028\udcff<!--\0&lt;\\u003cb>{{style}}\n")


def frame(filename, lineno, function, module="/bin/server", inlined=False, line=None):
    made = Frame(filename, lineno, function, module, None, inlined)
    made.line = line
    return made


MAIN = frame("/src/main.c", 12, "main", line="serve(listener);")
SERVE = frame("/src/serve.c", 20, "serve", line="buffer = pool_get(size);")
ACCEPT = frame("/src/serve.c", 40, "accept_one", line="session = calloc(1, sizeof *session);")
POOL = frame("/src/pool.c", 9, "pool_get", line="return take(pool, size);")
TAKE = frame("/src/pool.h", 3, "take", inlined=True, line="return malloc(size);")
PARSE = frame("/src/json.cc", 210, "json::parse(std::string const&)", "/lib/libjson.so")
STRIPPED = Frame("x.so+0x1234", 0, None, "/lib/x.so", None, has_line=False)
EVIL = frame("/src/%s.c" % HOSTILE, 1, HOSTILE, "/lib/%s" % HOSTILE, line=HOSTILE)


def snapshot(*traces, name="1"):
    """Of (size, count, frames most recent first)."""
    made = tm.Snapshot.from_traces([(0, size, frames, len(frames))
                                    for size, count, frames in traces for _ in range(count)], 10)
    made.pid, made.name = 42, name
    return made


NEW = snapshot((126, 100, (TAKE, POOL, SERVE, MAIN)), (4096, 3, (ACCEPT, SERVE, MAIN)),
               (900, 7, (PARSE, SERVE, MAIN)), (900, 2, (PARSE, PARSE, PARSE, MAIN)),
               (700, 1, (EVIL, MAIN)), (50, 2, (STRIPPED,)))
OLD = snapshot((126, 40, (TAKE, POOL, SERVE, MAIN)), (4096, 5, (ACCEPT, SERVE, MAIN)),
               (900, 7, (PARSE, SERVE, MAIN)), (333, 3, (PARSE, MAIN)), name="0")


def page(path):
    """The text of the file, and the document in it."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return text, json.loads(data.group(1))


def many_paths(seed, count=3000):
    """A heap whose report must be folded to fit into a few kilobytes."""
    pick = random.Random(seed)
    frames = [frame("/src/unit%d.cc" % (number % 7), number, "method%d" % number)
              for number in range(400)]
    made = snapshot(*[(pick.randrange(1, 40) ** 3, pick.randrange(1, 4),
                       (*pick.choices(frames, k=pick.randrange(1, 5)), SERVE, MAIN))
                      for _ in range(count)], name=str(seed))
    return made


def export_small(path, new, old=None):
    """The report with little room."""
    with unittest.mock.patch.object(html, "BYTES_AT_MOST", 30_000), \
            unittest.mock.patch.object(html, "NODES_AT_LEAST", 10), \
            unittest.mock.patch.object(folding, "ROWS", 100):
        new.export("html", path, old)


class File(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "heap.html")

    def test_totals(self):
        NEW.export("html", self.path)
        data = page(self.path)[1]
        sums = [sum(data["values"][place::3]) for place in (1, 2)]
        self.assertEqual(sums, [NEW.size, NEW.blocks])
        self.assertEqual([sum(each[3] for each in data["sizes"]),
                          sum(each[2] for each in data["sizes"])], sums)
        self.assertEqual(data["domains"], [["domain 0 (malloc)", *sums]])

    def test_the_title_names_what_is_shown(self):
        for old, wanted in ((None, "Heap of process 42, snapshot 1"),
                            (OLD, "Heap of process 42, snapshot 1, compared with snapshot 0")):
            NEW.export("html", self.path, old)
            self.assertIn("<title>%s</title>" % wanted, page(self.path)[0])

    def test_totals_of_differences(self):
        NEW.export("html", self.path, OLD)
        text, data = page(self.path)
        self.assertEqual([sum(data["values"][place::5]) for place in range(1, 5)],
                         [NEW.size, NEW.blocks, OLD.size, OLD.blocks])
        self.assertIn(format_size(NEW.size - OLD.size, True), text)

    def test_hostile_names_stay_text(self):
        for old in (None, OLD):
            snapshot((700, 1, (EVIL, MAIN)), name=HOSTILE).export("html", self.path, old)
            text, data = page(self.path)
            self.assertEqual(text.count("<script"), 2)
            self.assertEqual(text.count("</script"), 2)
            self.assertEqual(text.count("<img"), 0)
            self.assertNotRegex(text, "[\0-\x09\x0b-\x1f\x7f\u202e\u2028]")
            self.assertTrue(any("</script>" in name for name in data["names"]))

    def test_it_needs_nothing_from_elsewhere(self):
        NEW.export("html", self.path)
        text = page(self.path)[0]
        self.assertNotRegex(text, r"https?://|<[^>]*src=|@import|url\(")
        self.assertIn("default-src 'none'", text)

    def test_it_is_small_for_a_large_heap(self):
        pick = random.Random(7)
        frames = [frame("/usr/src/server-5.1/modules/unit%d/source.cc" % (number % 300), number,
                        "server::module::Class%d::method(std::string const&, int)" % number)
                  for number in range(6000)]
        paths = [()]
        while len(paths) < 25000:  # a tree of call paths
            parent = pick.choice(paths)
            if len(parent) < 25:
                paths.append((pick.choice(frames), *parent))
        large = tm.Snapshot.from_traces([(0, pick.randrange(16, 9000), path, len(path))
                                         for path in paths[1:]], 25)
        large.export("html", self.path)
        self.assertLess(os.path.getsize(self.path), 1000 * 1000)

    def test_folding_keeps_totals_and_tables(self):
        new, old = many_paths(1), many_paths(2)
        for before in (None, old):
            export_small(self.path, new, before)
            self.assertLess(os.path.getsize(self.path), 90_000)
            data = page(self.path)[1]
            width = 3 if before is None else 5
            self.assertEqual([sum(data["values"][place::width]) for place in range(1, width)],
                             [new.size, new.blocks, old.size, old.blocks][:width - 1])
            folded = data["folded"]
            self.assertGreater(folded["paths"], 1000)
            self.assertLess(folded["share"], 0.01)
            for name, key_type in (("line", "lineno"), ("function", "function"),
                                   ("module", "module")):
                table = folded["tables"][name]
                sums = [sum(row[place] for row in table["rows"]) + table["others"][place]
                        for place in range(1, width)]
                self.assertEqual(sums, [new.size, new.blocks, old.size, old.blocks][:width - 1])
                largest = max(table["rows"], key=lambda row: row[1])
                if before is None:
                    wanted = new.groups(key_type)[0]
                    self.assertEqual(largest[1:3], [wanted.size, wanted.count])
                else:
                    changes = [each.size_diff for each in new.compare_to(old, key_type)]
                    self.assertEqual((table["grown"], table["shrunk"]),
                                     (sum(each for each in changes if each > 0),
                                      sum(each for each in changes if each < 0)))


@unittest.skipUnless(browser.CHROMIUM, "Chromium is not installed: Debian package chromium")
class InTheBrowser(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.browser = cls.enterClassContext(browser.Browser())
        cls.plain = os.path.join(cls.folder, "plain.html")
        cls.differences = os.path.join(cls.folder, "differences.html")
        NEW.export("html", cls.plain)
        NEW.export("html", cls.differences, OLD)

    def setUp(self):
        self.page = self.browser
        self.addCleanup(self.keep_a_picture)
        self.page.problems.clear()
        self.page.open(self.plain)

    def tearDown(self):
        self.assertEqual(self.page.problems, [])

    def keep_a_picture(self):
        """TM_TEST_PICTURES=FOLDER: what each test saw last, to be looked at."""
        folder = os.environ.get("TM_TEST_PICTURES")
        if folder:
            self.page.screenshot(os.path.join(folder, self.id().split(".")[-1] + ".png"))

    def labels(self, selector=".frame[role]"):
        return self.page.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})]"
                                  ".map(each => each.getAttribute('aria-label'))")

    def column(self, number):
        return self.page.texts(f"#table tbody td:nth-child({number})")

    def click_frame(self, label):
        self.page.evaluate("document.querySelectorAll('.frame[role]').forEach(each => each.id = "
                           f"each.getAttribute('aria-label').startsWith({json.dumps(label)}) "
                           "? 'wanted' : '')")
        self.page.click("#wanted")

    def test_table_is_tm_top(self):
        for kind, key_type in (("line", "lineno"), ("function", "function"),
                               ("module", "module")):
            self.page.click(f"button[data-value={kind}][data-set=table]")
            wanted = [(format_size(each.size), f"{each.count:,}")
                      for each in NEW.groups(key_type)]
            shown = list(zip(self.column(1), self.column(2)))
            self.assertEqual(shown[:len(wanted)], wanted, kind)
            self.assertEqual({size for size, _count in shown[len(wanted):]} - {"0 B"}, set())
            under = {format_size(each.size) for each in NEW.groups(key_type, cumulative=True)}
            self.assertEqual(set(self.column(4)), under)

    def test_sorting(self):
        heads = self.page.texts("#table th")
        self.assertEqual(heads[:5], ["Size", "Blocks", "Average", "With callees", "Where"])
        self.page.click("#table th:nth-child(2) button")
        counts = [int(text) for text in self.column(2)]
        self.assertEqual(counts, sorted(counts, reverse=True))
        self.page.press("Enter")  # the head that was clicked has the focus
        self.assertEqual([int(text) for text in self.column(2)], sorted(counts))
        self.assertEqual(self.page.evaluate(
            "document.querySelector('#table th:nth-child(2)').getAttribute('aria-sort')"),
            "ascending")

    def test_zoom(self):
        self.assertTrue(self.labels()[0].startswith("all, 33.0 KiB, 100.0 %"), self.labels())
        self.click_frame("serve,")
        width = self.page.evaluate("document.activeElement.getBoundingClientRect().width /"
                                   "document.querySelector('#graph').clientWidth")
        self.assertAlmostEqual(width, 1, 3)
        self.assertFalse(any(label.startswith("x.so") for label in self.labels()))
        self.page.click("#reset")
        self.assertTrue(any(label.startswith("x.so+0x1234") for label in self.labels()))

    def test_search(self):
        self.page.press("/")
        self.page.type("JSON::")
        self.assertEqual(len(self.labels(".frame.match")), 4)
        share = 100 * 8100 / NEW.size
        self.assertEqual(self.page.text("#found"), "4 frames, 8100 B (%.1f %%)" % share)
        self.assertEqual(self.column(5), ["/src/json.cc:210"])
        self.page.press("Escape")
        self.assertEqual(self.labels(".frame.match"), [])
        self.assertEqual(self.page.text("#found"), "")

    def test_invert_and_blocks(self):
        self.page.press("i")
        level = [label.split(",")[0] for label in self.labels(".frame[aria-level='2']")]
        self.assertEqual(sorted(level[:3]), ["accept_one", "json::parse(std::string const&)",
                                             "take"])
        self.page.press("b")
        self.assertTrue(self.labels()[0].startswith("all, 115 blocks, 100.0 %"))
        take = next(label for label in self.labels() if label.startswith("take,"))
        self.assertEqual(take, "take, 100 blocks, 87.0 %")

    def test_keyboard_walks_the_graph(self):
        self.page.evaluate("document.querySelector('.frame[tabindex=\"0\"]').focus()")
        focused = "document.activeElement.getAttribute('aria-label').split(',')[0]"
        for key, name in (("ArrowDown", "main"), ("ArrowDown", "serve"), ("ArrowDown", "pool_get"),
                          ("ArrowRight", "accept_one"), ("ArrowLeft", "pool_get"),
                          ("ArrowUp", "serve"), ("Enter", "serve")):
            self.page.press(key)
            self.assertEqual(self.page.evaluate(focused), name, key)
        self.assertIn("serve", self.page.text("#details"))
        self.page.press("Escape")
        self.assertEqual(self.page.evaluate(focused), "main")

    def test_lines_show_their_source(self):
        self.page.click("button[data-value=line][data-set=by]")
        self.click_frame("take (pool.h:3),")
        details = self.page.text("#details")
        for text in ("take (inlined)", "/src/pool.h:3", "in /bin/server", "return malloc(size);",
                     "12.3 KiB"):
            self.assertIn(text, details)
        self.assertIn("return malloc(size);", self.column(6))

    def test_hostile_names_are_only_shown(self):
        self.page.click("button[data-value=module][data-set=table]")
        self.assertTrue(any("<img src=x onerror=alert(2)>\\x1b[31m" in text
                            for text in self.column(5)), self.column(5))
        self.assertEqual(self.page.evaluate("document.querySelectorAll('img').length"), 0)

    def test_differences(self):
        self.page.open(self.differences)
        self.assertIn("(+%s" % format_size(NEW.size - OLD.size), self.page.text("#summary"))
        grown, shrunk = self.page.texts("#figures dd")[2:4]
        lines = NEW.compare_to(OLD, "lineno")
        self.assertEqual(grown, format_size(sum(max(0, each.size_diff) for each in lines), True))
        self.assertEqual(shrunk.replace("\u2212", "-"),
                         format_size(sum(min(0, each.size_diff) for each in lines), True))
        colours = dict(self.page.evaluate(
            "[...document.querySelectorAll('.frame[role]')].map(each => "
            "[each.getAttribute('aria-label').split(',')[0], each.style.getPropertyValue('--h')])"))
        self.assertEqual((colours["take"], colours["accept_one"]), ("8", "215"))
        sizes = [text.replace("\u2212", "-") for text in self.column(2)]
        self.assertEqual(sizes[:3], [format_size(each.size_diff, True) for each in lines[:3]])
        self.page.click("button[data-value='1'][data-set=change]")
        self.assertIn("bytes that came or went", self.page.text("#legend"))
        self.assertFalse(any(label.startswith("PARSE") for label in self.labels()))

    def test_what_is_too_narrow_is_counted(self):
        path = os.path.join(self.folder, "narrow.html")
        snapshot((10 ** 6, 1, (SERVE, MAIN)), *[
            (90, 1, (frame("/src/many.c", line, "many%d" % line), MAIN))
            for line in range(900)]).export("html", path)
        self.page.open(path)
        self.assertEqual(self.page.texts(".frame.narrow"), ["900 smaller"])
        self.assertEqual(len(self.labels()), 3)

    def test_what_is_folded_is_told(self):
        path, new = os.path.join(self.folder, "folded.html"), many_paths(1)
        for old in (None, many_paths(2)):
            export_small(path, new, old)
            self.page.open(path)
            self.assertRegex(self.page.text("#note"), r"^To keep the report small, [\d,]+ call "
                             r"paths that hold at most 0\.\d+ % of the bytes .* Totals and tables "
                             "count all")
            self.assertTrue(self.labels()[0].startswith("all, %s, 100.0 %%"
                                                        % format_size(new.size)))
            self.assertRegex(self.page.texts("#table tbody tr")[-1], r"\d others")
        export_small(path, new)
        self.page.open(path)
        self.page.click("button[data-value=function][data-set=table]")
        wanted = [format_size(each.size) for each in new.groups("function")[:20]]
        self.assertEqual(self.column(1)[:20], wanted)
        self.page.press("i")
        self.click_frame("smaller calls,")
        self.assertIn("too small to be shown one by one", self.page.text("#details"))
        self.page.press("/")
        self.page.type("smaller")
        self.assertEqual(self.page.text("#found"), "0 frames, 0 B (0.0 %)")

    def test_cut_tracebacks_are_told(self):
        self.assertEqual(self.page.text("#note"), "")
        path = os.path.join(self.folder, "cut.html")
        cut = tm.Snapshot.from_traces([(0, 10, (SERVE, MAIN)), (0, 10, (MAIN,), 1)], 2)
        cut.export("html", path)
        self.page.open(path)
        self.assertEqual(self.page.text("#note"), "The tracebacks of 1 of 2 blocks were cut at 2 "
                         "frames: what called the oldest one is not known.")

    def test_nothing_at_all(self):
        path = os.path.join(self.folder, "empty.html")
        tm.Snapshot.from_traces([]).export("html", path)
        self.page.open(path)
        self.assertEqual(len(self.labels()), 1)
        self.page.press("i")

    def test_it_fits_narrow_dark_and_paper(self):
        for path in (self.plain, self.differences):
            for width in (360, 800, 1920):
                for scheme in ("light", "dark"):
                    self.page.open(path, width, 900, scheme)
                    self.assertLessEqual(self.page.evaluate(
                        "document.documentElement.scrollWidth"), width)
        dark = self.page.evaluate("getComputedStyle(document.body).backgroundColor")
        self.page.appearance("light", "print")
        self.assertNotEqual(self.page.evaluate("getComputedStyle(document.body).backgroundColor"),
                            dark)
        self.page.pdf(os.path.join(self.folder, "paper.pdf"))
        self.page.appearance("light")

    def test_dhat_viewer_reads_its_export(self):
        viewer = "/usr/libexec/valgrind/dh_view.html"
        if not shutil.which("valgrind") or not os.path.exists(viewer):
            self.skipTest("valgrind is not installed, with its dh_view.html")
        path = os.path.join(self.folder, "dhat.json")
        NEW.export("dhat", path)
        with open(path) as file:
            document = file.read()
        self.page.open(viewer)
        self.page.evaluate(
            "(async () => { const input = document.querySelector('input[type=file]');"
            "const files = new DataTransfer();"
            f"files.items.add(new File([{json.dumps(document)}], 'dhat.json'));"
            "input.files = files.files; input.dispatchEvent(new Event('change'));"
            "await new Promise(done => setTimeout(done, 500)); })()")
        text = self.page.evaluate("document.body.innerText")
        self.assertIn(f"{NEW.size:,} bytes", text)
        self.assertIn(f"{NEW.blocks:,} blocks", text)
        self.assertIn("take (/src/pool.h:3)", text)


if __name__ == "__main__":
    unittest.main()
