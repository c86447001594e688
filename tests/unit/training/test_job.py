"""How a training job reads its surroundings, and the arithmetic of its schedule and budget."""

import json
import re
from pathlib import Path

import pytest

from contracts.training import metric_definitions, metric_line
from model_code.training.hyperparameters import Hyperparameters
from model_code.training.job import FAILURE_CHARACTERS, Job, TrainingError, read_hyperparameters
from model_code.training.schedule import learning_rate, plan_adapters

BLOCK = {"q": (576, 576), "k": (576, 192), "v": (576, 192), "o": (576, 576), "up": (576, 1536)}
LAYERS = {f"model.layers.{n}.{name}": shape for n in range(30) for name, shape in BLOCK.items()}
LAYERS["lm_head"] = (576, 49152)
PER_RANK_OF_A_BLOCK = sum(sum(shape) for shape in BLOCK.values())


def test_folders_default_to_the_services_own_and_follow_the_environment() -> None:
    service = Job.from_environment({})
    assert service.data == Path("/opt/ml/input/data/train")
    assert service.failure == Path("/opt/ml/output/failure")
    assert service.checkpoints == Path("/opt/ml/checkpoints")
    laptop = Job.from_environment({"SM_OUTPUT_DIR": "/x/output", "SM_MODEL_DIR": "/x/model"})
    assert laptop.failure == Path("/x/output/failure")
    assert laptop.output_data == Path("/x/output/data")
    assert laptop.model == Path("/x/model")


def test_a_failure_reason_is_cut_to_what_the_service_keeps(tmp_path: Path) -> None:
    job = Job.from_environment({"SM_OUTPUT_DIR": str(tmp_path / "output")})
    job.fail("x" * 5000)
    assert job.failure.read_text() == "x" * FAILURE_CHARACTERS


def test_hyperparameters_come_from_the_service_and_from_arguments() -> None:
    environment = {"SM_HPS": json.dumps({"epochs": "3", "learning-rate": 0.01, "sagemaker_program": "x.py"})}
    settings = read_hyperparameters(["--batch-size", "4", "--epochs", "5"], environment)
    assert (settings.epochs, settings.learning_rate, settings.batch_size) == (5, 0.01, 4)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--epoch", "3"], "hyperparameter epoch: Extra inputs"),
        (["--epochs", "0"], "hyperparameter epochs: Input should be greater than or equal to 1"),
        (["--learning_rate", "nan"], "hyperparameter learning_rate"),
        (["--epochs"], "'--name value' pairs"),
        (["epochs", "3"], "starting with '--'"),
    ],
)
def test_a_wrong_hyperparameter_is_named(arguments: list[str], complaint: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(complaint)):
        read_hyperparameters(arguments, {})


def test_hyperparameters_that_are_no_object_are_refused() -> None:
    with pytest.raises(TrainingError, match="SM_HPS"):
        read_hyperparameters([], {"SM_HPS": "[1, 2]"})


@pytest.mark.parametrize("budget", [90_000, 500_000, 2_500_000])
def test_the_rank_is_the_largest_within_the_budget(budget: int) -> None:
    settings = Hyperparameters(parameter_budget=budget, adapted_layers=0.5, max_rank=512)
    plan = plan_adapters(LAYERS, 30, settings)
    per_rank = 15 * PER_RANK_OF_A_BLOCK
    assert plan.parameters == plan.rank * per_rank <= budget
    assert (plan.rank + 1) * per_rank > budget
    assert len(plan.targets) == 15 * len(BLOCK)
    assert all(int(name.split(".")[2]) >= 15 for name in plan.targets), "only the upper half is adapted"


def test_a_budget_too_small_for_rank_one_says_what_it_takes() -> None:
    with pytest.raises(TrainingError, match=f"take {30 * PER_RANK_OF_A_BLOCK}"):
        plan_adapters(LAYERS, 30, Hyperparameters(parameter_budget=1000, adapted_layers=1))


def test_a_model_without_numbered_blocks_is_refused() -> None:
    with pytest.raises(TrainingError, match="no linear layers"):
        plan_adapters({"lm_head": (2, 3)}, 2, Hyperparameters())


def test_the_rate_warms_up_to_its_peak_and_falls_to_a_tenth() -> None:
    settings = Hyperparameters(learning_rate=0.1, warmup_fraction=0.1)
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.01 * (step + 1) for step in range(10)])
    assert max(rates) == rates[10] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("value", [0.0, 1.5, 3.2e-07, -12.25])
def test_the_metric_definitions_find_the_lines_a_job_prints(value: float) -> None:
    (definition,) = [entry for entry in metric_definitions() if entry["Name"] == "validation:loss"]
    found = re.search(definition["Regex"], metric_line("validation:loss", value, 7))
    assert found
    assert float(found[1]) == value
    assert not re.search(definition["Regex"], metric_line("train:loss", value, 7))
