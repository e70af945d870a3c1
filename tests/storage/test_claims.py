"""Claims: one holder at a time; taken over from the dead, and only from them; never brought back."""

import dataclasses
import threading

import pytest

from stillroom.storage.ledger.claims import Claim, Claims, Holder, beats_in, claims_in, confirm, holder_of
from stillroom.storage.ledger.ledger import Ledger, ObjectDigest, Record
from stillroom.storage.objects.local import LocalPlace
from stillroom.storage.objects.process_id import Process

LONG = 3600.0
ELSEWHERE = Holder(Process("elsewhere", "00000000", 7, 7), "token", 0.0)


@pytest.fixture
def place(tmp_path):
    return LocalPlace(tmp_path)


def test_a_claim_is_one_holders_until_it_is_given_back(place):
    one, other = Claims(patience=LONG), Claims(patience=LONG)
    with one.taken(place, "task") as claim:
        assert isinstance(claim, Claim)
        assert claim.held()
        assert isinstance(other.take(place, "task"), Holder)
        assert isinstance(other.take(place, "another task"), Claim)
    with other.taken(place, "task") as claim:
        assert isinstance(claim, Claim)


def test_of_many_at_once_one_gets_it(place):
    taken = []
    start = threading.Barrier(8)

    def take():
        start.wait()
        taken.append(Claims(patience=LONG).take(place, "task"))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(item, Claim) for item in taken) == 1


def test_a_claim_of_a_process_that_has_ended_is_taken_at_once(place):
    here = Process.here()
    dead = Holder(dataclasses.replace(here, started=here.started + 1), "token", 0.0)
    place.create("ledger/task.claim", dead.to_json())
    assert isinstance(Claims(patience=LONG).take(place, "task"), Claim)


def test_a_claim_of_another_machine_is_taken_when_it_has_given_no_sign_for_as_long_as_we_watched(place, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("stillroom.storage.ledger.claims.time.monotonic", lambda: now)
    place.create("ledger/task.claim", ELSEWHERE.to_json())
    claims = Claims(patience=120.0)
    for count in range(5):  # it lives, so it is never taken
        place.write("ledger/task.beat", dataclasses.replace(ELSEWHERE, count=count).to_json())
        for _ in range(3):
            assert isinstance(claims.take(place, "task"), Holder)
            now += 100.0 / 3
    assert isinstance(claims.take(place, "task"), Holder)
    now += 121.0
    taken = claims.take(place, "task")
    assert isinstance(taken, Claim)
    taken.release()  # else its beat would be seen by whatever test runs 20 s later


def test_a_claim_that_cannot_be_read_is_taken_after_the_same_time(place, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("stillroom.storage.ledger.claims.time.monotonic", lambda: now)
    place.create("ledger/task.claim", b"")
    claims = Claims(patience=120.0)
    assert isinstance(claims.take(place, "task"), Holder)
    now += 121.0
    assert isinstance(claims.take(place, "task"), Claim)


class HaltedPlace(LocalPlace):
    """Writes nothing until it is told to: a process that is stopped just before it writes."""

    def __init__(self, root):
        super().__init__(root)
        self.come, self.go = threading.Event(), threading.Event()

    def write(self, name, data):
        self.come.set()
        self.go.wait()
        super().write(name, data)


def test_a_holder_that_wakes_up_in_the_midst_of_a_sign_of_life_does_not_get_its_claim_back(tmp_path, place):
    halted = HaltedPlace(tmp_path)
    claim = Claims(beat=0.01).take(halted, "task")
    assert halted.come.wait(60)
    place.delete("ledger/task.claim")  # as one does who takes it over
    with Claims(patience=LONG).taken(place, "task") as other:
        claim._over.set()
        halted.go.set()
        claim._thread.join()
        assert not claim.held()
        assert other.held()
    assert not claim.held()
    claim.release()
    assert list(beats_in(place)) == ["task"], "gc removes it"


def test_signs_of_life_are_seen_and_go_with_the_claim(place):
    with Claims(beat=0.01).taken(place, "task"):
        while holder_of(place, "task").count < 3:
            pass
        assert list(beats_in(place)) == []
    assert list(place.list()) == []


def test_a_claim_that_is_being_written_is_no_claim(place):
    place.write(f"ledger/.partial-{Process.here().short()}-abcdef-task.claim", ELSEWHERE.to_json())
    assert claims_in(place) == {}


@pytest.mark.parametrize("lost", [False, True])
def test_a_record_of_mixed_objects_is_dropped_by_a_writer_that_has_lost_its_claim(place, lost):
    with Claims(patience=LONG).taken(place, "task") as claim:
        place.write("object", b"mine")
        Ledger(place).put(Record("task", "", {"object": ObjectDigest.of(b"mine")}))
        if lost:
            place.delete("ledger/task.claim")
            place.write("object", b"another's")
        assert claim.settle("task") is not lost
        assert Ledger(place).has("task") is not lost


def test_confirming_a_task_that_is_not_done_says_so(place):
    assert not confirm(place, "task")
