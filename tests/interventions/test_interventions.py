"""Interventions do what they say, against weights changed by hand, and leave the model as it was."""

import copy
import sys

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from transformers import (
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

import support_architectures
import support_models
from headway.errors import UnsupportedModel, UsageError
from headway.interventions import Ablate, KeepOnly, Patch, Permute, SwapClusters, effects, swap_order, top_tokens
from headway.models import batches
from headway.models.anatomy import anatomy, recording
from support_models import CONFIGS, random_model

# Every dimension another prime where the architecture allows: a swapped axis cannot pass.
LAYERS, HEADS, HEAD_DIM, VOCABULARY = 3, 5, 6, 23


def neox(seed=0):
    torch.manual_seed(seed)
    return (
        GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=VOCABULARY,
                hidden_size=HEADS * HEAD_DIM,
                num_hidden_layers=LAYERS,
                num_attention_heads=HEADS,
                intermediate_size=37,
                max_position_embeddings=64,
                initializer_range=0.3,  # so that heads matter
            )
        )
        .eval()
        .to(support_models.DEVICE)
    )


def gpt2():
    torch.manual_seed(0)
    return (
        GPT2LMHeadModel(
            GPT2Config(
                vocab_size=VOCABULARY,
                n_embd=HEADS * HEAD_DIM,
                n_layer=LAYERS,
                n_head=HEADS,
                n_positions=64,
                initializer_range=0.3,
            )
        )
        .eval()
        .to(support_models.DEVICE)
    )


def llama():
    torch.manual_seed(0)
    return (
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=VOCABULARY,
                hidden_size=42,
                num_hidden_layers=LAYERS,
                num_attention_heads=6,
                num_key_value_heads=2,
                head_dim=10,
                intermediate_size=37,
                max_position_embeddings=64,
                initializer_range=0.3,
            )
        )
        .eval()
        .to(support_models.DEVICE)
    )


MODELS = [neox, gpt2, llama]
IDS = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (2, 11)))
TEXTS = [np.random.default_rng(i).integers(0, VOCABULARY, length) for i, length in enumerate([11, 7, 11, 13])]
# Two ways to the same sums differ by the rounding of float32 sums of about 30 terms over three layers.
ROUNDING = {"rtol": 1e-5, "atol": 2e-5}


@torch.no_grad()
def logits(model, ids=IDS):
    return model(input_ids=ids.to(model.device)).logits


