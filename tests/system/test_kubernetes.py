"""The work pool for Kubernetes, held to Kubernetes' schema and Prefect's worker; no cluster."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients import FOLDER, MISSING, find_python
from tests.support.pace import limit

REPOSITORY = Path(__file__).parents[2]
NEEDED = {"image": "registry.example.org/ml:1", "checkout_claim": "slipway"}
NOWHERE = "http://127.0.0.1:9/api"


def template() -> dict[str, Any]:
    declared = yaml.safe_load((REPOSITORY / "configs/pools/kubernetes.yaml").read_text())
    return dict(declared["base_job_template"])


def make_job(
    home: Path, template: dict[str, Any], **values: Any
) -> subprocess.CompletedProcess[str]:
    python = find_python("kubernetes")
    if not python:
        pytest.skip(MISSING)
    command = [
        python,
        "-W",
        "ignore",
        str(FOLDER / "kubernetes_job.py"),
        json.dumps(template),
        json.dumps(values),
    ]
    return subprocess.run(
        command,
        env={"PREFECT_API_URL": NOWHERE, "PREFECT_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=limit(60),
    )


def test_prefects_worker_makes_a_job_of_it_that_kubernetes_takes(tmp_path: Path) -> None:
    made = make_job(tmp_path, template(), **NEEDED, gpus=2, user=4711, grace_s=90)
    assert made.returncode == 0, made.stderr
    job = json.loads(made.stdout)
    assert job["spec"]["backoffLimit"] == 0
    pod = job["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 90
    assert pod["securityContext"] == {"runAsUser": 4711, "runAsGroup": 4711}
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "slipway"}
    (container,) = pod["containers"]
    assert container["args"] == ["python", "-m", "flows.commands.engine"]
    assert container["workingDir"] == container["volumeMounts"][0]["mountPath"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert told["SLIPWAY_PROJECT"] == container["workingDir"]
    assert told["PREFECT__FLOW_RUN_ID"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"restartPolicy": "Sometimes"}, "restartPolicy"),
        ({"terminationGracePeriodSeconds": "a minute"}, "terminationGracePeriodSeconds"),
        ({"serviceAccount_name": "x"}, "serviceAccount_name"),
    ],
)
def test_what_kubernetes_would_not_take_is_found(
    tmp_path: Path, wrong: dict[str, Any], told: str
) -> None:
    changed = template()
    changed["job_configuration"]["job_manifest"]["spec"]["template"]["spec"] |= wrong
    made = make_job(tmp_path, changed, **NEEDED)
    assert made.returncode == 1
    assert told in made.stderr
