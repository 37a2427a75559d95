"""Model card and bill of materials of every problem, split and choice of families."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.evidence import gather
from slipway.bundle.contract import Contract, OutputTensor
from slipway.bundle.format import canonical_json
from slipway.bundle.golden import Golden, write_golden
from slipway.make.evidence import write_evidence
from slipway.runs.git import GitState
from tests.bundles import make_payload
from tests.stage_files import (
    COMMIT,
    FAMILIES,
    PROBLEMS_POSED,
    SIZES,
    TREES_ONLY,
    gates,
    timings,
)
from tests.support.contracts import make_contract, make_input, make_output
from tests.unit.flows.pipelines import write_project

ROWS = 30
CLASSES = ["none", "short", "long"]


def _outputs(problem: str) -> tuple[list[OutputTensor], dict[str, Any]]:
    """Make the answers of a problem, and those to the golden rows."""
    shares = np.full((ROWS, 3), 0.25, np.float32)
    shares[:, 0] = 0.5
    if problem == "binary":
        meant = make_output("probability", meaning="Probability of being late", range=(0.0, 1.0))
        return [meant], {"probability": shares[:, 0]}
    if problem == "multiclass":
        meant = make_output(
            "probabilities", shape=(-1, 3), meaning="Share of each delay", range=(0.0, 1.0)
        )
        label = make_output("label", "BYTES", meaning="The likeliest delay")
        labels = np.array(["none"] * ROWS, object)
        return [meant, label], {"probabilities": shares, "label": labels}
    meant = [make_output(n, meaning=f"Minutes, {n}") for n in ("prediction", "lower", "upper")]
    numbers = np.float32([16.25] * ROWS)
    return meant, {"prediction": numbers, "lower": numbers - 8, "upper": numbers + 9}


def _contract(problem: str, outputs: list[OutputTensor]) -> Contract:
    carrier = make_input("carrier", "BYTES", kind="category", categories=["AA", "DL"])
    classes = {"binary": [0, 1], "multiclass": CLASSES, "regression": None}[problem]
    target = PROBLEMS_POSED[problem].target["name"]
    named: dict[str, Any] = {"problem": problem, "target": target, "classes": classes}
    return make_contract([carrier], outputs, model="flights", **named)


def papers_of(
    folder: Path, problem: str, families: Sequence[str] = FAMILIES, by: str = "time"
) -> Path:
    """Write a pipeline and its payload; return the papers that are made of them."""
    root = write_project(folder / "root", problem, families, by)
    pin = {"url": "pkg://flights/flights.csv", "size_bytes": 8, "sha256": "5e" * 32}
    (root / "data/flights/sources.lock").write_text(json.dumps({"flights": pin}))
    payload, proof = root / "models/flights/payload", gates("flights", problem, families)
    make_payload(payload)
    outputs, expected = _outputs(problem)
    inputs = {"carrier": np.array(["AA"] * ROWS, object)}
    golden = Golden(
        inputs=inputs,
        labels=np.full(ROWS, None, object),
        expected=expected,
        tolerance=dict.fromkeys(expected, 0.005),
        precision=proof["chosen"],
        datatypes={"carrier": "BYTES", **{each.name: each.datatype for each in outputs}},
    )
    write_golden(payload / "golden.arrow", golden)
    for name, value in (("gates", proof), ("contract", _contract(problem, outputs).model_dump())):
        (payload / f"{name}.json").write_bytes(canonical_json(value))
    timed = timings(families)
    flat = [{**g, "precision": n} for n, one in proof["precisions"].items() for g in one["gates"]]
    evidence = {
        "version": "ab" * 32,
        "verdict": "pass",
        "precision": proof["chosen"],
        "gates": flat,
        **{key: timed[key] for key in ("provider", "hardware", "latency", "measured_at")},
    }
    write_evidence(payload, gather(root, "flights", evidence, GitState(commit=COMMIT)), folder)
    return folder


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The papers of each problem."""
    return {name: papers_of(tmp_path_factory.mktemp(name), name) for name in PROBLEMS_POSED}


@pytest.fixture(scope="module")
def cards(papers: dict[str, Path]) -> dict[str, str]:
    """The card of each problem."""
    return {name: (folder / "card.md").read_text("utf-8") for name, folder in papers.items()}