def output_weight(model, layer):
    """The output projection as (M, N * D), whatever the architecture."""
    projection = anatomy(model).projections[layer]
    return projection.weight.T if type(projection).__name__ == "Conv1D" else projection.weight


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def hooks(model):
    return sum(len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("make", MODELS)
def test_zero_ablation_is_zeroing_the_columns_of_the_output_projection(make):
    model = make()
    by_hand, before = copy.deepcopy(model), logits(model)
    dim = anatomy(model).head_dim
    with torch.no_grad():
        for layer, head in [(0, 1), (2, 0), (2, 4)]:
            output_weight(by_hand, layer)[:, head * dim : (head + 1) * dim] = 0
    with Ablate([(0, 1), (2, 0), (2, 4)]).on(model):
        changed = logits(model)
    torch.testing.assert_close(changed, logits(by_hand), **ROUNDING)
    assert (changed - before).abs().max() > 0.01
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("make", MODELS)
def test_mean_ablation_is_a_constant_in_place_of_the_head(make):
    model = make()
    by_hand = copy.deepcopy(model)
    layer, head, dim = 1, 2, anatomy(model).head_dim
    outputs = []
    with recording(model, [layer]) as recorded:
        for text in TEXTS:
            logits(model, torch.from_numpy(text)[None])
            outputs.append(recorded[layer][0, :, head])
    mean = torch.cat(outputs).mean(0)
    columns = slice(head * dim, (head + 1) * dim)
    projection = anatomy(by_hand).projections[layer]
    with torch.no_grad():
        weight = output_weight(by_hand, layer)
        constant = weight[:, columns] @ mean
        weight[:, columns] = 0
        bias = constant if projection.bias is None else projection.bias + constant
    projection.bias = torch.nn.Parameter(bias)
    with Ablate([(layer, head)], "mean", reference=TEXTS).on(model):
        torch.testing.assert_close(logits(model), logits(by_hand), **ROUNDING)


def test_resample_ablation_takes_outputs_from_the_same_positions_of_a_reference():
    model = neox()
    layer, head = 1, 2
    with recording(model, [layer]) as recorded:
        logits(model, torch.from_numpy(TEXTS[3])[None])
        donor = recorded[layer][0, :11, head].clone()
    with (
        Ablate([(layer, head)], "resample", reference=[TEXTS[3]]).on(model),
        recording(model, [layer]) as recorded,
    ):
        logits(model)
        assert torch.equal(recorded[layer][0, :, head], donor)
        assert torch.equal(recorded[layer][1, :, head], donor)
    # With several references both texts need not get the same one, and the same seed gives the same again.
    ablation = Ablate([(layer, head)], "resample", reference=[TEXTS[0], TEXTS[2], TEXTS[3]], seed=1)
    drawn = []
    for _ in range(2):
        with ablation.on(model):
            drawn.append(logits(model))
    assert torch.equal(*drawn)


@pytest.mark.parametrize("make", MODELS)
def test_keeping_all_heads_changes_nothing_and_keeping_some_ablates_the_others(make):
    model = make()
    n = anatomy(model).n_heads
    with KeepOnly([(1, head) for head in range(n)]).on(model):
        assert torch.equal(logits(model), logits(make()))
    with KeepOnly([(1, 0)], layers=[1, 2]).on(model):
        kept = logits(model)
    others = [(1, head) for head in range(1, n)] + [(2, head) for head in range(n)]
    with Ablate(others).on(model):
        assert torch.equal(kept, logits(model))


ORDER = [3, 0, 1, 4, 2]


UNGROUPED = {name: {} if name in ("gpt_neox", "gpt2") else {"num_key_value_heads": 6} for name in CONFIGS}
WITH_BIASES = {"llama": "attention_bias", "olmo": "attention_bias", "olmo2": "attention_bias"}


@pytest.mark.parametrize("architecture", CONFIGS)
def test_moving_whole_heads_changes_nothing_in_any_architecture(architecture):
    # The order of heads within a layer is a convention: q, k, v and o together may be permuted, with the gains of
    # OLMo 2's norms over all heads, gpt-oss's sinks, and biases.
    biases = {WITH_BIASES[architecture]: True} if architecture in WITH_BIASES else {}
    model = random_model(architecture, **UNGROUPED[architecture], **biases)
    n = anatomy(model).n_heads
    order, ids = [*range(2, n), 1, 0], torch.arange(1, 14)[None]
    before = logits(model, ids)
    with Permute({0: order, 2: order}, kinds="qkvo").on(model):
        # Sums over heads in another order: float32 rounding, of logits as large as those before.
        torch.testing.assert_close(logits(model, ids), before, rtol=0, atol=2e-5 * float(before.abs().max()))
    with Permute({1: order}).on(model):
        outputs = logits(model, ids)
    with Permute({1: order}, kinds="qkv").on(model):
        torch.testing.assert_close(logits(model, ids), outputs, rtol=0, atol=2e-5 * float(before.abs().max()))
    assert (outputs - before).abs().max() > 1e-3 * before.abs().max()
    assert torch.equal(logits(model, ids), before)


def test_a_parameter_of_attention_that_is_not_known_is_refused_by_name():
    model = neox()
    model.gpt_neox.layers[0].attention.temperature = torch.nn.Parameter(torch.ones(HEADS))
    with (
        pytest.raises(
            UnsupportedModel, match=r"attention\.temperature of gpt_neox,.* `per_head` if it splits into heads"
        ),
        Permute({0: ORDER}, kinds="q").on(model),
    ):
        pass
    with Permute({0: ORDER}).on(model):  # outputs can be moved whatever they are made by
        pass


def test_a_base_model_without_a_head_is_changed_too():
    model = neox().gpt_neox
    before = states(model)
    with Permute({0: ORDER}, kinds="q").on(model):
        assert (states(model) - before).abs().max() > 0.01
    assert torch.equal(states(model), before)


def states(model):
    with torch.no_grad():
        return model(input_ids=IDS.to(model.device))[0]


@pytest.mark.parametrize("make", [neox, gpt2])
def test_moving_weights_of_one_kind_changes_something(make):
    model = make()
    before = logits(model)
    for kinds in ("q", "k", "v", "o", "qk"):
        with Permute({0: ORDER}, kinds=kinds).on(model):
            assert (logits(model) - before).abs().max() > 0.01, kinds
    assert torch.equal(logits(model), before)


def test_swapping_clusters_moves_pairs_of_heads():
    assert swap_order([0, 1, 1, 0, 1]) == [1, 0, 3, 2, 4]
    assert swap_order([0, 0, 0, 1]) == [3, 1, 2, 0]
    model = neox()
    with SwapClusters({1: [0, 1, 1, 0, 1]}).on(model):
        swapped = logits(model)
    with Permute({1: [1, 0, 3, 2, 4]}).on(model):
        assert torch.equal(logits(model), swapped)


def test_patching_brings_in_the_other_runs_heads():
    model, other = neox(0), neox(1)
    with recording(other, [1]) as recorded:
        logits(other)
        theirs = recorded[1].clone()
    with Patch(other, [(1, 2)]).on(model), recording(model, [1]) as recorded:
        patched = logits(model)
        assert torch.equal(recorded[1][:, :, 2], theirs[:, :, 2])
        assert not torch.equal(recorded[1][:, :, 3], theirs[:, :, 3])
    assert (patched - logits(model)).abs().max() > 0.01
    with Patch(copy.deepcopy(model), [(1, 2), (2, 0)]).on(model):
        assert torch.equal(logits(model), logits(neox(0)))


def test_patches_read_whole_texts_of_another_model():
    model, other = neox(0), neox(1)
    with pytest.raises(UsageError, match="into itself"), Patch(model, [(1, 2)]).on(model):
        pass
    with Patch(other, [(1, 2)]).on(model):
        longer = model.generate(
            IDS.to(model.device), max_new_tokens=2, min_new_tokens=2, do_sample=False, use_cache=False
        )
        assert torch.equal(longer[:, -1], logits(model, longer[:, :-1])[:, -1].argmax(-1))
        with pytest.raises(UsageError, match="use_cache=False"):
            model.generate(IDS.to(model.device), max_new_tokens=2, min_new_tokens=2, do_sample=False)


def test_resampling_reads_whole_texts():
    model = neox(0)
    references = [np.random.default_rng(i).integers(0, VOCABULARY, 40) for i in range(3)]
    for intervention in (Ablate([(1, 2)], "resample", references), KeepOnly([(1, 2)], None, "resample", references)):
        with intervention.on(model):
            logits(model)
            model.generate(IDS.to(model.device), max_new_tokens=2, do_sample=False, use_cache=False)
            for called in (model, model.base_model):
                with pytest.raises(UsageError, match=r"heads are resampled only on whole texts: .*use_cache=False"):
                    called(IDS.to(model.device), past_key_values=DynamicCache())
            with pytest.raises(UsageError, match="heads are resampled only on whole texts"):
                model.generate(IDS.to(model.device), max_new_tokens=2, do_sample=False)
    model.generate(IDS.to(model.device), max_new_tokens=2, do_sample=False)


@pytest.mark.parametrize("with_", ["zero", "mean"])
def test_other_ablations_are_the_same_with_a_cache(with_):
    model = neox(0)
    references = [np.random.default_rng(i).integers(0, VOCABULARY, 40) for i in range(3)]
    with Ablate([(1, 2)], with_, references).on(model):
        made = [
            model.generate(
                IDS.to(model.device), max_new_tokens=5, min_new_tokens=5, do_sample=False, use_cache=use_cache
            )
            for use_cache in (True, False)
        ]
    assert torch.equal(*made)


def test_resampled_texts_differ_with_the_seed():
    references = [np.random.default_rng(i).integers(0, VOCABULARY, 11) for i in range(20)]
    model, found = neox(), []
    for seed in (0, 0, 1):
        [effect] = effects(model, [Ablate([(1, 2)], "resample", reference=references, seed=seed)], TEXTS)
        found.append(effect.mean("kl"))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("architecture", CONFIGS)
def test_texts_read_together_are_changed_as_each_alone(architecture, monkeypatch):
    monkeypatch.setattr(batches, "LAUNCH", 2**50)  # the dearer a launch, the more are padded
    model = random_model(architecture)
    texts = [np.random.default_rng(i).integers(0, VOCABULARY, length) for i, length in enumerate((9, 3, 13, 9, 5))]
    assert len(list(batches.read_together(model, texts))) == 1
    changes = [Ablate([(0, 1), (2, 0)]), Ablate([(1, 0)], "mean", reference=texts), KeepOnly([(1, 1)])]
    for change, together in zip(changes, effects(model, changes, texts), strict=True):
        for text, found in zip(texts, together.texts, strict=True):
            [[alone]] = [effect.texts for effect in effects(model, [change], [text])]
            # float32 roundings of log-probabilities, summed over up to 13 positions
            numbers = [np.hstack([*one[:-1], one.top_after.probabilities]) for one in (found, alone)]
            np.testing.assert_allclose(*numbers, rtol=1e-4, atol=2e-5)
            assert found.top_after.ids == alone.top_after.ids


EVERY = [
    Ablate([(0, 0), (2, 3)]),
    Ablate([(1, 1)], "mean", reference=TEXTS),
    Ablate([(1, 1)], "resample", reference=TEXTS),
    KeepOnly([(1, 1)]),
    Permute({0: ORDER}),
    Permute({0: ORDER}, kinds="v"),
    SwapClusters({0: [0, 1, 1, 0, 1], 2: [0, 0, 0, 0, 1]}, kinds="qo"),
    Patch(neox(1), [(1, 2)]),
]


@pytest.mark.parametrize("intervention", EVERY, ids=lambda one: type(one).__name__)
def test_an_exception_in_the_forward_pass_leaves_the_model_unchanged(intervention):
    model, donor = neox(), getattr(intervention, "from_run", None)
    before = logits(model)
    broken = model.gpt_neox.layers[2].mlp.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"), intervention.on(model):
        logits(model)
    broken.remove()
    assert hooks(model) == 0
    assert donor is None or hooks(donor) == 0
    assert torch.equal(logits(model), before)


def fail(*_):
    raise RuntimeError("on purpose")


@pytest.mark.parametrize("intervention", EVERY, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("training", [True, False])
def test_mode_and_gradients_are_left_as_they_were(intervention, training):
    model = neox().train(training)
    model.gpt_neox.layers[1].requires_grad_(False)
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    effects(model, [intervention], TEXTS)
    with intervention.on(model):
        assert {module.training for module in model.modules()} == {training}
        assert [parameter.requires_grad for parameter in model.parameters()] == wanted
        model(input_ids=IDS.to(model.device), labels=IDS.to(model.device)).loss.backward()
    assert {module.training for module in model.modules()} == {training}
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert model.gpt_neox.layers[0].mlp.dense_h_to_4h.weight.grad is not None


@pytest.mark.parametrize("intervention", EVERY, ids=lambda one: type(one).__name__)
def test_the_model_is_bit_for_bit_what_it_was_after_an_exception_too(intervention):
    model = neox()
    weights, before = state(model), logits(model)
    storages = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    with intervention.on(model):
        logits(model)
    with pytest.raises(RuntimeError, match="on purpose"), intervention.on(model):  # noqa: PT012
        logits(model)
        raise RuntimeError("on purpose")
    assert hooks(model) == 0
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert {name: parameter.data_ptr() for name, parameter in model.named_parameters()} == storages
    assert torch.equal(logits(model), before)


def bfloat16():
    return neox().to(torch.bfloat16)


@pytest.mark.parametrize("make", [*MODELS, bfloat16])
def test_effects_agree_with_scipy_and_weights_changed_by_hand(make, monkeypatch):
    # Each text alone: some processors round bfloat16 differently in a batch.
    monkeypatch.setattr(sys.modules["headway.interventions.text_effects"], "BATCH_TOKENS", 1)
    monkeypatch.setattr(batches, "GPU_BATCH_TOKENS", 1)
    model = make()
    by_hand, dim = copy.deepcopy(model), anatomy(model).head_dim
    with torch.no_grad():
        for layer, head in [(1, 2), (2, 1)]:
            output_weight(by_hand, layer)[:, head * dim : (head + 1) * dim] = 0
    [effect] = effects(model, [Ablate([(1, 2), (2, 1)])], TEXTS)
    all_kl, all_losses, lasts, changed = [], [], [], []
    for text, found in zip(TEXTS, effect.texts, strict=True):
        ids = torch.from_numpy(text)[None]
        p, q = (logits(one, ids)[0].double().softmax(-1).cpu().numpy() for one in (model, by_hand))
        kl = entropy(p, q, axis=-1)
        nexts = np.arange(len(text) - 1), text[1:]
        losses = -np.log(q[:-1][nexts]) + np.log(p[:-1][nexts])
        # float32 log-probabilities of about 3 carry an error of about 3e-7 each; bfloat16 logits are exact in float32.
        assert found.kl_last == pytest.approx(kl[-1], abs=2e-6)
        assert found.kl.mean == pytest.approx(kl.mean(), abs=2e-6)
        assert found.loss_before.mean == pytest.approx(-np.log(p[:-1][nexts]).mean(), abs=2e-6)
        assert found.top_changed == (p[-1].argmax() != q[-1].argmax())
        all_kl.extend(kl)
        all_losses.extend(losses)
        lasts.append(kl[-1])
        changed.append(p[-1].argmax() != q[-1].argmax())
    # Over all positions of all texts: a text of 13 tokens weighs more than one of 7.
    assert effect.mean("kl") == pytest.approx(np.mean(all_kl), abs=2e-6)
    assert effect.sd("kl") == pytest.approx(np.std(all_kl, ddof=1), abs=2e-6)
    assert effect.mean("loss_change") == pytest.approx(np.mean(all_losses), abs=2e-6)
    assert effect.sd("loss_change") == pytest.approx(np.std(all_losses, ddof=1), abs=2e-6)
    assert effect.mean("kl_last") == pytest.approx(np.mean(lasts), abs=2e-6)
    assert effect.sd("kl_last") == pytest.approx(np.std(lasts, ddof=1), abs=2e-6)
    assert effect.mean("top_changed") == np.mean(changed)


def test_the_spread_of_a_single_position_is_not_a_number():
    assert np.isnan(effects(neox(), [Ablate([(1, 2)])], TEXTS[:1])[0].sd("kl_last"))


def test_top_tokens_are_the_most_probable_ones():
    model = neox()
    tops = top_tokens(model, TEXTS[0], 3)
    p = logits(model, torch.from_numpy(TEXTS[0])[None])[0, -1].softmax(-1)
    assert tops.ids == p.argsort(descending=True)[:3].tolist()
    assert tops.probabilities == pytest.approx(p.sort(descending=True).values[:3].tolist())


def test_top_tokens_after_an_intervention_are_those_of_the_changed_model():
    model, change = neox(), Ablate([(1, 2), (2, 1)])
    [effect] = effects(model, [change], TEXTS)
    with change.on(model):
        p = [logits(model, torch.from_numpy(text)[None])[0, -1].softmax(-1) for text in TEXTS]
    for text, alone in zip(effect.texts, p, strict=True):
        assert text.top_after.ids == alone.argsort(descending=True)[:5].tolist()
        # Texts of a batch are padded, and sums of float32 come in another order.
        assert text.top_after.probabilities == pytest.approx(alone.sort(descending=True).values[:5].tolist(), rel=1e-5)


def test_a_head_that_cannot_matter_has_an_effect_of_exactly_zero():
    model = neox()
    with torch.no_grad():
        output_weight(model, 1)[:, 2 * HEAD_DIM : 3 * HEAD_DIM] = 0
    silent, heard = effects(model, [Ablate([(1, 2)]), Ablate([(1, 3)])], TEXTS)
    assert silent.mean("kl_last") == silent.mean("kl") == silent.mean("loss_change") == 0
    assert heard.mean("kl") > 1e-3


def test_bad_input_is_named():
    model = neox()
    for heads, words in [
        ([(3, 0)], "no layer 3: the model has layers 0 to 2"),
        ([(0, 5)], "no head 5 in layer 0: it has heads 0 to 4"),
        ([], "at least one head"),
    ]:
        with pytest.raises(UsageError, match=words), Ablate(heads).on(model):
            pass
    with pytest.raises(UsageError, match="unknown substitute 'noise'"):
        Ablate([(0, 0)], "noise")
    with pytest.raises(UsageError, match=r"ablating with .mean. needs texts"):
        Ablate([(0, 0)], "mean")
    with (
        pytest.raises(UsageError, match=r"\[0, 0, 1, 2, 3\] is not a permutation"),
        Permute({0: [0, 0, 1, 2, 3]}).on(model),
    ):
        pass
    with pytest.raises(UsageError, match="unknown kind of weight 'x'"), Permute({0: ORDER}, kinds="x").on(model):
        pass
    with (
        pytest.raises(UsageError, match="a swap needs exactly two clusters"),
        SwapClusters({0: [0, 1, 2, 0, 0]}).on(model),
    ):
        pass
    with (
        pytest.raises(UsageError, match="6 query heads share 2 key and value heads"),
        Permute({0: range(6)}, "v").on(llama()),
    ):
        pass
    with pytest.raises(UsageError, match="n_heads 6 into one with 5"), Patch(llama(), [(0, 0)]).on(model):
        pass
    latent = support_architectures.random_model(support_architectures.tiny("deepseek_v3"))
    with pytest.raises(UnsupportedModel, match=r"'deepseek_v3' .* one latent vector"), Ablate([(0, 0)]).on(latent):
        pass
