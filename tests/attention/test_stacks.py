"""Models with an encoder: their scores, against transformers' eager attention and formulas written out."""

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from headway.attention import HeadScores, head_scores
from headway.attention.scores import DEFINITIONS, scores_of
from headway.attention.stacks import stack_scores
from headway.corpora import Corpus, tokenize
from headway.errors import UnsupportedModel, UsageError
from headway.known_scores import CROSS, DECODER, ENCODER, STACKS
from headway.models import load, read_stacks
from headway.models.stacks import SILENCE
from headway.models.tokenizers import load_tokenizer
from headway.suites import open_suite
from support_architectures import random_model, tiny
from support_stacks import SPECIAL, eager_stacks, stacked_model, stacked_suite, tokenizer_with_ends

TEXTS = [np.random.default_rng(number).integers(4, 60, length) for number, length in enumerate((9, 17, 9, 2))]
# The scores of models with an encoder: those of the pattern that need no repeated tokens.
NAMES = ("prev", "self", "first", "prev_self_ratio", "prev_all_ratio", "prev_fraction", "entropy", "entropy_norm",
         "distance", "next", "last")  # fmt: skip
TOLERANCE = 1e-5  # sums of a few hundred float32 numbers below 100


def by_hand(A: np.ndarray, stack: str) -> dict[str, np.ndarray]:
    """Each score of matrices (..., T, S), with loops over rows."""
    T, S = A.shape[-2:]
    rows, columns = range(T), range(S)
    entropy = [-sum(A[..., i, j] * np.log(np.where(A[..., i, j] > 0, A[..., i, j], 1)) for j in columns) for i in rows]
    prev = np.mean([A[..., i, i - 1] for i in rows if i], 0)
    found = {
        "prev": prev,
        "self": np.mean([A[..., i, i] for i in rows], 0),
        "first": np.mean([A[..., i, 0] for i in rows], 0),
        "prev_self_ratio": prev / np.mean([A[..., i, i] for i in rows], 0),
        "prev_all_ratio": prev * T,
        "prev_fraction": prev / T,
        "entropy": np.mean(entropy, 0),
        "entropy_norm": np.mean([entropy[i] / np.log(S) for i in rows], 0),
        "distance": np.mean([sum(A[..., i, j] * abs(i - j) for j in columns) for i in rows], 0),
        "next": np.mean([A[..., i, i + 1] for i in rows if i + 1 < S], 0),
        "last": np.mean([A[..., i, S - 1] for i in rows], 0),
    }
    if stack == DECODER:
        found["entropy_norm"] = np.mean([entropy[i] / np.log(i + 1) for i in rows if i], 0)
    return {name: values for name, values in found.items() if name in scores_of(stack)}


# With sliding windows (modernbert, longformer, led), biases by distance (t5), positions by content (deberta), halves of
# different numbers of layers and heads (bart), weights that layers share (albert), and silence for an encoder of audio (whisper).
TRIED = ("bert", "roberta", "electra", "modernbert", "distilbert", "albert", "deberta", "deberta-v2", "longformer",
         "t5", "bart", "led", "whisper")  # fmt: skip


@pytest.mark.parametrize("architecture", TRIED)
def test_equal_to_eager_attention(architecture):
    model = stacked_model(architecture)
    texts = (
        [np.concatenate([[1], ids]) for ids in TEXTS] if architecture == "whisper" else TEXTS
    )  # 1 is its start token
    found = stack_scores(model.base_model, texts, {name: DEFINITIONS[name] for name in NAMES})
    for number, ids in enumerate(texts):
        matrices = eager_stacks(model, ids)
        assert found.keys() == matrices.keys()
        for stack, matrix in matrices.items():
            expected = by_hand(matrix, stack)
            assert found[stack].keys() == expected.keys()
            for name, values in expected.items():
                np.testing.assert_allclose(
                    found[stack][name][number], values, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"{stack} {name}"
                )
    if architecture in ("t5", "bart"):
        n_layers = {stack: found[stack]["first"].shape[1] for stack in STACKS}
        assert n_layers == {DECODER: 3, ENCODER: 2, CROSS: 3}


