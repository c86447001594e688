"""The sampler's choices against the distributions they must follow; needs torch (the serving environment)."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from model_code.serving.engines.base import SamplingParams  # noqa: E402
from model_code.serving.engines.sampling import RequestSampler, choose, penalise  # noqa: E402

LOGITS = torch.tensor([0.5, 0.1, 0.25, 0.15]).log()


def draws(count: int, *, temperature: float = 1.0, top_p: float = 1.0) -> torch.Tensor:
    draw = (torch.arange(count) + 0.5) / count
    ones = torch.ones(count)
    return choose(LOGITS.expand(count, -1), ones * temperature, ones * top_p, draw)


def shares(tokens: torch.Tensor) -> list[float]:
    return (torch.bincount(tokens, minlength=4) / len(tokens)).tolist()


def test_evenly_spread_draws_reproduce_the_distribution() -> None:
    assert shares(draws(1000)) == pytest.approx([0.5, 0.1, 0.25, 0.15], abs=0.002)


def test_temperature_sharpens_and_flattens() -> None:
    squares = [0.25, 0.01, 0.0625, 0.0225]
    expected = [square / sum(squares) for square in squares]
    assert shares(draws(1000, temperature=0.5)) == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize(
    ("top_p", "nucleus"), [(0.4, {0}), (0.5, {0}), (0.6, {0, 2}), (0.8, {0, 2, 3}), (1e-6, {0})]
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, nucleus: set[int]) -> None:
    assert set(draws(1000, top_p=top_p).tolist()) == nucleus


def test_a_flat_distribution_is_not_cut_to_the_short_list() -> None:
    count = 1024
    draw = (torch.arange(count) + 0.5) / count
    chosen = choose(torch.zeros(count, 4096), torch.ones(count), torch.full((count,), 0.999), draw)
    assert len(set(chosen.tolist())) > 1000


@pytest.mark.parametrize("draw", [0.0, 0.99999994])
def test_the_ends_of_the_range_choose_a_possible_token(draw: float) -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]])
    chosen = choose(logits, torch.ones(1), torch.ones(1), torch.tensor([draw]))
    assert chosen.item() in {1, 2}


def test_a_seed_repeats_its_draws_and_no_seed_does_not() -> None:
    def stream(seed: int | None) -> list[float]:
        sampler = RequestSampler(SamplingParams(1.0, 1.0, seed))
        return [sampler.draw() for _ in range(4)]

    assert stream(7) == stream(7)
    assert stream(7) != stream(8)
    assert stream(None) != stream(None)


def test_penalties_follow_openais_formula() -> None:
    logits = torch.zeros(4)
    penalise(logits, [1, 2, 2, 2], presence=0.5, frequency=0.25)
    assert logits.tolist() == [0.0, -0.75, -1.25, 0.0]


def test_an_empty_answer_has_nothing_to_penalise() -> None:
    logits = torch.zeros(4)
    penalise(logits, [], presence=2.0, frequency=2.0)
    assert logits.tolist() == [0.0] * 4