def rows_of(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading."""
    below = text.partition(f"\n{heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table is not None, heading
    lines = [line for line in table[0].splitlines() if not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_card_of_numbers_uses_no_word_of_classes(cards: dict[str, str]) -> None:
    words = r"(?i)\bAUC\b|brier|base rate|positives?\b|probabilit|log loss|largest class|classes"

    assert not re.findall(words, cards["regression"])


def test_a_card_of_several_classes_uses_no_word_of_two_and_names_them(
    cards: dict[str, str],
) -> None:
    text = cards["multiclass"]

    assert not re.findall(r"(?i)brier|base rate|positives?\b", text)
    assert "The classes, in the order of the probabilities: none, short, long." in text
    assert "order of the probabilities" not in cards["binary"]


@pytest.mark.parametrize(
    ("problem", "title", "level"),
    [
        ("binary", "Base rate", "17.2 %"),
        ("multiclass", "Largest class", "61.9 %"),
        ("regression", "Mean", "17.05"),
    ],
)
def test_each_part_has_what_the_problem_tells_of_its_target(
    problem: str, title: str, level: str, cards: dict[str, str]
) -> None:
    data = cards[problem].partition("## Data")[2]
    parts = re.findall(r"^\| (train|stop|choose|test|golden) .* \| (.*) \|$", data, re.MULTILINE)

    assert f"| Part | Which | Rows | {title} |" in data
    assert dict(parts[:5])["test"] == level
    assert [name for name, _ in parts[:5]] == ["train", "stop", "choose", "test", "golden"]


@pytest.mark.parametrize("problem", PROBLEMS_POSED)
def test_quality_is_told_of_everybody_the_chosen_one_first(
    problem: str, cards: dict[str, str]
) -> None:
    head, *rows = rows_of(cards[problem], "## Quality")
    quality = PROBLEMS_POSED[problem].quality

    assert head == ["", "Network", "Trees", "Base"]
    found = [[float(cell) for cell in row[1:]] for row in rows]
    assert found == [
        [quality[who][key] for who in ("network", "trees", "base")] for key in quality["network"]
    ]


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ("binary", "it loses 0.0021 of AUC to the best, 0.0004 to 0.0038 in 95 of"),
        ("multiclass", "it loses 0.0109 of log loss to the best, 0.0061 to 0.0158 in 95 of 100"),
    ],
)
def test_what_a_family_loses_is_told_with_its_interval(
    problem: str, said: str, cards: dict[str, str]
) -> None:
    [network] = [each for each in cards[problem].splitlines() if each.startswith("- **Network")]

    assert said in network
    assert "Step 450 was kept; training ended because: no better for 8 evaluations." in network


def test_a_loss_in_the_target_s_unit_is_told_as_the_share_that_it_is(
    cards: dict[str, str],
) -> None:
    assert "it loses 0.97 % of RMSE to the best" in cards["regression"]


@pytest.mark.parametrize("problem", PROBLEMS_POSED)
def test_the_best_family_is_not_said_to_lose_to_itself(problem: str, cards: dict[str, str]) -> None:
    assert "loses 0 of" not in cards[problem]


@pytest.mark.parametrize("problem", PROBLEMS_POSED)
def test_slices_are_told_by_family_the_best_first_and_only_if_they_mean_something(
    problem: str, papers: dict[str, Path], cards: dict[str, str]
) -> None:
    head, *rows = rows_of(cards[problem], "### By carrier")
    metrics = papers[problem] / "root/models/flights/evaluation/metrics.json"
    written = json.loads(metrics.read_text())["slices"]["carrier"]

    title = {"binary": "AUC", "multiclass": "Log loss", "regression": "RMSE"}[problem]
    assert head[:3] == ["carrier", title, "Trees"]
    assert {row[0]: row[1:3] for row in rows} == {
        value: [f"{one['network']:.3f}", f"{one['trees']:.3f}"]
        for value, one in written.items()
        if one["enough_rows"] and one["rows"] >= 200
    }
    scores = [float(row[1]) for row in rows]
    assert scores == sorted(scores, reverse=problem == "binary")


@pytest.mark.parametrize("problem", PROBLEMS_POSED)
def test_every_candidate_is_listed_with_size_times_and_reason(
    problem: str, cards: dict[str, str]
) -> None:
    _, *rows = rows_of(cards[problem], "## Candidates")

    assert [(row[0], row[1]) for row in rows] == [
        ("network-fp32", "pass"),
        ("network-int8-dynamic", "fail"),
        ("network-int8-static (this one)", "pass"),
        ("trees-fp32", "pass"),
    ]
    assert rows[2][2:5] == ["129 kB", "0.298 ms", "0.471 ms"]
    assert rows[1][5] == "outside its limit: batch invariance"
    assert rows[3][5] == "passes, but is not clearly cheaper than network-int8-static"
    assert "## Gates of network-int8-static\n" in cards[problem]
    assert len(SIZES) == len(rows)


@pytest.mark.parametrize(
    ("problem", "answered"),
    [
        ("binary", "probability 0.5."),
        ("multiclass", "probabilities 0.5, 0.25, 0.25; label none."),
        ("regression", "prediction 16.25; lower 8.25; upper 25.25."),
    ],
)
def test_the_first_golden_row_is_told_with_all_of_its_answers(
    problem: str, answered: str, cards: dict[str, str]
) -> None:
    assert f"was answered with {answered}\n" in cards[problem]


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ("binary", "The base rate moves: 25.1 % in training, 17.2 % in the test part."),
        ("multiclass", None),
        ("regression", "The mean moves: 16.21 in training, 17.05 in the test part."),
    ],
)
def test_a_level_that_moves_is_warned_of_and_one_that_stays_is_not(
    problem: str, said: str | None, cards: dict[str, str]
) -> None:
    limits = cards[problem].partition("## Limits")[2].partition("##")[0]

    assert (said is not None) == (" moves: " in limits)
    assert (said or "") in limits


@pytest.mark.parametrize("problem", PROBLEMS_POSED)
def test_the_bill_of_materials_names_task_family_and_measures(
    problem: str, papers: dict[str, Path]
) -> None:
    document = json.loads((papers[problem] / "sbom.cdx.json").read_text("utf-8"))

    [model] = [c for c in document["components"] if c["type"] == "machine-learning-model"]
    found = model["modelCard"]
    posed = PROBLEMS_POSED[problem]
    task = {"multiclass": "multiclass classification", "regression": "regression"}
    assert found["modelParameters"]["task"] == task.get(problem, "binary classification")
    assert found["modelParameters"]["architectureFamily"] == "residual neural network"
    measures = found["quantitativeAnalysis"]["performanceMetrics"]
    tested = {one["type"]: one["value"] for one in measures if one["slice"] == "test"}
    assert tested == {key: str(value) for key, value in posed.quality["network"].items()}
    assert {one["type"] for one in measures if one["slice"] != "test"} == {posed.primary}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Papers of a pipeline whose network is off."""
    return papers_of(tmp_path_factory.mktemp("trees"), "binary", TREES_ONLY)


class TestTreesAlone:
    def test_the_card_tells_of_no_network(self, folder: Path) -> None:
        text = (folder / "card.md").read_text("utf-8")

        assert "network" not in text.lower()
        assert "**Trees, which was chosen**: boosted trees" in text
        assert rows_of(text, "## Quality")[0] == ["", "Trees", "Base"]
        assert rows_of(text, "### By origin")[0] == ["origin", "AUC", "Base rate", "Rows"]
        assert [row[0] for row in rows_of(text, "## Candidates")[1:]] == ["trees-fp32 (this one)"]

    def test_the_card_compares_with_no_other_family(self, folder: Path) -> None:
        assert "other families" not in (folder / "card.md").read_text("utf-8")

    def test_the_lineage_tells_of_trees_alone(self, folder: Path) -> None:
        found = json.loads((folder / "lineage.json").read_text("utf-8"))

        assert found["family"] == "trees"
        assert list(found["training"]) == ["trees"]
        assert sorted(found["metrics"]) == ["base", "trees"]
        assert found["config"]["families"]["network"] == "off"

    def test_the_bill_of_materials_describes_trees(self, folder: Path) -> None:
        text = (folder / "sbom.cdx.json").read_text("utf-8")

        assert '"architectureFamily": "gradient-boosted trees"' in re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("by", ["rows", "group"])
def test_a_card_of_rows_without_time_warns_of_no_other_times(by: str, tmp_path: Path) -> None:
    text = (papers_of(tmp_path, "regression", by=by) / "card.md").read_text("utf-8")

    assert "at other times" not in text


@pytest.mark.parametrize(
    ("by", "which"),
    [("rows", "rows by a hash of their key"), ("group", "whole values of tailnum, by a hash")],
)
def test_a_card_says_what_parts_the_rows(by: str, which: str, tmp_path: Path) -> None:
    text = (papers_of(tmp_path, "regression", by=by) / "card.md").read_text("utf-8")

    assert f"| train | {which} | 218,405 | 16.21 |" in text
    assert "\n327,346 rows; 31 of them broke a rule" in text
