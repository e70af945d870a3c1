"""Every stage comes to one process's bytes, as array jobs and on Dask; where each worker builds its model once."""

from pathlib import Path

import distributed
import pytest
from trials import daskhooks

STAGES = ("ingest", "seeds", "teacher", "verify", "student", "report")


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """Where workers note what they build."""
    return tmp_path_factory.mktemp("builds")


@pytest.fixture(scope="module")
def cluster(builds):
    """A running cluster of two processes."""
    with (
        pytest.MonkeyPatch.context() as patch,
        distributed.LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=None,
            preload=[daskhooks.__file__],
            env={"STILLROOM_BUILDS": str(builds)},
        ) as found,
    ):
        tests = Path(daskhooks.__file__).parents[1]
        patch.setenv("PYTHONPATH", f"{tests.parent}:{tests}")
        found.scale(2)
        found.wait_for_workers(2)
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["array of 3", "dask"])
def test_every_stage_comes_to_the_bytes_of_one_process(array, executor, request):
    array.begin_after(None)
    for stage in STAGES:
        if executor == "array of 3":
            array.in_turn(stage, (2, 0, 1), 3)
        else:
            scheduler = request.getfixturevalue("cluster").scheduler_address
            assert array.tiny.do(array.command(stage, "--dask", scheduler)) == 0, array.tiny.log()
        assert not array.wrong(stage), stage


@pytest.mark.slow
def test_a_worker_builds_its_model_and_renderer_once_and_keeps_them_no_longer_than_the_stage(array, cluster, builds):
    array.begin_after("seeds")
    for path in builds.iterdir():
        path.unlink()
    for _ in range(2):
        array.begin_after("seeds")
        assert array.tiny.do(array.command("teacher", "--dask", cluster.scheduler_address)) == 0, array.tiny.log()
        with distributed.Client(cluster) as client:
            assert set(client.run(_kept).values()) == {0}
    counts = {path.name: path.read_text().count("built") for path in builds.iterdir()}
    assert {name.rpartition("-")[0] for name in counts} == {"load_teacher", "Renderer"}
    # Ten blocks and the evaluation set on two workers; a stage that runs again builds again.
    assert set(counts.values()) == {2}, counts
    assert len(counts) == 4


def _kept():
    from stillroom.stages.teacher import worker_cache

    return sum(kept.cache_info().currsize for kept in (worker_cache.loaded_teacher, worker_cache.block_maker))
