"""The snapshots of this session, by name.

May use: the standard library and tm.errors.  Must never import gdb, nor look
into a snapshot: it only keeps them.
"""

from typing import Any, Dict, List, Optional, Sequence

from tm.errors import TmError

NOW = "now"  # stands for a fresh snapshot wherever a name may stand


class Registry:
    """Named snapshots in the order in which they were taken."""

    def __init__(self) -> None:
        self._snapshots: Dict[str, Any] = {}
        self._reserved = {NOW}
        self._last_number = 0

    def reserve(self, words: Sequence[str]) -> None:
        """Words that mean something else where a name may stand."""
        self._reserved.update(words)

    def check_name(self, name: str) -> None:
        if name in self._reserved:
            raise TmError('"%s" cannot name a snapshot: it has a meaning of its own.' % name)
        if not name or name.startswith("-") or any(letter.isspace() for letter in name):
            raise TmError("The name of a snapshot must be a word that does not begin with a dash.")
        if name in self._snapshots:
            raise TmError('There is a snapshot "%s" already: choose another name, or use '
                          '"tm delete %s" first.' % (name, name))

    def next_name(self) -> str:
        """1, 2, 3 …: a number is never given twice."""
        number = self._last_number + 1
        while str(number) in self._snapshots:
            number += 1
        return str(number)

    def add(self, snapshot: Any, name: Optional[str] = None) -> str:
        if name is None:
            name = self.next_name()
            self._last_number = int(name)
        else:
            self.check_name(name)
        snapshot.name = name
        self._snapshots[name] = snapshot
        return name

    def get(self, name: str) -> Any:
        if name not in self._snapshots:
            raise TmError('No snapshot "%s": %s.' % (name, self.describe()))
        return self._snapshots[name]

    def delete(self, names: Sequence[str]) -> None:
        """All of them or, when one does not exist, none."""
        for name in names:
            self.get(name)
        for name in names:
            self._snapshots.pop(name, None)

    def last(self) -> Optional[Any]:
        """The one added last, or None."""
        return next(reversed(list(self._snapshots.values())), None)

    def names(self) -> List[str]:
        return list(self._snapshots)

    def all(self) -> List[Any]:
        return list(self._snapshots.values())

    def describe(self) -> str:
        """What there is, for an error message."""
        names = self.names()
        if not names:
            return 'there are none, "tm snapshot" takes one'
        if len(names) > 8:
            return "there are %s, …, %s" % (", ".join(names[:4]), ", ".join(names[-3:]))
        return "there %s %s" % ("is" if len(names) == 1 else "are", ", ".join(names))

    def __len__(self) -> int:
        return len(self._snapshots)


registry = Registry()