def test_the_model_is_unchanged_also_after_an_error():
    model = stacked_model("t5")
    model.train()
    before = eager_stacks(model.eval(), TEXTS[0])
    stack_scores(model, TEXTS, {"first": DEFINITIONS["first"]})
    failing = {"first": DEFINITIONS["first"].__class__(lambda A: 1 / 0, repeated=False, stacks=STACKS)}
    with pytest.raises(ZeroDivisionError):
        stack_scores(model, TEXTS, failing)
    assert not model.config.output_attentions
    for stack, matrix in eager_stacks(model, TEXTS[0]).items():
        np.testing.assert_array_equal(matrix, before[stack])


def test_positions_of_t5_count():
    """A bias of distances alone moves attention: with huge biases for the same position, `self` is 1 in the encoder."""
    model = stacked_model("t5")
    bias = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    with torch.no_grad():
        bias.zero_()
        bias[0] = 1e4  # bucket 0 is distance 0
    found = stack_scores(model, TEXTS, {"self": DEFINITIONS["self"]})
    np.testing.assert_allclose(found[ENCODER]["self"], 1, atol=1e-6)
    assert found[DECODER]["self"].max() < 0.99


@pytest.mark.parametrize(
    ("architecture", "why"), [("squeezebert", "0 of 2 layers"), ("prophetnet", "no attention: below")]
)
def test_what_is_no_attention_is_refused_by_name(architecture, why):
    with pytest.raises(UnsupportedModel, match=why):
        stack_scores(stacked_model(architecture).base_model, TEXTS[:1], {"first": DEFINITIONS["first"]})


def test_a_decoder_has_no_next_token():
    model = random_model(tiny("gpt2"))
    with pytest.raises(UsageError, match="next is not defined for a causal language model"):
        head_scores(model, TEXTS, ["next"])


def test_special_tokens_are_those_of_the_tokenizer(tmp_path):
    tokenizer_with_ends().save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert tuple(map(tokenizer.words, tokenizer.around)) == (["[CLS]"], ["[SEP]"])
    texts = tokenize(
        Corpus.of("texts", ["w1 w2", " ".join(f"w{number}" for number in range(9)), "w1"]),
        tokenizer,
        context_length=7,
        vocab_size=67,
        around=tokenizer.around,
    )
    cls, sep = (SPECIAL.index(name) for name in ("[CLS]", "[SEP]"))
    assert all(ids[0] == cls and ids[-1] == sep and len(ids) <= 7 for ids in texts.ids)
    assert [ids.tolist() for ids in texts.ids[:1]] == [[cls, 5, 6, sep]]
    assert (len(texts), texts.n_short, texts.n_windowed) == (3, 1, 1)


@pytest.fixture(scope="module")
def suites(tmp_path_factory):
    return {
        architecture: stacked_suite(tmp_path_factory.mktemp(architecture), architecture, steps=1, seeds=1)
        for architecture in ("bert", "t5")
    }


def computed(suite, job):
    (checkpoint,) = open_suite(suite).checkpoints("")
    with job.read(checkpoint) as input:
        return job.compute(checkpoint, input), job.used(input)


@pytest.mark.parametrize("architecture", ["bert", "t5"])
def test_a_table_of_every_stack(suites, architecture):
    suite, texts = suites[architecture]
    corpus = Corpus.of("texts", texts.read_text().splitlines())
    frame, used = computed(suite, HeadScores(corpus, scores=("prev", "next", "last", "induction")))
    (checkpoint,) = open_suite(suite).checkpoints("")
    folder = checkpoint.source.path
    model, tokenizer = load(folder), load_tokenizer(folder.parent)
    sequences = [[1, *tokenizer.encode(text), 2] for text in corpus.texts]
    assert "induction" not in frame.columns
    assert frame["stack"].unique(maintain_order=True).to_list() == [one.stack for one in read_stacks(folder)]
    for geometry in read_stacks(folder):
        own = frame.filter(stack=geometry.stack)
        assert own.select("n_layers", "n_heads").unique().row(0) == (geometry.n_layers, geometry.n_heads)
        assert own["layer"].max() == geometry.n_layers - 1
        for name in ("prev", "next", "last"):
            if name not in scores_of(geometry.stack):
                assert own[name].null_count() == own.height
                continue
            expected = np.mean(
                [by_hand(eager_stacks(model, ids)[geometry.stack], geometry.stack)[name] for ids in sequences], 0
            )
            np.testing.assert_allclose(own[name], expected.ravel(), rtol=TOLERANCE, atol=TOLERANCE)
    assert used["special_tokens"] == "[CLS] before each text, [SEP] after it"
    assert used.get("decoder_reads", "").startswith("[PAD], then" if architecture == "t5" else "")


