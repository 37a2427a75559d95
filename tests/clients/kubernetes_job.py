"""Print the Job that Prefect's worker would make of a base job template: TEMPLATE.json VALUES.json.

The Job is held to Kubernetes' schema first.
"""

import asyncio
import copy
import json
import sys
import uuid

import kubernetes_validate
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

KUBERNETES = "1.33"
"""The release whose schema counts."""

NOT_OF_A_POD = ("parallelism", "completions")
"""prefect-kubernetes 0.8 wants these where Kubernetes has no such fields, and leaves them out."""


def main(template: str, values: str) -> None:
    job = asyncio.run(make_job(json.loads(template), json.loads(values)))
    sent = copy.deepcopy(job)
    for name in NOT_OF_A_POD:
        del sent["spec"]["template"]["spec"][name]
    try:
        kubernetes_validate.validate(sent, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        sys.exit(f"{'.'.join(map(str, error.path))}: {error.message}")
    json.dump(job, sys.stdout)


async def make_job(template: dict[str, object], values: dict[str, object]) -> dict[str, object]:
    async with get_client() as client:  # asked for blocks, of which there are none
        made = await KubernetesWorkerJobConfiguration.from_template_and_values(
            template, values, client=client
        )
    made.prepare_for_flow_run(
        FlowRun(id=uuid.UUID(int=7), name="brave-otter", flow_id=uuid.uuid4())
    )
    return dict(made.job_manifest)


if __name__ == "__main__":
    main(*sys.argv[1:])
