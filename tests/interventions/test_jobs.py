"""Effects of clusters beside their controls, on a model in which one head alone matters."""

import copy

import numpy as np
import polars as pl
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from headway import sweep, tables
from headway.corpora import Corpus
from headway.errors import CorpusError
from headway.interventions.groups import Grouping
from headway.interventions.job import ClusterEffects
from headway.interventions.prompts import Prompt, PromptAnswers, prompts_of, read_prompts
from headway.store.directory import RunDirectory
from headway.suites import open_suite
from support_interventions import RUN, neox, write_suite

WORDS = [f"w{i}" for i in range(23)]
LAYERS, HEADS, DIM, LOUD = 2, 6, 4, 3


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A run whose layer 1 speaks through head 3 alone: the others write nothing."""
    folder = tmp_path_factory.mktemp("planted")
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=len(WORDS),
            hidden_size=HEADS * DIM,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=37,
            max_position_embeddings=32,
            initializer_range=0.4,
        )
    )
    with torch.no_grad():
        weight = model.gpt_neox.layers[1].attention.dense.weight
        weight[:, : LOUD * DIM] = 0
        weight[:, (LOUD + 1) * DIM :] = 0
    model.save_pretrained(folder / "toy-1m-seed1" / "step7")
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return open_suite(folder)


def texts(n: int = 5) -> Corpus:
    random = np.random.default_rng(0)
    return Corpus.of("toy", [" ".join(random.choice(WORDS, 9)) for _ in range(n)])


ONE = Grouping("v", "kmeans", {1: (0, 0, 0, 1, 0, 0)})
OTHER = Grouping("q", "kmeans", {1: (0, 0, 0, 0, 1, 1)})
BOTH = Grouping("k", "given", {0: (0, 1, 1, 0, 0, 0), 1: (0, 0, 0, 1, 0, 0)})


@pytest.fixture(scope="module")
def done(suite, tmp_path_factory):
    directory = RunDirectory(tmp_path_factory.mktemp("out"))
    job = ClusterEffects(texts(), {"toy-1m-seed1": [ONE, OTHER, BOTH]}, n_texts=4)
    assert sweep.run(job, suite.checkpoints(), directory).failed == []
    return directory.read("interventions")


def row(frame: pl.DataFrame, kind: str, operation: str, cluster: int | None) -> dict:
    same = pl.col("cluster").is_null() if cluster is None else pl.col("cluster") == cluster
    return frame.filter(pl.col("kind") == kind, pl.col("operation") == operation, same).row(0, named=True)


def test_the_table_is_as_described(done):
    assert done.schema == tables.schema(tables.INTERVENTIONS_COLUMNS)
    assert done.height == 3 * (2 + 2 + 1)
    key = ("run", "step", "layers", "kind", "clustering", "operation", "cluster", "other_cluster")
    assert done.select(key).is_unique().all()


def test_the_head_that_matters_stands_out_among_all_groups_of_its_size(done):
    found = row(done, "v", "zero", 1)
    assert found["heads"] == "L1H3"
    assert found["kl"] > 1e-3
    assert found["n_controls"] == HEADS  # every single head of the layer
    assert found["kl_control_median"] == 0  # the others write nothing
    assert found["kl_p"] == pytest.approx(1 / HEADS)
    assert found["kl_percentile"] == pytest.approx(100 * (HEADS - 1) / HEADS)


def test_heads_that_cannot_matter_do_nothing_and_do_not_stand_out(done):
    found = row(done, "q", "zero", 1)
    assert found["heads"] == "L1H4 L1H5"
    assert (found["kl"], found["loss_change"], found["top_changed"]) == (0, 0, 0)
    assert found["kl_p"] == 1  # every group does at least that
    assert found["n_controls"] == 15  # 6 choose 2
    assert found["top_before"] == found["top_after"]


def test_the_top_five_tokens_of_the_first_texts_stand_before_and_after_with_their_probabilities(suite, done):
    model = GPTNeoXForCausalLM.from_pretrained(suite.checkpoints()[0].source.path)
    by_hand = copy.deepcopy(model)
    with torch.no_grad():
        by_hand.gpt_neox.layers[1].attention.dense.weight.zero_()  # head 3 was all that spoke
    found = row(done, "v", "zero", 1)
    changed = []
    for number, text in enumerate(texts(4).texts):
        ids = torch.tensor([[WORDS.index(word) for word in text.split()]])
        assert found["top_texts"][number] == text
        for one, name in ((model, "top_before"), (by_hand, "top_after")):
            p = one(ids).logits[0, -1].softmax(-1)
            values, tokens = p.topk(5)
            assert found[name][number] == [WORDS[token] for token in tokens]
            assert found[f"{name}_p"][number] == pytest.approx(values.tolist(), abs=1e-6)  # float32
        changed.append(found["top_before"][number][0] != found["top_after"][number][0])
    assert len(found["top_before"]) == 4
    assert found["top_changed"] == np.mean(changed) > 0
    assert found["top_changed_control_median"] == 0  # the other heads write nothing
    assert found["top_changed_p"] == pytest.approx(1 / HEADS)


def test_several_layers_at_once_are_compared_with_groups_of_the_same_sizes_in_each(done):
    found = row(done, "k", "zero", 1)
    assert found["layers"] == [0, 1]
    assert found["heads"] == "L0H1 L0H2 L1H3"
    assert found["n_controls"] == 15 * 6  # 6 choose 2, and every single head
    assert 0 < found["kl_p"] < 1


def test_prompts_are_answered_by_each_cluster_alone(suite, tmp_path):
    prompts = (Prompt("a task", "w1 w2 w3"), Prompt("", "w4 w5 w6 w7"))
    job = PromptAnswers(prompts, {"toy-1m-seed1": [ONE, OTHER]})
    directory = RunDirectory(tmp_path / "out")
    assert sweep.run(job, suite.checkpoints(), directory).failed == []
    frame = directory.read("prompts")
    assert frame.schema == tables.schema(tables.PROMPTS_COLUMNS)
    assert frame.height == 2 * 2 * 2

    # By hand: the other heads' columns of the output projection zeroed.
    model = GPTNeoXForCausalLM.from_pretrained(suite.checkpoints()[0].source.path)
    weight = model.gpt_neox.layers[1].attention.dense.weight
    answers = []
    for heads in ([0, 1, 2, 4, 5], [3]):
        with torch.no_grad():
            kept = weight.clone()
            for head in set(range(HEADS)) - set(heads):
                weight[:, head * DIM : (head + 1) * DIM] = 0
            answers.append(model(torch.tensor([[1, 2, 3]])).logits[0, -1].double().softmax(-1).numpy())
            weight.copy_(kept)
    one = frame.filter(pl.col("kind") == "v", pl.col("task") == "a task").sort("cluster")
    assert one["top_token"].to_list() == [WORDS[answer.argmax()] for answer in answers]
    # float32 probabilities are good to about 1e-7 of 1.
    assert one["top_probability"].to_list() == pytest.approx([answer.max() for answer in answers], abs=1e-6)
    assert one["divergence"][0] == pytest.approx(jensenshannon(*answers) ** 2, abs=1e-6)
    # Wherever head 3 is, one group is as good as the whole layer and the other is silent: all partitions are alike.
    assert one["divergence_p"][0] == 1
    assert one["controls_differ"][0] == one["clusters_differ"][0]
    two = frame.filter(pl.col("kind") == "q", pl.col("task") == "a task")
    assert two["divergence_p"][0] == 1
    assert two["n_controls"][0] == 15


def test_a_prompt_that_is_too_long_is_left_out_and_said(suite, tmp_path):
    long, short = Prompt("", " ".join(["w1"] * 33)), Prompt("", "w1 w2")
    directory = RunDirectory(tmp_path / "a")
    job = PromptAnswers((long, short), {"toy-1m-seed1": [ONE]})
    assert sweep.run(job, suite.checkpoints(), directory).failed == []
    table = directory.read("prompts")
    assert set(table["prompt"]) == {"w1 w2"}
    for why in table["left_out"]:
        assert len(why) == 1
        assert "has 33 tokens; the model reads 1 to 32" in why[0]
    only = PromptAnswers((long,), {"toy-1m-seed1": [ONE]})
    [failed] = sweep.run(only, suite.checkpoints(), RunDirectory(tmp_path / "b")).failed
    assert "has 33 tokens; the model reads 1 to 32" in failed.error


def test_a_run_without_clusters_is_a_recorded_failure(suite, tmp_path):
    [failed] = sweep.run(ClusterEffects(texts(), {}), suite.checkpoints(), RunDirectory(tmp_path)).failed
    assert "the run toy-1m-seed1 has no clusters of heads: cluster its weights first" in failed.error


def test_predictions_that_are_not_finite_are_no_effect(tmp_path):
    model = neox()
    with torch.no_grad():
        model.lm_head.weight *= 1e38  # finite itself; its products with what comes next are not
        model.gpt_neox.final_layer_norm.weight *= 1e5
    folder = write_suite(tmp_path, {(RUN, 7): model})
    checkpoints = open_suite(folder / "suite").checkpoints()
    for job in (ClusterEffects(texts(), {RUN: [ONE]}), PromptAnswers((Prompt("", "w1"),), {RUN: [ONE]})):
        [failed] = sweep.run(job, checkpoints, RunDirectory(tmp_path / "out")).failed
        assert "the model's predictions are not finite in float32" in failed.error


def test_prompts_from_files_and_corpora(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("arithmetic\t2 + 2 =\n\nThe capital of France is\n")
    assert read_prompts(path) == (Prompt("arithmetic", "2 + 2 ="), Prompt("", "The capital of France is"))
    path.write_text("\n \n")
    with pytest.raises(CorpusError, match="holds no prompts"):
        read_prompts(path)
    with pytest.raises(CorpusError, match=r"missing\.txt cannot be read"):
        read_prompts(tmp_path / "missing.txt")


def test_prompts_are_whole_lines(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffsum\t1 + 1 =\r\none\x0ctwo\u2028three\n".encode())
    assert read_prompts(path) == (Prompt("sum", "1 + 1 ="), Prompt("", "one\x0ctwo\u2028three"))
    path.write_text("sum\t1 + 1 =\nsum\t \n")
    with pytest.raises(CorpusError, match=r"line 2: the task 'sum' has no prompt after its tab"):
        read_prompts(path)
    [prompt] = prompts_of(Corpus.of("c", ["one two three four five six"]), 1)
    assert prompt.text == "one two three"
