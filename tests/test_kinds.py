"""The kind of a test follows from what it uses."""

import pytest

from tests.data_sets import copy_of
from tests.faults.pipeline_runs import PipelineFolder
from tests.kinds import kind_of, starts_processes


def started(folder: PipelineFolder) -> object:
    return PipelineFolder(folder.folder, folder.files).start()


def through_a_helper() -> object:
    def inside() -> object:
        return started

    return inside


@pytest.mark.parametrize(
    ("used", "starts"), [(PipelineFolder, True), (through_a_helper, True), (copy_of, False), (len, False)]
)
def test_what_starts_processes_is_found_through_helpers(used: object, starts: bool) -> None:
    assert starts_processes(used) == starts


def test_a_test_that_uses_neither_spark_nor_processes_is_a_unit(request: pytest.FixtureRequest) -> None:
    assert kind_of(request.node) == "unit"
    assert request.node.get_closest_marker("unit")
