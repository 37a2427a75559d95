"""List what a version was made with: a CycloneDX 1.6 document with a machine-learning model.

    the bundle ─ the model (with its model card) ─┬─ every installed distribution
                                                  └─ every source of its data

The library knows no model cards, so that part is added to its output; then its strict
validator reads the whole. A document that it refuses is not signed: a version's papers are
kept for ever as they were published first.
"""

import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageMetadata
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import is_expression, is_supported_id
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from slipway import __version__
from slipway.bundle.contract import Contract, read_contract
from slipway.bundle.format import file_digest
from slipway.errors import SlipwayError
from slipway.make.build import ARCHITECTURES, Build, Evidence
from slipway.make.toolchain import DISTRIBUTION, distributions, normal

Json = dict[str, Any]

MODEL_REF = "model"
"""The model's name inside the document."""


def sbom(payload: Path, evidence: Evidence) -> Json:
    """Describe a payload, its packages and its data as a valid CycloneDX document."""
    contract = read_contract(payload / "contract.json")
    lineage, measured_at = evidence.lineage, evidence.proof["measured_at"]
    model = _model(payload, contract, lineage)
    packages = [_package(each) for each in distributions()]
    sources = [_source(name, source) for name, source in lineage["sources"].items()]
    bundle = Component(
        name=f"{contract.model}-bundle",
        version=lineage["version"],
        type=ComponentType.APPLICATION,
        bom_ref="bundle",
    )
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{lineage['version']} {measured_at}"),
        metadata=BomMetaData(
            component=bundle, timestamp=datetime.fromisoformat(measured_at), tools=[]
        ),
        components=[model, *packages, *sources],
    )
    bom.register_dependency(bundle, [model])
    bom.register_dependency(model, [*packages, *sources])
    document: Json = json.loads(JsonV1Dot6(bom).output_as_string())
    document["metadata"]["tools"] = {
        "components": [{"type": "application", "name": DISTRIBUTION, "version": __version__}]
    }
    if evidence.build is None:  # nobody here knows what it was made with
        document["compositions"] = [{"aggregate": "incomplete", "assemblies": [MODEL_REF]}]
    else:
        [described] = [each for each in document["components"] if each["bom-ref"] == MODEL_REF]
        described["modelCard"] = model_card(contract, lineage, evidence.build)
    validate(document)
    return document


def validate(document: Mapping[str, Any]) -> None:
    """Refuse a document that CycloneDX 1.6 does not allow, unknown keys included."""
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))
    if problem is not None:
        where = ".".join(map(str, problem.data.absolute_path)) or "the document"
        raise SlipwayError(f"sbom.cdx.json: {where}: {problem.data.message}; nothing was published")


def model_card(contract: Contract, lineage: Mapping[str, Any], build: Build) -> Json:
    """Give the model card in CycloneDX's own terms; values are texts there."""
    return {
        "bom-ref": f"{MODEL_REF}-card",
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": build.problem.task,
            **_architecture(build.shipped),
            "datasets": [{"ref": _source_ref(name)} for name in lineage["sources"]],
            "inputs": [{"format": f"{one.name}: {one.datatype}"} for one in contract.inputs],
            "outputs": [{"format": f"{one.name}: {one.datatype}"} for one in contract.outputs],
        },
        "quantitativeAnalysis": {"performanceMetrics": _measures(build)},
        "considerations": {
            "useCases": [one.meaning for one in contract.outputs],
            "technicalLimitations": build.limits(),
        },
    }


def _measures(build: Build) -> list[Json]:
    """List the quality on test, overall and of every slice large enough to mean something."""
    test, primary = build.tested, build.problem.primary.key
    found = [
        {"type": measure.key, "value": str(test[measure.key]), "slice": "test"}
        for measure in build.problem.measures
        if test[measure.key] is not None
    ]
    return found + [
        {"type": primary, "value": str(each[build.shipped]), "slice": f"test, {column} = {value}"}
        for column, values in build.slices.items()
        for value, each in values.items()
        if build.is_telling(each)
    ]


def _architecture(family: str) -> Json:
    """Describe a family; nothing where nobody knows which it is."""
    if family not in ARCHITECTURES:
        return {}
    kind, made_of = ARCHITECTURES[family]
    return {"architectureFamily": kind, "modelArchitecture": made_of}


def _model(payload: Path, contract: Contract, lineage: Mapping[str, Any]) -> Component:
    described = f"{contract.outputs[0].meaning} ({contract.precision})"
    if "proves" in lineage:
        described = f"made elsewhere; {lineage['proves']}"
    return Component(
        name=contract.model,
        version=lineage["version"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=MODEL_REF,
        description=described,
        hashes=[_sha256(file_digest(payload / "model.onnx"))],
    )


def _package(metadata: PackageMetadata) -> Component:
    name, version = normal(metadata["Name"]), metadata["Version"]
    purl = PackageURL(type="pypi", name=name, version=version)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=purl.to_string(),
        purl=purl,
        licenses=_licenses(metadata),
    )


def _licenses(metadata: PackageMetadata) -> list[License]:
    """Take the licence where the package states it in SPDX's terms, and guess nothing."""
    for stated in (*metadata.get_all("License-Expression", []), *metadata.get_all("License", [])):
        if is_supported_id(stated) or is_expression(stated):
            return [LicenseFactory().make_from_string(stated)]
    return []


def _source(name: str, source: Mapping[str, Any]) -> Component:
    where = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(source["url"]))
    return Component(
        name=name,
        type=ComponentType.DATA,
        bom_ref=_source_ref(name),
        hashes=[_sha256(source["sha256"])],
        external_references=[where],
    )


def _source_ref(name: str) -> str:
    return f"data:{name}"


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)
