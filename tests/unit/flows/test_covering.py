"""Which triggers a run answers for; that it does is in tests/system/test_prefect.py."""

from typing import Any
from uuid import UUID, uuid4

from prefect.client.schemas.objects import FlowRun

from flows.covering import answered_by

DEPLOYMENT = uuid4()


def run(deployment: UUID | None = DEPLOYMENT, **parameters: Any) -> FlowRun:
    return FlowRun(flow_id=uuid4(), deployment_id=deployment, parameters=parameters)


def test_a_run_answers_for_those_with_its_parameters_of_any_deployment() -> None:
    own, same, other = run(pipeline="a"), run(uuid4(), pipeline="a"), run(pipeline="b")
    assert answered_by(own, [own, same, other]) == [same]


def test_a_run_from_a_desk_answers_for_none_as_its_tree_is_not_a_commit() -> None:
    assert answered_by(run(None, pipeline="a"), [run(pipeline="a")]) == []
