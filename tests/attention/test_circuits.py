"""Circuits that were written into weights have the scores that they must have, in closed form."""

import numpy as np
import pytest
import torch

from headway.attention import head_scores
from headway.corpora import repeated_random
from support_circuits import EVERY, LOGIT, PLACES, N, planted

SCORES = [
    "prev",
    "self",
    "duplicate",
    "induction",
    "copying",
    "qk_matching",
    "direct_logit_attribution",
    "copy_suppression",
]
L = 8
FULL = LOGIT * (1 - 1 / N)  # on the centred logit of a token that is copied fully
# Weights are in float32, and logits of attention reach 30 / 0.4: their exponentials are right to about 1e-5.
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["gpt_neox", "llama"])
def model(request):
    return planted(request.param)


@pytest.fixture(scope="module")
def texts():
    return repeated_random(np.arange(N), L, 6, 0)


@pytest.fixture(scope="module")
def scores(model, texts):
    """The mean of each score over texts, by score and circuit."""
    means = {name: values.mean(0) for name, values in head_scores(model, texts, SCORES).items()}
    return {name: {circuit: float(mean[PLACES[circuit]]) for circuit in EVERY} for name, mean in means.items()}


def test_the_model_repeats_what_it_has_read(model, texts):
    """Every token of the second copy but the first is predicted, with nearly all probability."""
    ids = torch.from_numpy(np.stack(texts))
    with torch.no_grad():
        logits = model(ids).logits
    assert (logits[:, L:-1].argmax(-1) == ids[:, L + 1 :]).all()
    without = planted(model.config.model_type, set(EVERY) - {"induction"})
    with torch.no_grad():
        hits = (without(ids).logits[:, L:-1].argmax(-1) == ids[:, L + 1 :]).float().mean()
    assert hits < 0.5


def test_induction_needs_the_previous_token_head(model, texts):
    """K-composition: without the first head the second one attends to nothing in particular."""
    alone = planted(model.config.model_type, set(EVERY) - {"previous"})
    assert head_scores(alone, texts, ["induction"])["induction"][:, 1, 0].max() < 0.2


def test_patterns(scores):
    exact = {"abs": TOLERANCE}
    assert scores["prev"]["previous"] == pytest.approx(1, **exact)
    # Token 0 attends to itself, so that it stands after itself: token L attends half to it, and half to token 1.
    assert scores["induction"]["induction"] == pytest.approx(1 - 1 / (2 * L), **exact)
    assert scores["induction"]["decoy"] == pytest.approx(scores["induction"]["induction"], **exact)
    # Equal tokens are the token itself and, in the second copy, its duplicate.
    assert scores["duplicate"]["suppressing"] == pytest.approx(1 / 2, **exact)
    assert scores["self"]["suppressing"] == pytest.approx(3 / 4, **exact)
    even = np.mean([1 / (i + 1) for i in range(2 * L)])
    assert scores["self"]["copying"] == pytest.approx(even, **exact)


def test_copying_is_the_sign_of_the_ov_circuit(scores):
    expected = {"previous": 0, "induction": 1, "decoy": 0, "copying": 1, "suppressing": -1}
    assert scores["copying"] == pytest.approx(expected, abs=TOLERANCE)


def test_qk_matching_is_of_equal_tokens(scores):
    """Not of a position, nor of the token before. The query of `copying` is 0."""
    expected = {"previous": 0, "induction": 0, "decoy": 0, "copying": 0, "suppressing": 1}
    assert scores["qk_matching"] == pytest.approx(expected, abs=TOLERANCE)


def test_direct_effects(scores):
    """Of row i of the second copy, the next token was read once in i + 1 tokens, which `copying` copies evenly."""
    induction = FULL - LOGIT / 2 / (L - 1)  # the first of these rows has half of it on the next token
    evenly = LOGIT * np.mean([1 / (i + 1) - 1 / N for i in range(L, 2 * L - 1)])
    expected = {"previous": 0, "induction": induction, "decoy": 0, "copying": evenly, "suppressing": LOGIT / N}
    assert scores["direct_logit_attribution"] == pytest.approx(expected, abs=TOLERANCE * LOGIT)


def test_copy_suppression_is_of_the_attended_tokens(scores):
    """Heads that copy raise the logits of what they attend to: they suppress by less than 0."""
    expected = {"previous": 0, "induction": -FULL, "decoy": 0, "copying": -FULL, "suppressing": FULL}
    assert scores["copy_suppression"] == pytest.approx(expected, abs=TOLERANCE * LOGIT)
