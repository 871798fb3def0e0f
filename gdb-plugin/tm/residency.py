"""What a process has in memory, from the text of /proc/PID/status (proc(5)), and
what of it the traced blocks explain.

Parsing and arithmetic alone: no gdb, no process.
"""

from typing import Any, Dict, List, Optional

from tm.statistics import format_size

_KEYS = {"VmRSS": "resident", "RssAnon": "anonymous", "RssFile": "files", "RssShmem": "shared",
         "VmSwap": "swapped"}


def parse(text: str) -> Optional[Dict[str, int]]:
    """Bytes by kind; None where the kernel does not tell them all."""
    found = {}
    for line in text.splitlines():
        name, _colon, value = line.partition(":")
        fields = value.split()
        if name in _KEYS and len(fields) == 2 and fields[0].isdigit() and fields[1] == "kB":
            found[_KEYS[name]] = int(fields[0]) * 1024
    return found if len(found) == len(_KEYS) else None


def document(pid: int, memory: Dict[str, int], status: Dict[str, Any]) -> Dict[str, int]:
    """The key "process" of `tm stats -json`.

    unexplained: anonymous memory, resident or swapped out, beyond the traced
    blocks and the tracer's tables; negative when many of their pages were never
    touched, and so are neither.
    """
    anonymous = memory["anonymous"] + memory["swapped"]
    return dict(memory, pid=pid, traced=status["current"], peak=status["peak"],
                helper_memory=status["helper_memory"],
                unexplained=anonymous - status["current"] - status["helper_memory"])


def lines(facts: Dict[str, int]) -> List[str]:
    """The same as text."""
    anonymous = facts["anonymous"] + facts["swapped"]
    size = {key: format_size(min(value, anonymous) if key in ("traced", "helper_memory") else value)
            for key, value in facts.items()}
    swapped = ", %s swapped out" % size["swapped"] if facts["swapped"] else ""
    text = ["Process %d: %s resident (%s anonymous, %s of files, %s shared)%s."
            % (facts["pid"], size["resident"], size["anonymous"], size["files"], size["shared"],
               swapped),
            "Of the anonymous memory, at most %s are traced blocks (peak %s), and at most %s the "
            "tracer's own tables." % (size["traced"], size["peak"], size["helper_memory"])]
    if facts["unexplained"] > 0:
        text.append("The other %s are blocks from before tracing, free memory and bookkeeping of "
                    "the allocator, stacks, static data." % size["unexplained"])
    return text
