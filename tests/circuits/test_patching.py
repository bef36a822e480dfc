"""Path patching agrees with a plain full computation, in which hooks replace one head's part in one input of another."""

import numpy as np
import pytest
import torch

from headway.circuits.patching import LOGIT, Key, patched_paths
from headway.errors import UnsupportedModel, UsageError
from support_circuits import PLACES, planted
from support_circuits import N as WORDS
from support_models import VOCAB, random_model

# Sums of float32 in another order, over products of about 1.
TOLERANCE = 1e-5
L = 6  # random tokens that are repeated once


def repeated(n, vocabulary, length=L):
    random = np.random.default_rng(0)
    return [np.tile(random.permutation(vocabulary)[:length], 2) for _ in range(n)]


def induction(pattern):
    """Of a matrix (T, T)."""
    length = len(pattern) // 2
    return np.mean([pattern[i, i - length + 1] for i in range(length, 2 * length)])


class Plain:
    """The full model in eager mode, its modules by their names in this architecture."""

    def __init__(self, model):
        self.model = model
        self.neox = model.config.model_type == "gpt_neox"
        self.layers = model.gpt_neox.layers if self.neox else model.model.layers
        self.final_norm = model.gpt_neox.final_layer_norm if self.neox else model.model.norm
        self.n_heads = model.config.num_attention_heads
        self.width = self.dense(0).weight.shape[1] // self.n_heads

    def attention(self, layer):
        return self.layers[layer].attention if self.neox else self.layers[layer].self_attn

    def dense(self, layer):
        return self.attention(layer).dense if self.neox else self.attention(layer).o_proj

    def norm(self, layer):
        return self.layers[layer].input_layernorm

    def run(self, ids, hooks=()):
        """Attention and logits of one text, and what the modules of `hooks` get, which may be changed."""
        handles = [module.register_forward_pre_hook(hook) for module, hook in hooks]
        try:
            with torch.no_grad():
                return self.model(torch.as_tensor(ids)[None], output_attentions=True, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()

    def seen(self, ids, module):
        kept = []
        self.run(ids, [(module, lambda _, args: kept.append(args[0].clone()))])
        return kept[0]

    def projection(self, layer, name):
        """The module that makes q, k or v, and the places of the head's numbers in its output."""
        if self.neox:
            at = "qkv".index(name)
            return self.attention(layer).query_key_value, lambda head: slice(
                (3 * head + at) * self.width, (3 * head + at + 1) * self.width
            )
        group = self.n_heads // self.model.config.num_key_value_heads if name in "kv" else 1
        return getattr(self.attention(layer), f"{name}_proj"), lambda head: slice(
            head // group * self.width, (head // group + 1) * self.width
        )

    def patched(self, ids, sender, receiver, name, replacement):
        """Attention (T, T) of the receiver, and logits (T, V) with its part of the final residual stream replaced."""
        own = slice(sender[1] * self.width, (sender[1] + 1) * self.width)
        z = self.seen(ids, self.dense(sender[0]))
        changed = z.clone()
        changed[..., own] = replacement
        weight = self.dense(sender[0]).weight
        moved = (changed - z) @ weight.T
        x = self.seen(ids, self.norm(receiver[0]))
        project, places = self.projection(receiver[0], name)

        def exchange(module, args, output):
            # The output at this head's places is that of the changed residual stream, through the norm anew.
            new = torch.nn.functional.linear(self.norm(receiver[0])(x + moved), module.weight, module.bias)
            output = output.clone()
            output[..., places(receiver[1])] = new[..., places(receiver[1])]
            return output

        outputs = []
        with torch.no_grad():
            handle = project.register_forward_hook(exchange)
            try:
                kept = self.run(ids, [(self.dense(receiver[0]), lambda _, args: outputs.append(args[0].clone()))])
            finally:
                handle.remove()
            pattern = kept.attentions[receiver[0]][0, receiver[1]].numpy()
            theirs = slice(receiver[1] * self.width, (receiver[1] + 1) * self.width)
            difference = (outputs[0] - self.seen(ids, self.dense(receiver[0])))[..., theirs]
            part = difference @ self.dense(receiver[0]).weight[:, theirs].T
            logits = self.run(ids, [(self.final_norm, lambda _, args: (args[0] + part,))]).logits[0].double()
        return pattern, (logits - logits.mean(-1, keepdim=True)).numpy()


def replacement_of(plain, texts, number, sender, word):
    own = slice(sender[1] * plain.width, (sender[1] + 1) * plain.width)
    if word == "mean":
        return torch.cat([plain.seen(ids, plain.dense(sender[0]))[0, :, own] for ids in texts]).double().mean(0).float()
    donor = texts[(number + 1) % len(texts)]
    return plain.seen(donor, plain.dense(sender[0]))[0, :, own]


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_it_agrees_with_a_plain_full_computation(architecture):
    model = random_model(architecture)
    model.config._attn_implementation = "eager"
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    texts = repeated(3, VOCAB)
    senders, receivers = ((0, 1), (1, 3)), ((1, 0), (2, 3))
    found = patched_paths(
        model, texts, senders, receivers, score="induction", replacements=("mean", "resample"),
        first_row=lambda n_tokens: n_tokens // 2,
    )  # fmt: skip
    assert model.config._attn_implementation == "eager"
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    plain = Plain(model)
    clean = [plain.run(ids) for ids in texts]
    for at, (layer, head) in enumerate(receivers):
        expected = np.mean([induction(one.attentions[layer][0, head].numpy()) for one in clean])
        assert found.before["induction"][at] == pytest.approx(expected, abs=TOLERANCE)
    compared = 0
    for word in ("mean", "resample"):
        for one, sender in enumerate(senders):
            for other, receiver in enumerate(receivers):
                if sender[0] >= receiver[0]:
                    assert np.isnan(found.after[Key(word, "q", LOGIT)][one, other])
                    continue
                for name in "qkv":
                    scores, logits = [], []
                    for number, ids in enumerate(texts):
                        new = replacement_of(plain, texts, number, sender, word)
                        pattern, centred = plain.patched(ids, sender, receiver, name, new)
                        scores.append(induction(pattern))
                        logits.append(np.mean([centred[i, ids[i + 1]] for i in range(L, 2 * L - 1)]))
                    assert found.after[Key(word, name, LOGIT)][one, other] == pytest.approx(
                        np.mean(logits), abs=TOLERANCE
                    )
                    if name != "v":
                        assert found.after[Key(word, name, "induction")][one, other] == pytest.approx(
                            np.mean(scores), abs=TOLERANCE
                        )
                    compared += 1
    assert compared == 2 * 3 * 3
    # The paths matter in this model, so that a patch which does nothing could not pass.
    assert np.nanmax(np.abs(found.after[Key("mean", "k", LOGIT)] - found.before[LOGIT])) > 100 * TOLERANCE


def test_texts_of_several_lengths_count_alike():
    model = random_model("gpt_neox")
    texts = [np.arange(1, 12), np.arange(20, 29), np.arange(40, 51)]
    found = patched_paths(model, texts, ((0, 0),), ((2, 1),), score="prev")
    plain = Plain(model)
    model.config._attn_implementation = "eager"
    expected = []
    for number, ids in enumerate(texts):
        new = replacement_of(plain, texts, number, (0, 0), "mean")
        pattern, _ = plain.patched(ids, (0, 0), (2, 1), "k", new)
        expected.append(np.diag(pattern, -1).mean())
    assert found.after[Key("mean", "k", "prev")][0, 0] == pytest.approx(np.mean(expected), abs=TOLERANCE)


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_the_path_is_where_it_was_written_and_nowhere_else(architecture):
    """The keys of the induction head read what the previous-token head writes. Its queries and values do not."""
    model = planted(architecture)
    every = tuple((0, head) for head in range(4))
    found = patched_paths(
        model, repeated(4, WORDS), every, (PLACES["induction"], PLACES["decoy"]), score="induction",
        replacements=("resample", "mean"), first_row=lambda n_tokens: n_tokens // 2,
    )  # fmt: skip
    for word in ("resample", "mean"):
        for name in "qk":
            change = found.after[Key(word, name, "induction")] - found.before["induction"]
            for head in range(4):
                if (0, head) == PLACES["previous"] and name == "k":
                    assert (change[head] < -0.5).all()  # the decoy attends as the real one does …
                else:
                    assert np.abs(change[head]).max() < 1e-3
    logit = found.after[Key("resample", "k", LOGIT)] - found.before[LOGIT]
    previous = PLACES["previous"][1]
    assert logit[previous, 0] < -1
    assert abs(logit[previous, 1]) < 1e-4  # … but writes nothing


def test_models_that_cannot_be_patched_are_refused_by_name():
    texts = repeated(2, 50)
    with pytest.raises(UnsupportedModel, match="Gemma2ForCausalLM normalises what the heads of a layer write together"):
        patched_paths(random_model("gemma2"), texts, ((0, 0),), ((1, 0),))
    with pytest.raises(UsageError, match="no head 9 in layer 1"):
        patched_paths(random_model("gpt_neox"), texts, ((0, 0),), ((1, 9),))
    with pytest.raises(UsageError, match="copying is no score of the attention pattern"):
        patched_paths(random_model("gpt_neox"), texts, ((0, 0),), ((1, 0),), score="copying")
    with pytest.raises(UsageError, match="give two texts or more"):
        patched_paths(random_model("gpt_neox"), texts[:1], ((0, 0),), ((1, 0),), replacements=("resample",))
