"""Scores beyond the pattern, against formulas written out with numpy and transformers' own modules in eager mode."""

import numpy as np
import pytest
import torch

from headway import models
from headway.attention import attention, head_scores
from headway.errors import CheckpointError, UnsupportedModel, UsageError
from support_models import CONFIGS, LAYERS, VOCAB, random_model, saved

LENGTHS = (9, 9, 17)  # of texts that are repeated once
TOLERANCE = 1e-5  # what is promised; effects are below 1 here, and found to 1e-6
EFFECTS = ["direct_logit_attribution_corpus", "direct_logit_attribution", "copy_suppression"]


@pytest.fixture(scope="module")
def texts():
    draw = np.random.default_rng(0)
    return [np.tile(draw.choice(VOCAB, length, replace=False), 2) for length in LENGTHS]


# --- the model taken apart by hooks, with nothing of headway --------------------------------------------------------


def parts_of(model):
    """The modules of each architecture, by transformers' names."""
    base = model.base_model
    layers = base.layers if hasattr(base, "layers") else base.h
    final = next(getattr(base, name) for name in ("final_layer_norm", "ln_f", "norm") if hasattr(base, name))
    attentions = [next(getattr(x, n) for n in ("attention", "attn", "self_attn") if hasattr(x, n)) for x in layers]
    outputs = [next(getattr(a, n) for n in ("dense", "c_proj", "o_proj") if hasattr(a, n)) for a in attentions]
    return base, layers, final, attentions, outputs


