"""What is freed is kept: seen by the pages that the system had to give anew, in processes of their own."""

import os
import platform
import resource
import subprocess
import sys

import pytest

from stillroom.pipeline.device.malloc import keep_freed_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")

PAGES_OF_ROUNDS = """
import resource, threading
import torch
from stillroom.pipeline.device.malloc import keep_freed_memory
said = keep_freed_memory()
def rounds():
    for megabytes in (1, 20, 70):  # below, and far above, what glibc would take from the heap by itself
        torch.ones(megabytes * 2**18)
def pages():
    rounds()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(30):
        rounds()
    print(said, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=pages)
thread.start() if {threaded} else pages()
"""


def pages(threaded=False, **environment):
    """Whether memory is kept, and what share of the pages of thirty rounds of tensors the system had to give."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PAGES_OF_ROUNDS.replace("{threaded}", str(threaded))]
    ended = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    said, number = ended.stdout.split()
    return said == "True", int(number) / (30 * 91 * 2**20 / resource.getpagesize())


@pytest.mark.slow
@pytest.mark.parametrize("threaded", [False, True])
def test_freed_memory_is_used_again(threaded):
    kept, share = pages(threaded)
    assert kept
    assert share < 0.4  # a heap takes some rounds to settle


@pytest.mark.slow
def test_what_dask_sets_for_its_workers_is_not_a_persons_wish():
    kept, share = pages(MALLOC_TRIM_THRESHOLD_="65536")
    assert kept
    assert share < 0.4  # a heap takes some rounds to settle


@pytest.mark.slow
def test_the_pages_tell():
    kept, share = pages(MALLOC_TRIM_THRESHOLD_="65537")
    assert not kept
    assert share > 0.9


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "2"},
        {"MALLOC_MMAP_THRESHOLD_": "1048576"},
        {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
        {"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"},
        {"LD_PRELOAD": "libtcmalloc.so.4"},
    ],
)
def test_a_person_who_has_chosen_is_left_alone(environment):
    assert not keep_freed_memory(environment)
