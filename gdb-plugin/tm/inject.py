"""The steps that change the process, in their order, and how each is undone.

First the plan, on the process as it is; then the helper, the relays, the
canary; last the jumps.  Runs inside inferior.quiet_session, with the thread
selected that makes the calls.
"""

import os
from typing import List, Optional

import _tm

from . import exceptions, helper, inferior, maps, objects, patches, shortway, threadwords
from .errors import TmError
from .sampling import Sampling


def plan_all(functions, mappings, found: Optional[helper.Helper]) -> patches.Plan:
    """The complete plan; refuses what must not be done, before anything is."""
    plan = patches.Plan(mappings, patches.PatchList(found) if found else None)
    for function in functions:
        plan.add(function)
    plan.check_breakpoints()
    if plan.refused and not plan.new and not plan.again:
        raise TmError(f"No allocator function can be redirected ({plan.refused[0]}).")
    return plan


class Injection:
    """One start, or one addition to a process that is being traced."""

    def __init__(self, found: Optional[helper.Helper], files: List[maps.MappedFile],
                 functions: List[patches.Function]):
        self.helper = found
        self.files = files
        self.functions = functions
        self.patches: Optional[patches.PatchList] = None
        self.indexes: List[int] = []
        self.moved: List[patches.MovedThread] = []

    def start(self, limit: int, chosen: Sampling) -> None:
        """From a process without helper, or with an idle one, to a traced one."""
        if self.helper is None:
            self.helper = helper.load()
        objects.be_quiet_where_filtered(self.helper)
        # Whoever loaded the helper may have been killed before the canaries were redirected.
        self.functions = self.functions + _canaries(self.helper)
        # The helper's own mapping changed the map: the final plan is made on the new one.
        mappings = inferior.memory_map()
        self._write_relays(mappings)
        own = self.indexes_of_canaries()
        patches.activate(self.patches, own)
        self.indexes = [index for index in self.indexes if index not in own]
        exceptions.register(self.helper, self.files)
        with inferior.with_thread_pointer(self.helper.symbol("tm_frame_object")):
            step = self.helper.call("tm_control_canary", what="run the canary")
        if step:
            raise TmError(
                f"A redirected call was not recorded as it should be (step {step} of the canary): "
                "the program is left as it was."
            )
        self._activate(mappings, self._short_ways(chosen))
        objects.tell(self.helper, self.files)
        seed = int.from_bytes(os.urandom(8), "little") if chosen.seed is None else chosen.seed
        self.helper.call("tm_control_start", limit, chosen.period, chosen.min_size, seed,
                         what="start tracing")
        objects.tell_modules(self.helper)
        self.helper.header = self.helper.read_header()
        if not self.helper.is_tracing:
            raise TmError("The helper did not start tracing.")

    def add(self) -> None:
        """Redirects further functions of a traced process."""
        mappings = inferior.memory_map()
        self._write_relays(mappings)
        self._activate(mappings)

    def _write_relays(self, mappings: List[maps.Mapping]) -> None:
        plan = plan_all(self.functions, mappings, self.helper)
        self.patches = patches.PatchList(self.helper)
        patches.map_regions(self.helper, plan, self.patches)
        self.indexes = patches.write_relays(self.helper, plan, self.patches)

    def _activate(self, mappings: List[maps.Mapping],
                  ways: Optional[shortway.Ways] = None) -> None:
        self.moved = patches.move_threads(self.patches, self.indexes, mappings)
        patches.activate(self.patches, self.indexes, ways)

    def _short_ways(self, chosen: Sampling) -> Optional[shortway.Ways]:
        if chosen.period == 0 or chosen.min_size:
            return None
        place = self.helper.call("tm_control_reserve", what="start tracing")
        return shortway.Ways(place, threadwords.claim(self.helper, self.files))

    def own_code(self) -> range:
        """The helper's own image: its canaries stay redirected."""
        return range(self.helper.header["image_start"], self.helper.header["image_end"])

    def indexes_of_canaries(self) -> List[int]:
        """Which of the patches redirect the helper's own functions."""
        own = self.own_code()
        return [i for i in self.indexes if self.patches.patches[i]["function"] in own]

    def roll_back(self) -> None:
        """The process as it was: no jump, every program counter in its place."""
        if self.helper is None or self.patches is None:
            return
        try:
            patches.restore(self.patches, keep=self.own_code())
        finally:
            patches.undo_moves(self.moved)
            if self.helper.read_header()["state"] == _tm.layout["STATE_TRACING"]:
                self.helper.call("tm_control_stop", what="stop tracing")
            self.helper.write_field("state", _tm.layout["STATE_IDLE"])

    def undo_added(self) -> None:
        """Takes back what add() did; what was traced before goes on."""
        if self.patches is None:
            return
        try:
            patches.restore(self.patches, only=self.indexes)
        finally:
            patches.undo_moves(self.moved)


def _canaries(loaded: helper.Helper) -> List[patches.Function]:
    header = loaded.header
    module = maps.MappedFile("", header["image_start"], header["image_end"])
    return [
        patches.Function(name, loaded.symbol(name), 0, module, patches.FUNCTIONS[like], 0)
        for name, like in (("tm_canary_alloc", "malloc"), ("tm_canary_free", "free"))
    ]
