"""Kubernetes: an Indexed Job for each stage; and kubectl, each stage after the one before is complete."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from stillroom.stages.executors.array_index import COUNT
from stillroom.stages.run.shutdown import EXIT_STATUS, GRACE_SECONDS, StopRequest
from stillroom.storage.errors import ConfigError, StillroomError

from .stage_jobs import StageJobs

CONTAINER = "stillroom"
_RETRIES = 3
_POLL_SECONDS = 5.0


def manifest(work: StageJobs, run: str) -> dict[str, Any]:
    """The Job, as plain data.

    Args:
        work: what it runs.
        run: the run's name.

    Raises:
        ConfigError: no image is named.
    """
    asked = work.asked
    if asked.image is None:
        raise ConfigError("submit.image is not set; name a container image that has stillroom in it")
    limits = {"cpu": str(asked.cpus), "memory": f"{asked.memory}i"}
    if asked.gpus:
        limits["nvidia.com/gpu"] = str(asked.gpus)
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": asked.image,
        "command": work.command("python"),
        "workingDir": work.cwd,
        "env": [
            {"name": COUNT, "value": str(work.jobs)},
            {"name": "OMP_NUM_THREADS", "value": str(asked.cpus)},
        ],
        "resources": {"requests": dict(limits), "limits": limits},
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": int(GRACE_SECONDS) + 40,
        "containers": [container],
    }
    if asked.claim is not None:
        container["volumeMounts"] = [{"name": "run", "mountPath": asked.mount or work.cwd}]
        pod["volumes"] = [{"name": "run", "persistentVolumeClaim": {"claimName": asked.claim}}]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": _name(run, work.stage), "labels": {"app.kubernetes.io/name": "stillroom"}},
        "spec": {
            "completionMode": "Indexed",
            "completions": work.jobs,
            "parallelism": min(asked.parallel or work.jobs, work.jobs),
            "backoffLimitPerIndex": _RETRIES,
            "podFailurePolicy": {
                "rules": [
                    # Asked to stop, or moved away: run again, and count it for nothing.
                    {
                        "action": "Ignore",
                        "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [EXIT_STATUS]},
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    # A wrong config does not become right.
                    {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [2]}},
                ]
            },
            "template": {"spec": pod},
        },
    }


def text(work: StageJobs, run: str) -> str:
    """The Job as a file."""
    head = (
        f"# `stillroom {work.stage}` as {work.jobs} jobs; written by `stillroom submit`. Edit it as you like; then\n"
        "#   kubectl apply -f FILE\n"
    )
    return head + yaml.safe_dump(manifest(work, run), sort_keys=False, allow_unicode=True, width=120)


def submit(files: Sequence[Path], stop: StopRequest) -> list[str]:
    """Apply Jobs, one when the one before is complete; the last one is not waited for.

    Returns:
        Their names.

    Raises:
        StillroomError: there is no kubectl, it fails, or a Job did.
    """
    names: list[str] = []
    for path in files:
        if names:
            _wait(names[-1], stop)
        names.append(_kubectl("apply", "-f", str(path), "-o", "name").strip())
    return names


def _wait(name: str, stop: StopRequest) -> None:
    while True:
        status = json.loads(_kubectl("get", name, "-o", "json")).get("status", {})
        states = {item["type"] for item in status.get("conditions", []) if item["status"] == "True"}
        if "Complete" in states:
            return
        if "Failed" in states:
            raise StillroomError(
                f"{name} has failed; see `kubectl describe {name}` and `kubectl logs {name}`, delete it, and submit "
                "again: what is done is not done again"
            )
        stop.sleep(_POLL_SECONDS)


def _kubectl(*arguments: str) -> str:
    program = shutil.which("kubectl")
    if program is None:
        raise StillroomError("there is no kubectl on this machine; submit where it is, or print with --dry-run")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise StillroomError(f"`kubectl {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout


def _name(run: str, stage: str) -> str:
    """A DNS label of 52 characters at most: pods' names add an index to it."""
    short = re.sub("[^a-z0-9]+", "-", run.lower()).strip("-")
    return f"stillroom-{short}"[: 51 - len(stage)].strip("-") + f"-{stage}"
