"""Names addresses with tm's symbolizer, twice: symbols_tm.py OBJECT ADDRESS …

Prints the seconds of the second time.  Started by symbols.py, which measures the whole.
"""
import sys
import time

sys.path.insert(0, __file__.rsplit("/", 3)[0] + "/build")
import _tm  # noqa: E402

BIAS = 1 << 32

addresses = [BIAS + int(text, 16) for text in sys.argv[2:]]
symbolizer = _tm.Symbolizer()
symbolizer.add_module(sys.argv[1], BIAS, BIAS << 8, BIAS)
symbolizer.resolve(addresses)
began = time.monotonic()
symbolizer.resolve(addresses)
print(time.monotonic() - began)
