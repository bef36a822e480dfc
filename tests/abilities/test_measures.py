"""Abilities and their standard errors, against closed forms and planted losses."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from headway.abilities import measures, next_token_predictions
from headway.errors import CorpusError


def test_standard_errors_are_those_of_means_of_units():
    values = np.random.default_rng(0).normal(size=13)
    found = measures.mean(values)
    assert found == pytest.approx((values.mean(), stats.sem(values), 13))
    right = np.array([True, True, False, True])
    assert measures.mean(right).std_error == pytest.approx(np.sqrt(0.75 * 0.25 / 3))  # closed form of a share
    assert np.isnan(measures.mean(values[:1]).std_error)


def test_the_standard_error_of_the_loss_allows_for_texts_of_unequal_length():
    """Against the spread of 1,000 corpora drawn from texts whose tokens share a level: three errors of that spread."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 30, 60)

    def corpus():
        return [rng.normal(5 + rng.normal(), 0.5, rng.choice(lengths)) for _ in range(60)]

    drawn = [measures.corpus_loss(corpus(), np.arange(60))[0] for _ in range(1000)]
    spread = np.std([one.value for one in drawn])
    said = np.sqrt(np.mean([one.std_error**2 for one in drawn]))
    # The formula is that of large samples: with 60 texts it may be 3% too small.
    assert said == pytest.approx(spread, rel=3 / np.sqrt(2 * 1000) + 0.03)


def test_windows_of_a_text_are_one_unit():
    loss = [np.array([1.0, 2.0]), np.array([4.0]), np.array([3.0, 3.0, 3.0])]
    (found,) = measures.corpus_loss(loss, np.array([0, 0, 5]))
    deviations = np.array([7 - 3 * 16 / 6, 9 - 3 * 16 / 6])
    assert found[1:] == pytest.approx((16 / 6, np.sqrt(2 * (deviations**2).sum()) / 6, 2))


def test_the_loss_by_position_is_that_of_each_token():
    """A loss that is the number of its token, counted from 1: each bin has the mean of its numbers."""
    loss = [np.arange(2, 21, dtype=float), np.arange(2, 6, dtype=float)]  # texts of 20 and of 5 tokens
    found = {one.ability.name: (one.value, one.n_samples) for one in measures.loss_by_position(loss, np.arange(2))}
    assert found == {
        "loss_at_2_3": (2.5, 2),
        "loss_at_4_7": (pytest.approx((4 + 5 + 4 + 5 + 6 + 7) / 6), 2),
        "loss_at_8_15": (pytest.approx(11.5), 1),
        "loss_at_16_31": (18.0, 1),  # as far as the text reaches
    }


def test_the_in_context_score_is_the_planted_one():
    rng = np.random.default_rng(2)
    n = 40
    gains = rng.normal(-1.5, 0.3, n)
    loss = [rng.normal(4, 0.1, 511) for _ in range(n)]  # texts of 512 tokens
    for one, gain in zip(loss, gains, strict=True):
        one[500 - 2] = one[50 - 2] + gain  # tokens 500 and 50, counted from 1
    (found,) = measures.in_context_score(loss, np.arange(n))
    assert found.ability.name == "icl_50_500"
    assert (found.value, found.std_error) == pytest.approx((gains.mean(), stats.sem(gains)))
    assert found.ability.higher_is_better is False


class Knowing:
    """A model that gives the right next token a probability that is planted for its place in the text."""

    device = torch.device("cpu")
    config = SimpleNamespace(vocab_size=11, hidden_size=1, get_text_config=lambda: Knowing.config)

    def __init__(self, probability):
        self.probability = probability

    def __call__(self, input_ids, use_cache):
        right = torch.nn.functional.one_hot(torch.roll(input_ids, -1, 1), 11).double()
        p = torch.tensor(self.probability)[: input_ids.shape[1]].roll(-1)[None, :, None]
        return SimpleNamespace(logits=(right * p + (1 - right) * (1 - p) / 10).log())


def test_the_in_context_score_of_a_planted_model():
    """Token n, counted from 1, has the probability 0.1 up to 100 and 0.8 after that: the score is log(0.1 / 0.8)."""
    probability = np.where(np.arange(1, 601) <= 100, 0.1, 0.8)
    texts = list(np.random.default_rng(3).integers(0, 11, (4, 600)))
    found = next_token_predictions(Knowing(probability), texts)
    (score,) = measures.in_context_score(found.loss, np.arange(4))
    assert score.ability.name == "icl_50_500"
    assert score.value == pytest.approx(np.log(0.1 / 0.8), abs=1e-6)  # float32
    by_position = {one.ability.name: one.value for one in measures.loss_by_position(found.loss, np.arange(4))}
    assert by_position["loss_at_32_63"] == pytest.approx(-np.log(0.1), abs=1e-6)
    assert by_position["loss_at_128_255"] == pytest.approx(-np.log(0.8), abs=1e-6)
    assert by_position["loss_at_64_127"] == pytest.approx(-(37 * np.log(0.1) + 27 * np.log(0.8)) / 64, abs=1e-6)


def test_windows_of_a_text_count_once_for_the_in_context_score():
    at = [np.zeros(499) for _ in range(3)]
    for one, gain in zip(at, (-1.0, -3.0, -6.0), strict=True):
        one[498] = gain
    (found,) = measures.in_context_score([*at, np.zeros(30)], np.array([0, 0, 1, 2]))
    assert (found.value, found.n_samples) == (pytest.approx((-2 - 6) / 2), 2)


@pytest.mark.parametrize(
    ("lengths", "positions"),
    [
        ([2048] * 3, (50, 500)),
        ([500, 500, 20, 20], (50, 500)),  # half of the texts reach the published token
        ([500, 20, 20, 20], (2, 20)),
        ([64] * 5, (6, 64)),
        ([499] * 4, (49, 499)),
        ([3], (2, 3)),
    ],
)
def test_positions_are_the_published_ones_or_those_that_half_of_the_texts_have(lengths, positions):
    assert measures.in_context_positions(lengths) == positions


def test_texts_of_two_tokens_have_no_in_context_score():
    with pytest.raises(CorpusError, match="half of the texts have at most 2 tokens: give longer texts"):
        measures.in_context_positions([2, 2, 9])


def test_both_conventions_of_repetition():
    """L = 3: predictions 3 and 4 are of the second copy's later tokens; the published convention counts 5, too."""
    right = [np.array([0, 0, 1, 1, 0, 0], bool), np.array([1, 1, 1, 1, 1, 0], bool)]
    rank = [np.array([9, 9, 9, 0, 4, 8]), np.array([9, 9, 9, 0, 0, 3])]
    found = {one.ability.name: one for one in measures.repetition(right, rank)}
    assert found["repeat_accuracy"].value == 0.75
    assert found["published_repeat_accuracy"].value == 0.5
    assert found["repeat_rank"].value == 1.0
    assert found["published_repeat_rank"].value == 2.5
    assert found["repeat_rank"].std_error == pytest.approx(stats.sem([2, 0]))
    assert {one.n_samples for one in found.values()} == {2}
