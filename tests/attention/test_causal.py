"""Causal scores, against models whose weights were changed by hand, and on circuits that were written into weights."""

import copy

import numpy as np
import polars as pl
import pytest
import torch

import headway
from headway.attention import head_scores
from headway.errors import UsageError
from headway.known_scores import SCORES
from headway.store import RunDirectory
from support_circuits import PLACES, planted, planted_suite
from support_models import LAYERS, VOCAB, random_model

TOLERANCE = (
    1e-5  # losses are about 3 nats in float32, whose rounding is 2e-7 of them; sums of 16 of them lose a little more
)
CAUSAL = [name for name, score in SCORES.items() if score.kind == "causal"]


def repeats(lengths, vocab):
    draw = np.random.default_rng(0)
    return [np.tile(draw.choice(vocab, length, replace=False), 2) for length in lengths]


def output_projection(model, layer):
    base = model.base_model
    block = (base.layers if hasattr(base, "layers") else base.h)[layer]
    attention = next(getattr(block, name) for name in ("attention", "attn", "self_attn") if hasattr(block, name))
    return next(getattr(attention, name) for name in ("dense", "c_proj", "o_proj") if hasattr(attention, name))


def mean_inputs(model, texts, layer):
    """The mean over all tokens of what a layer's output projection reads: (N * D,)."""
    seen = []
    hook = output_projection(model, layer).register_forward_pre_hook(lambda _, args: seen.append(args[0][0].double()))
    with torch.no_grad():
        for text in texts:
            model(torch.as_tensor(text)[None])
    hook.remove()
    return torch.cat(seen).mean(0)


def without_by_hand(model, layer, columns, mean):
    """A copy of a model whose output projection does not read `columns`, and adds what it would make of their mean."""
    changed = copy.deepcopy(model)
    projection = output_projection(changed, layer)
    with torch.no_grad():
        weight = projection.weight if type(projection).__name__ == "Linear" else projection.weight.T
        constant = weight[:, columns].double() @ mean[columns]
        weight[:, columns] = 0
        if projection.bias is None:
            projection.bias = torch.nn.Parameter(torch.zeros(len(weight)))
        projection.bias += constant.float()
    return changed


def predicted(model, text):
    with torch.no_grad():
        log_p = model(torch.as_tensor(text)[None]).logits[0, :-1].double().log_softmax(-1)
    target = torch.as_tensor(text[1:])
    return -log_p.gather(1, target[:, None])[:, 0], (log_p.argmax(-1) == target).double()


@pytest.mark.parametrize("name", ["gpt_neox", "gpt2", "llama"])
def test_scores_are_what_weights_changed_by_hand_lose(name):
    model = random_model(name)
    n_heads = model.config.num_attention_heads
    texts = repeats((5, 9, 5), VOCAB)
    found = head_scores(model, texts, CAUSAL)
    assert {values.shape for values in found.values()} == {(3, LAYERS, n_heads)}
    for layer in range(LAYERS):
        mean = mean_inputs(model, texts, layer)
        size = len(mean) // n_heads
        for head in range(n_heads):
            changed = without_by_hand(model, layer, slice(head * size, (head + 1) * size), mean)
            for number, text in enumerate(texts):
                (loss, right), (loss_without, right_without) = predicted(model, text), predicted(changed, text)
                second = slice(len(text) // 2, None)
                expected = {
                    "ablation_loss": (loss_without - loss).mean(),
                    "ablation_repeat_loss": (loss_without - loss)[second].mean(),
                    "ablation_repeat_accuracy": (right - right_without)[second].mean(),
                }
                for score, value in expected.items():
                    assert found[score][number, layer, head] == pytest.approx(float(value), abs=TOLERANCE), score
    assert max(np.abs(values).max() for values in found.values()) > 100 * TOLERANCE  # there is something to compare


def test_a_head_that_many_copies_do_not_fit_beside_is_scored_alike(monkeypatch):
    """One head at a time gives the same as all at once, and the model is left as it was."""
    model, texts = random_model("gpt_neox"), repeats((6, 9), VOCAB)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    together = head_scores(model, texts, CAUSAL)
    monkeypatch.setattr("headway.models.batches.LOGITS", 1)
    alone = head_scores(model, texts, CAUSAL)
    for name in CAUSAL:
        np.testing.assert_allclose(alone[name], together[name], atol=TOLERANCE)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_planted_heads_matter_and_their_decoy_does_not():
    model = planted("gpt_neox", ("previous", "induction", "decoy"), noise=0.02, step=1000)
    found = head_scores(model, repeats((8,) * 8, 23), ["induction", "ablation_repeat_accuracy"])
    induction, lost = (found[name].mean(0) for name in ("induction", "ablation_repeat_accuracy"))
    assert induction[PLACES["decoy"]] > 0.9  # by its pattern it is an induction head
    assert lost[PLACES["induction"]] > 0.8
    assert lost[PLACES["previous"]] > 0.8
    others = np.ones(lost.shape, bool)
    others[PLACES["induction"]] = others[PLACES["previous"]] = False
    assert np.abs(lost[others]).max() < 0.1  # noise


def test_causal_scores_are_columns_of_the_heads_table_and_define_roles(tmp_path):
    """The head that matters holds its role from the step on at which it was planted."""
    run = "planted-1m-seed1"
    planted_suite(tmp_path, {run: {"previous": 10, "induction": 1000, "decoy": 1000}}, (0, 10, 1000))
    headway.measure(
        tmp_path / "suite", out=tmp_path / "out", corpus=str(tmp_path / "texts.txt"), repeated_length=8, repeated_texts=8,
        scores=["prev", "induction", "ablation_repeat_accuracy", "ablation_loss"],
    )  # fmt: skip
    table = RunDirectory(tmp_path / "out").read("heads")
    last = table.filter(step=1000).sort("ablation_repeat_accuracy", descending=True)
    top = set(last.head(2).select("layer", "head").iter_rows())
    assert top == {PLACES["previous"], PLACES["induction"]}
    assert table.filter(pl.col("step") < 1000)["ablation_repeat_accuracy"].abs().max() < 0.3
    headway.analyze(tmp_path / "out", studies=["roles"], roles=["matters=ablation_repeat_accuracy>0.5"], bootstraps=0)


def test_models_without_predictions_are_refused_by_name():
    with pytest.raises(UsageError, match=r"ablation_loss need next-token predictions.*has no unembedding"):
        head_scores(random_model("gpt_neox").base_model, repeats((5,), VOCAB), ["ablation_loss"])
    with pytest.raises(UsageError, match="needs 2 tokens or more that are repeated"):
        head_scores(random_model("gpt_neox"), repeats((1,), VOCAB), ["ablation_repeat_loss"])


def test_all_scores_leave_out_those_that_take_a_pass_for_each_head():
    assert not set(headway.api._score_names(["all"])) & set(CAUSAL)
    assert CAUSAL