def test_what_needs_a_causal_model_is_refused_by_name(suites):
    suite, texts = suites["bert"]
    corpus = Corpus.of("texts", texts.read_text().splitlines())
    with pytest.raises(UsageError, match="induction is not defined for the encoder of bert"):
        computed(suite, HeadScores(corpus, scores=("induction",)))
    with pytest.raises(UsageError, match="leave --add-bos out"):
        computed(suite, HeadScores(corpus, add_bos=True))
    (checkpoint,) = open_suite(suite).checkpoints("")
    with pytest.raises(UnsupportedModel, match="'bert' has an encoder"):
        load(checkpoint.source.path, lm_head=True)


def test_an_encoder_of_audio_without_known_silence_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "speech_to_text", "is_encoder_decoder": true}')
    with pytest.raises(UnsupportedModel, match="its encoder reads audio"):
        read_stacks(tmp_path)


def test_silence_is_that_of_the_feature_extractor():
    features = WhisperFeatureExtractor()(np.zeros(16_000), sampling_rate=16_000).input_features[0]
    assert features.shape == (80, 3000)
    np.testing.assert_allclose(features, SILENCE["whisper"], rtol=1e-6)  # float32


def test_what_is_heard_counts_for_the_decoder(monkeypatch):
    """So the comparison with eager attention would see another input than silence."""
    model = stacked_model("whisper")
    scores = {"first": DEFINITIONS["first"]}
    in_silence = stack_scores(model, TEXTS, scores)
    monkeypatch.setitem(SILENCE, "whisper", 0.0)
    in_noise = stack_scores(model, TEXTS, scores)
    assert in_silence.keys() == {DECODER}
    np.testing.assert_array_equal(
        in_silence[DECODER]["first"][:, 0], in_noise[DECODER]["first"][:, 0]
    )  # nothing heard yet
    assert np.abs(in_silence[DECODER]["first"] - in_noise[DECODER]["first"]).max() > 1e-3


def test_beside_audio_the_decoder_alone_is_measured(tmp_path):
    suite, texts = stacked_suite(tmp_path, "whisper", steps=1, seeds=1)
    corpus = Corpus.of("texts", texts.read_text().splitlines())
    job = HeadScores(corpus, scores=("prev", "last"))
    frame, used = computed(suite, job)
    assert frame["stack"].unique().to_list() == [DECODER]
    assert frame.columns.count("last") == 0
    assert used["stacks"] == [DECODER]
    assert used["encoder_reads"] == "silence, as log-mel features"
    assert used["decoder_reads"] == "[CLS], then the other tokens of the text without the last"
    assert used["stacks_left_out"].keys() == {ENCODER, CROSS}
    said = job.require_measurable(*open_suite(suite).checkpoints(""))
    assert said[0] == "heads of the encoder are left out: it reads audio, and a corpus holds texts"
    assert said[2] == "last is left out: whisper has an encoder, and no stack of its heads (decoder) has such a score"
    with pytest.raises(
        UsageError, match=r"last is not defined for the decoder of whisper.*The cross is left out: it attends to"
    ):
        computed(suite, HeadScores(corpus, scores=("last",)))


def test_what_tokens_of_global_attention_see_is_no_window():
    """Longformer's question answering lets some tokens attend to all. Their rows are handed out elsewhere, so it is refused."""
    model = stacked_model("longformer").base_model
    plain = model.forward

    def with_global(**inputs):
        chosen = torch.zeros_like(inputs["input_ids"])
        chosen[:, 0] = 1
        return plain(**inputs, global_attention_mask=chosen)

    model.forward = with_global
    with pytest.raises(UnsupportedModel, match="0 of 2 layers of the encoder"):
        stack_scores(model, TEXTS[:1], {"first": DEFINITIONS["first"]})


def test_weights_that_layers_share_are_said(tmp_path):
    suite, texts = stacked_suite(tmp_path, "albert", steps=1, seeds=1)
    job = HeadScores(Corpus.of("texts", texts.read_text().splitlines()), scores=("self",))
    frame, used = computed(suite, job)
    assert used["weights"] == "2 layers share 1 set of weights"
    assert job.require_measurable(*open_suite(suite).checkpoints("")) == [
        "the heads of several layers have the same weights: 2 layers share 1 set of weights"
    ]
    assert frame["layer"].unique().to_list() == [0, 1]
