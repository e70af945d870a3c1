"""Images that mean harm: every one gets a verdict, and none of them ends the process that asks for it."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from trials import hostile, images

from stillroom.pipeline.augment.recipe import centre_views
from stillroom.pipeline.images.container_check import outline
from stillroom.pipeline.images.sandbox import Quarantine
from stillroom.pipeline.images.verdict import Accepted, Rejected
from stillroom.pipeline.render.renderer import Renderer
from stillroom.pipeline.render.request import Request
from stillroom.storage.errors import DataError

GOOD = images.real()["jpeg"]
MAX_PIXELS = 10**8


def arrays(*files):
    return [np.frombuffer(data, np.uint8) for data in files]


@pytest.fixture
def quarantine():
    opened = []

    def make(**limits):
        opened.append(Quarantine(**limits))
        return opened[-1]

    yield make
    for item in opened:
        item.close()


@pytest.mark.slow
@pytest.mark.parametrize("others", [False, pytest.param(True, marks=pytest.mark.real_data)], ids=["made", "real"])
def test_hostile_images_get_a_verdict_each_in_time_and_memory_and_what_is_accepted_renders(others, request):
    row = hostile.measure(120, 1, request.getfixturevalue("real_data") / "hostile" if others else None)
    assert row.ok, row.notes


@pytest.mark.slow
def test_what_takes_too_long_is_rejected_with_the_reason(quarantine):
    slow = images.many_scans(9992, 9992, 199)
    found = quarantine(seconds=0.5).examine(arrays(slow), MAX_PIXELS)
    assert found == [Rejected("takes more than 0.5 s to decode")]


@pytest.mark.slow
def test_what_takes_too_much_memory_is_rejected_with_the_reason(quarantine):
    large = images.resized("jpeg", 9999, 9999)
    found = quarantine(memory=200_000_000).examine(arrays(large), MAX_PIXELS)
    assert found == [Rejected("takes more than 0.2 GB to decode")]


@pytest.mark.slow
def test_what_crashes_the_decoder_is_rejected_by_itself_and_the_rest_is_judged(quarantine):
    """A decoder that crashes at one image: whoever is still busy after some time is killed as a crash would."""
    asked, over = quarantine(), threading.Event()

    def crash():
        while not over.wait(0.01):
            pid = asked.pid
            if pid is not None and busy(pid) > 0.4:
                os.kill(pid, signal.SIGSEGV)

    crashing = threading.Thread(target=crash)
    crashing.start()
    slow = images.many_scans(9992, 9992, 199)
    try:
        found = asked.examine(arrays(slow, GOOD), MAX_PIXELS)
    finally:
        over.set()
        crashing.join()
    assert found == [Rejected("crashes the decoder (SIGSEGV)"), Accepted(64, 96)]


_since: dict[int, float] = {}


def busy(pid):
    """Seconds of computing since this was first asked, once the process has started."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used - _since.setdefault(pid, used)


@pytest.mark.slow
def test_a_process_that_was_killed_for_another_reason_is_no_reason_to_reject(quarantine):
    asked = quarantine()
    asked.examine(arrays(GOOD), MAX_PIXELS)
    slow = images.many_scans(9992, 9992, 150)
    first = asked.pid
    killer = threading.Timer(0.3, os.kill, (first, signal.SIGKILL))
    killer.start()
    assert asked.examine(arrays(slow, GOOD), MAX_PIXELS) == [Accepted(9992, 9992), Accepted(64, 96)]
    assert asked.pid != first, "it was killed"


@pytest.mark.slow
def test_the_process_ends_with_the_one_that_asks(quarantine):
    asked = quarantine()
    asked.examine(arrays(GOOD), MAX_PIXELS)
    process = asked._process
    process.stdin.close()
    assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ten thousand scans of almost too many pixels", "10001 scans"),
        ("png with a chunk of 4 GiB", "its chunk 'tEXt' claims 4294967295 bytes"),
        ("webp with a chunk of 4 GiB", "its chunk 'VP8X' claims 4294967295 bytes"),
    ],
)
def test_what_decoders_would_believe_is_found_before_they_see_it(name, said):
    assert said in outline(images.LIARS[name]()).fault


@pytest.mark.parametrize("name", [name for name in images.real() if name.endswith(("jpeg", "png", "webp"))])
def test_a_whole_image_has_no_fault(name):
    assert outline(images.real()[name]).fault == ""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (images.real()["jpeg"], 6),
        (images.real()["progressive.jpeg"], 9),
        (images.encoded(images.photo().convert("CMYK"), "JPEG", progressive=True), 11),
        (images.real()["png"], 6),
        (images.real()["sixteen.png"], 11),
        (images.png(8, 8, 16, 6), 17),
        (b"\xff\xd8\xff", 11),
    ],
)
def test_memory_is_reckoned_from_the_header(data, expected):
    assert outline(data).pixel_bytes == expected


@pytest.mark.slow
def test_an_image_of_many_bytes_a_pixel_is_held_to_fewer_pixels(quarantine):
    deep, shallow = images.png(9000, 9000, 16, 6), images.png(100_000, 1)
    first, second = quarantine().examine(arrays(deep, shallow), MAX_PIXELS)
    assert first.reason.startswith("its 9000 × 9000 pixels take 17 bytes each to decode; data.max_pixels (100000000)")
    assert "a side has at most 65535" in second.reason


def test_a_batch_that_does_not_render_names_the_image():
    """Whatever is rendered ahead: the image is the third of the sixth batch of eight."""
    names = [[f"sample {batch}/{place}" for place in range(4)] for batch in range(8)]
    views = centre_views(np.full(4, 64, np.int32), np.full(4, 96, np.int32), 1.0)

    def requests():
        for batch in range(8):
            files = [GOOD] * 4
            if batch == 5:
                files[2] = GOOD[:300]
            yield Request(arrays(*files), [views], names[batch].__getitem__)

    renderer = Renderer((16,), 4)
    with pytest.raises(DataError, match="DALI could not render sample 5/2: "):
        list(renderer.stream(requests()))
    good = Request(arrays(GOOD), [views.take(np.array([0]))])
    assert renderer.render(good)[0].shape == (1, 1, 16, 16, 3)


def test_a_name_stays_with_its_image_where_a_request_is_cut():
    views = centre_views(np.full(5, 64, np.int32), np.full(5, 96, np.int32), 1.0)
    whole = Request(arrays(*[GOOD] * 4, GOOD[:300]), [views], lambda place: f"number {place}")
    parts = whole.cut(np.full(5, 64 * 96), 2)
    with pytest.raises(DataError, match="number 4"):
        list(Renderer((16,), 2).stream(parts))
