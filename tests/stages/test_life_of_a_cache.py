"""Whatever happens to a cache, in whatever order: nothing is lost that was done, and nothing wrong is read in silence.

STILLROOM_LONG=1 runs 200 lives of 50 steps, as is done nightly.
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trials import plaincache
from trials.dying import dying_after
from trials.life import SHARDS, Life, as_new

from stillroom.storage.cache.cache import Cache
from stillroom.storage.errors import StillroomError
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest

LONG = bool(os.environ.get("STILLROOM_LONG"))
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class LifeOfACache(RuleBasedStateMachine):
    """The model: which tasks have a record, which objects were harmed, and logits as pure functions."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.life = Life(self.folder)
        self.done: set[tuple[str, str]] = set()

    def teardown(self) -> None:
        self.life.mend()
        self._as_new()
        shutil.rmtree(self.folder)

    @property
    def healthy(self) -> bool:
        return not self.life.still_harmed()

    # Work

    @rule(share=st.integers(1, 8), order=st.randoms(use_true_random=False))
    def work(self, share, order):
        """Some of the tasks that can be done now: of ingest, seeds or teachers."""
        ready = self.life.next_tasks()
        for task in order.sample(ready, min(share, len(ready))):
            self._attempt(task)

    @rule(after=st.integers(0, 45), order=st.randoms(use_true_random=False))
    def die_in_the_middle(self, after, order):
        ready = self.life.next_tasks()
        if ready:
            task = order.choice(ready)
            with dying_after(after):
                self._attempt(task)
            if task in self.life.done():
                self.done.add(task)

    def _attempt(self, task):
        try:
            self.life.do(task)
        except StillroomError as error:
            self._names_what_is_wrong(error)
        else:
            self.done.add(task)

    @precondition(lambda self: self.life.views < 6)
    @rule()
    def grow_by_a_block(self):
        self.life.views += plaincache.BLOCK

    @precondition(lambda self: len(self.life.teachers) < 2)
    @rule()
    def add_a_teacher(self):
        self.life.teachers = (*self.life.teachers, "second")

    # Faults

    @rule(which=st.integers(0, 10**6), at=st.integers(0, 10**6), bit=st.integers(0, 7))
    def corrupt_a_byte(self, which, at, bit):
        objects = [item for item in self.life.objects() if item not in self.life.harmed]
        if objects:
            self.life.corrupt(objects[which % len(objects)], at, bit)

    @rule(which=st.integers(0, 10**6))
    def delete_an_object(self, which):
        objects = [item for item in self.life.objects() if not item[1].startswith("ledger/")]
        if objects:
            self.life.delete(objects[which % len(objects)])

    @rule(which=st.integers(0, 10**6))
    def delete_a_record(self, which):
        """But not one of several layouts: what is there then may have the form of the one that is gone."""
        done = sorted(self.done)
        layouts = [task for _, task in done if "/layout/" in task]
        done = [item for item in done if item[1] not in layouts or len(layouts) <= len(self.life.teachers)]
        if done:
            holding, task = done[which % len(done)]
            self.life.delete((holding, Ledger(self.life.place(holding)).name(task)))
            self.done.discard((holding, task))

    # Care

    @rule()
    def collect_garbage(self):
        before = self.life.done()
        for item in self.life.garbage():
            assert not item.kept or not self.healthy, item
        assert self.life.done() == before

    @rule()
    def repair(self):
        redo = {failure.redo for failure in self.life.verify() if failure.redo}
        self.life.repair(redo)
        self.done -= redo
        assert self.healthy, "a repair leaves no record that lists something harmed"

    @rule()
    def mend(self):
        self.life.mend()
        self.done = self.life.done()
        self._as_new()

    def _as_new(self):
        assert self.life.verify() == []
        assert self.life.content() == as_new(self.life.views, self.life.teachers)

    # What holds at all times

    @invariant()
    def tasks_are_done_or_not_as_the_model_says(self):
        assert self.life.done() == self.done

    @invariant()
    def no_record_is_for_data_that_is_not_there(self):
        harmed = self.life.still_harmed()
        forms = {}
        for holding, task in self.done:
            ledger = Ledger(self.life.place(holding))
            if (holding, ledger.name(task)) not in harmed:
                for name, written in ledger.get(task).objects.items():
                    forms.setdefault((holding, name), []).append(written)
        for (holding, name), written in forms.items():
            if (holding, name) not in harmed and not (harmed and name.endswith("zarr.json")):
                assert ObjectDigest.of(self.life.place(holding).read(name)) in written, name

    @invariant()
    def verify_fails_exactly_where_something_is_harmed(self):
        harmed = {f"{holding}: {name}" for holding, name in self.life.still_harmed()}
        found = {failure.where for failure in self.life.verify()}
        assert harmed <= found
        # Behind a layout's damaged record, what it alone lists is of a form that no other record knows.
        assert all(where in harmed or (harmed and where.endswith("zarr.json")) for where in found)

    @invariant()
    def a_reader_gets_the_teachers_logits_or_is_told_what_is_wrong(self):
        whole = self.healthy
        try:
            cache = Cache(self.life.place("cache"))
            for teacher in cache.teachers:
                self._read(cache, teacher, whole)
        except StillroomError as error:
            self._names_what_is_wrong(error)

    def _read(self, cache, name, whole):
        teacher = cache.teacher(name)
        for shard in SHARDS:
            assert np.array_equal(cache.seeds(shard), plaincache.seeds_of(shard))
            for view in range(0, teacher.views, plaincache.BLOCK):
                task = ("cache", f"teachers/{name}/blocks/{shard:06d}.{view // plaincache.BLOCK:06d}")
                try:
                    logits = teacher.logits(shard, view)
                except StillroomError as error:
                    assert not whole or task not in self.done, error  # noqa: PT017 others than this are as good
                    self._names_what_is_wrong(error)
                else:
                    assert task in self.done
                    assert np.array_equal(logits, plaincache.logits_of(shard, view, name))

    def _names_what_is_wrong(self, error):
        """The object that was harmed, or the task that is not done."""
        wrong = [name for _, name in self.life.still_harmed()]
        undone = [task.rpartition("/")[2] for holding, task in self.life.tasks() if (holding, task) not in self.done]
        said = str(error)
        assert wrong or undone, said
        blocks = [
            f"/{int(shard)}/{int(block)}/0" for shard, _, block in (name.partition(".") for name in undone) if block
        ]
        assert any(name in said for name in (*wrong, *undone, *blocks)) or "run `stillroom" in said, said


TestLifeOfACache = pytest.mark.slow(LifeOfACache.TestCase)
TestLifeOfACache.settings = settings(
    max_examples=int(os.environ.get("N", "200")) if LONG else 25,
    stateful_step_count=50 if LONG else 30,
    deadline=None,
    # Each night other lives; a failing one is printed as code.
    derandomize=not LONG,
    phases=[Phase.generate],
)