def linear(norm, x, scale_of):
    """The norm of `x` as a linear map, with the scale that it has at `scale_of`; without its bias."""
    weight = getattr(norm, "weight", None)
    name = type(norm).__name__
    if name.endswith("LayerNorm"):
        eps = getattr(norm, "eps", 1e-5)
        scale = (scale_of.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
        x = x - x.mean(-1, keepdim=True)
    else:
        eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
        scale = (scale_of.square().mean(-1, keepdim=True) + eps).sqrt()
    gain = 1 if weight is None else weight.double() + name.startswith("Gemma")
    return gain * x / scale


def seen_by_hooks(model, text):
    """What goes into output projections, norms after attention and the final norm, and what the modules of values give."""
    model.set_attn_implementation("eager")
    _, layers, final, attentions, outputs = parts_of(model)
    seen, hooks = {}, []

    def keep_input(module, key):
        hooks.append(module.register_forward_pre_hook(lambda _, args: seen.update({key: args[0][0].double()})))

    keep_input(final, "final")
    for number, (layer, own, output) in enumerate(zip(layers, attentions, outputs, strict=True)):
        keep_input(output, ("heads", number))
        if type(layer).__name__.startswith(("Olmo2", "Olmo3", "Gemma2")):
            keep_input(layer.post_attention_layernorm, ("norm", number))
        values = next(getattr(own, name) for name in ("query_key_value", "c_attn", "v_proj") if hasattr(own, name))
        hooks.append(
            values.register_forward_hook(
                lambda _, args, out, number=number: seen.update({("values", number): out[0].double()})
            )
        )
    with torch.no_grad():
        found = model(input_ids=torch.as_tensor(text)[None].to(model.device), output_attentions=True)
    for hook in hooks:
        hook.remove()
    return seen, [A[0].double() for A in found.attentions], found.logits[0].double()


def apart(model, text):
    """What each head writes to the final residual stream from each token: (layers, heads, T, T, M), and its input and logits."""
    seen, patterns, logits = seen_by_hooks(model, text)
    _, layers, _, _, outputs = parts_of(model)
    n_heads = model.config.num_attention_heads
    written = []
    for number, (A, output) in enumerate(zip(patterns, outputs, strict=True)):
        v = split(model, seen["values", number], n_heads)
        joined = torch.einsum("nij,njd->nid", A, v).transpose(0, 1).flatten(1)
        torch.testing.assert_close(joined, seen["heads", number], atol=1e-5, rtol=1e-4)  # taken apart as it is
        weight = output.weight.double() if type(output).__name__ == "Conv1D" else output.weight.double().T
        of_tokens = torch.einsum("nij,njd,ndm->nijm", A, v, weight.unflatten(0, (n_heads, -1)))
        if ("norm", number) in seen:
            scaled = seen["norm", number][None, :, None]
            of_tokens = linear(layers[number].post_attention_layernorm, of_tokens, scaled)
        written.append(of_tokens)
    return torch.stack(written), seen["final"], logits


def split(model, out, n_heads):
    """Values of each query head (N, T, D), from the output of the module that makes them."""
    kind = model.config.model_type
    if kind == "gpt_neox":
        return out.unflatten(-1, (n_heads, 3, -1))[:, :, 2].transpose(0, 1)
    if kind == "gpt2":
        return out.chunk(3, -1)[2].unflatten(-1, (n_heads, -1)).transpose(0, 1)
    kv = model.config.num_key_value_heads
    return out.unflatten(-1, (kv, -1)).transpose(0, 1).repeat_interleave(n_heads // kv, 0)


def expected_effects(model, text):
    """The scores of one text: (layers, heads) each."""
    written, final, _ = apart(model, text)
    norm = parts_of(model)[2]
    unembedding = model.get_output_embeddings().weight.double()
    logits = linear(norm, written, final[None, None, :, None]) @ unembedding.T  # (L, N, i, j, V)
    logits = logits - logits.mean(-1, keepdim=True)
    T, L = len(text), len(text) // 2
    next_token = torch.stack([logits[..., i, :, text[i + 1]].sum(-1) for i in range(T - 1)], -1)
    attended = torch.stack([sum(logits[..., i, j, text[j]] for j in range(i + 1)) for i in range(T)], -1)
    return {
        "direct_logit_attribution_corpus": next_token.mean(-1),
        "direct_logit_attribution": next_token[..., L : 2 * L - 1].mean(-1),
        "copy_suppression": -attended.mean(-1),
    }


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("short", [True, False])
def test_direct_effects_are_those_of_the_model_taken_apart(architecture, short, texts, monkeypatch):
    """Grouped queries, norms after attention, gains stored as differences from 1, sliding windows and sinks too."""
    if not short:
        monkeypatch.setitem(attention.SHORT, "cpu", 1)
    model = random_model(architecture)
    found = head_scores(model, texts, EFFECTS)
    for number, text in enumerate(texts):
        for name, expected in expected_effects(model, text).items():
            np.testing.assert_allclose(
                found[name][number], expected.detach().numpy(), atol=TOLERANCE, rtol=TOLERANCE, err_msg=name
            )


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama", "gpt2", "olmo2", "gemma2"])
def test_heads_and_all_else_add_up_to_the_logits(architecture, texts):
    """The decomposition itself: logits are the sum of direct effects of heads, MLPs, embeddings and biases."""
    model = random_model(architecture, **({"final_logit_softcapping": None} if architecture == "gemma2" else {}))
    written, final, logits = apart(model, texts[2])
    norm = parts_of(model)[2]
    unembedding = model.get_output_embeddings().weight.double()
    others = final - written.sum((0, 1, 3))  # the embedding, the MLPs, and biases after attention
    bias = getattr(norm, "bias", None)
    total = linear(norm, written, final[None, None, :, None]).sum((0, 1, 3)) + linear(norm, others, final)
    total = (total if bias is None else total + bias.double()) @ unembedding.T
    torch.testing.assert_close(total, logits, atol=1e-4, rtol=1e-4)  # the model's own logits are in float32


# --- weights alone --------------------------------------------------------------------------------------------------


def ratio(matrix):
    """sum(λ) / sum(|λ|) of a whole matrix, by numpy."""
    eigenvalues = np.linalg.eigvals(matrix)
    return float(eigenvalues.sum().real / np.abs(eigenvalues).sum())


def circuits(folder, model):
    """The full OV and QK circuits of each head, V × V, from the stored weights and the rules of each architecture."""
    config, weights = model.config, models.HeadWeights(folder)
    E = model.get_input_embeddings().weight.detach().double().numpy()
    U = model.get_output_embeddings().weight.detach().double().numpy()
    _, layers, final, attentions, _ = parts_of(model)
    kind = config.model_type

    def folded(norm):
        """The norm as a matrix: y = x P."""
        identity = torch.eye(E.shape[1], dtype=torch.float64)
        own = identity
        if type(norm).__name__.endswith("LayerNorm"):
            own = own - own.mean(-1, keepdim=True)
        gain = getattr(norm, "weight", None)
        if gain is not None:
            own = own * (gain.detach().double() + kind.startswith("gemma"))
        return own.numpy()

    group = weights.geometry.n_heads // weights.geometry.n_kv_heads
    for number, layer in enumerate(layers):
        q, k, v, o = (weights.get(one, number).astype(np.float64) for one in "qkvo")
        before = after = np.eye(E.shape[1])
        if kind.startswith(("olmo2", "olmo3")):
            after = folded(layer.post_attention_layernorm)
        else:
            before = folded(layer.ln_1 if kind == "gpt2" else layer.input_layernorm)
        if kind == "gemma2":
            after = folded(layer.post_attention_layernorm)
        if hasattr(attentions[number], "q_norm"):
            gains = [getattr(attentions[number], f"{one}_norm").weight.detach().double().numpy() for one in "qk"]
            q, k = (one * gain.reshape(-1, one.shape[1], 1) for one, gain in zip((q, k), gains, strict=True))
        x = E @ before
        for head in range(len(q)):
            own = head // group
            ov = x @ v[own].T @ o[head] @ after @ folded(final) @ U.T
            qk = (x @ q[head].T) @ (x @ k[own].T).T
            qk = qk - qk.mean(1, keepdims=True)  # what softmax does not see
            yield number, head, ov, qk


@pytest.mark.parametrize("architecture", CONFIGS)
def test_eigenvalues_are_those_of_the_whole_matrices(architecture, tmp_path):
    model = saved(tmp_path, architecture)
    found = head_scores(model, [np.arange(5)], ["copying", "qk_matching"])
    for layer, head, ov, qk in circuits(tmp_path, model):
        assert found["copying"][0, layer, head] == pytest.approx(ratio(ov), abs=TOLERANCE)
        assert found["qk_matching"][0, layer, head] == pytest.approx(ratio(qk), abs=TOLERANCE)


def test_a_head_without_effect_has_no_copying_and_no_attribution(texts):
    model = random_model("gpt_neox")
    with torch.no_grad():
        model.gpt_neox.layers[1].attention.dense.weight[:, 22:44] = 0
    for name, values in head_scores(model, texts, ["copying", *EFFECTS]).items():
        assert (values[:, 1, 1] == 0).all(), name
        assert (values[:, 1, 2] != 0).all()


def test_a_circuit_below_the_rounding_of_its_weights_counts_as_zero(texts):
    """Values that are read and written in orthogonal spaces give eigenvalues that are rounding, whose ratio says nothing."""
    model = random_model("llama", hidden_size=84, num_hidden_layers=1, rms_norm_eps=1e-6)
    basis = torch.linalg.qr(torch.randn(84, 84, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    with torch.no_grad():
        for norm in (model.model.norm, model.model.layers[0].input_layernorm):
            norm.weight.fill_(1.0)
        model.lm_head.weight.copy_(model.lm_head.weight.double() @ basis[:, :42] @ basis[:, :42].T)
        o = model.model.layers[0].self_attn.o_proj
        o.weight.copy_(basis[:, 42:] @ basis[:, 42:].T @ o.weight.double())
    assert (head_scores(model, texts, ["copying"])["copying"] == 0).all()


def test_scores_of_weights_need_no_forward_pass(texts, monkeypatch):
    model = random_model("gpt2")
    monkeypatch.setattr(type(model.base_model), "forward", lambda *_, **__: pytest.fail("the model ran"))
    found = head_scores(model, texts, ["qk_matching", "copying"])
    assert list(found) == ["qk_matching", "copying"]
    assert all(values.shape == (len(texts), LAYERS, 5) and values.dtype == np.float32 for values in found.values())
    assert (found["copying"] == found["copying"][0]).all()


def test_all_scores_of_a_text_come_from_one_forward_pass(texts, monkeypatch):
    model = random_model("gpt2")
    forward, calls = type(model.base_model).forward, []
    monkeypatch.setattr(
        type(model.base_model), "forward", lambda self, *args, **kept: calls.append(1) or forward(self, *args, **kept)
    )
    head_scores(model, texts[:2], ["prev", "induction", "copying", *EFFECTS])
    assert len(calls) == 1


def test_half_precision_and_float64(texts):
    model = random_model("llama")
    wide = head_scores(model.double(), texts, EFFECTS)
    assert all(values.dtype == np.float64 for values in wide.values())
    half = head_scores(model.to(torch.bfloat16), texts, EFFECTS)
    for name, values in half.items():
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, wide[name], atol=0.05)  # the model itself is rounded to 8 bits


@pytest.mark.parametrize("name", ["copying", "copy_suppression", "direct_logit_attribution"])
def test_a_base_model_has_no_unembedding(name, texts):
    base = random_model("gpt_neox").base_model
    with pytest.raises(UsageError, match=f"{name} cannot be computed: GPTNeoXModel has no unembedding"):
        head_scores(base, texts, [name])
    head_scores(base, texts, ["prev", "qk_matching"])  # these need none


def test_other_architectures_are_refused_by_name(texts):
    import transformers

    config = transformers.Phi3Config(
        vocab_size=VOCAB,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=16,
        pad_token_id=0,
    )
    model = transformers.Phi3ForCausalLM(config).eval()
    head_scores(model, texts, ["prev"])
    with pytest.raises(UnsupportedModel, match=r"copying cannot be computed: .*norms of the architecture 'phi3'"):
        head_scores(model, texts, ["copying", "prev"])


def test_clipped_values_are_refused(texts):
    model = random_model("olmo", clip_qkv=0.5)
    with pytest.raises(UnsupportedModel, match="OlmoForCausalLM clips queries, keys and values"):
        head_scores(model, texts, ["copying"])
    for number, text in enumerate(texts[:2]):  # effects are those of the clipped values
        expected = expected_effects_clipped(model, text)
        found = head_scores(model, texts, ["copy_suppression"])["copy_suppression"][number]
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def expected_effects_clipped(model, text):
    layers = parts_of(model)[3]
    hooks = [layer.v_proj.register_forward_hook(lambda _, args, out: out.clamp(-0.5, 0.5)) for layer in layers]
    try:
        return expected_effects(model, text)["copy_suppression"].detach().numpy()
    finally:
        for hook in hooks:
            hook.remove()


def test_repeated_texts_without_a_row_that_knows_its_next_token():
    with pytest.raises(
        UsageError, match="direct_logit_attribution needs 2 tokens or more that are repeated, and text 1 has 1"
    ):
        head_scores(random_model("gpt2"), [[1, 2, 1, 2], [1, 1]], ["direct_logit_attribution"])


def test_weights_that_are_not_finite(texts):
    model = random_model("llama")
    with torch.no_grad():
        model.model.layers[1].self_attn.v_proj.weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match="copying of layer 1, head 0 is nan"):
        head_scores(model, texts, ["copying"])
