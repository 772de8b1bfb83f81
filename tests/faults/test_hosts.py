"""Training over two hosts, one of which is cut off in mid-epoch."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.hosts import INTERFACE, TwoHosts, lacking
from tests.faults.job import REPOSITORY, Job, training_command
from tests.training.published import Published, publish
from training.tracking import summary

pytestmark = [pytest.mark.thorough]
GLOO_TIMEOUT = 10
"""Seconds after which Horovod considers a silent host lost."""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[TwoHosts]:
    if reason := lacking():
        pytest.skip(reason)
    with TwoHosts(tmp_path / "hosts") as made:
        yield made


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish(tmp_path / "published")


def launch(hosts: TwoHosts, folder: Path, command: list[str], *options: str, **environment: str) -> Job:
    environment["PATH"] = os.pathsep.join([str(hosts.path), os.environ["PATH"]])
    return Job(
        folder,
        command,
        ["--network-interfaces", INTERFACE, "--disable-cache", *options],
        environment=environment,
        prefix=hosts.on(0, []),
    )


def on_both(hosts: TwoHosts) -> list[str]:
    return ["-np", "2", "-H", ",".join(f"{address}:1" for address in hosts.addresses)]


def test_two_hosts_train_together(hosts: TwoHosts, published: Published, tmp_path: Path) -> None:
    command = training_command(published, "together", keys=tmp_path / "keys")
    with launch(hosts, tmp_path / "job", command, *on_both(hosts)) as job:
        assert job.wait() == 0, job.shown()
        assert job.orphans() == []
    found = summary.read(published.root / "runs" / "together")["training"]
    assert (found["world_size"], found["samples_seen"]) == (2, 346)


def test_a_host_that_is_cut_off_ends_the_job(hosts: TwoHosts, published: Published, tmp_path: Path) -> None:
    command = training_command(published, "cut-off", "--set", "train.epochs=1000")
    options = [*on_both(hosts), "--gloo-timeout-seconds", str(GLOO_TIMEOUT)]
    with launch(hosts, tmp_path / "job", command, *options) as job:
        job.wait_for("epoch 3: every one of 173 rows read exactly once")
        hosts.unplug(1)
        began = time.monotonic()
        assert job.wait() != 0
        lasted = time.monotonic() - began
        # Either may notice first: Horovod on the remaining host, or ssh on the launcher's host.
        told = "rank 0 stopped because another rank did|Process 1 exit with status code 255"
        assert re.search(told, job.shown()), job.shown()
        assert job.orphans(60) == []
        print(
            f"the job ended {lasted:.1f} s after the cut, its last process after {time.monotonic() - began:.1f} s"
        )


def test_the_host_that_is_left_goes_on(hosts: TwoHosts, published: Published, tmp_path: Path) -> None:
    listed = tmp_path / "hosts.txt"
    listed.write_text("".join(f"{address}:1\n" for address in hosts.addresses))
    settings = ("--set", "train.epochs=200", "--set", "train.commit_every=5", "--set", "train.watchdog=20")
    command = training_command(published, "goes-on", *settings)
    options = [
        *("-np", "2", "--min-np", "1", "--max-np", "2", "--gloo-timeout-seconds", str(GLOO_TIMEOUT)),
        *("--host-discovery-script", str(REPOSITORY / "deploy" / "hosts.sh")),
    ]
    with launch(hosts, tmp_path / "job", command, *options, HOSTS_FILE=str(listed)) as job:
        job.wait_for("epoch 3: every one of 173 rows read exactly once")
        hosts.unplug(1)
        began = time.monotonic()
        job.wait_for(r"goes on with 1 rank\(s\) from step \d+", 60)
        print(f"went on {time.monotonic() - began:.1f} s after the cut")
        assert job.wait() == 0, job.shown()
        assert job.orphans(90) == []
        print(f"the last process of the other host had ended {time.monotonic() - began:.1f} s after the cut")
    found = summary.read(published.root / "runs" / "goes-on")["training"]
    assert (found["world_size"], found["samples_seen"]) == (1, 200 * 173)
