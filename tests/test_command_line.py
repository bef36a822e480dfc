"""Misuse and broken inputs on the command line: one message that names the thing, the right exit code, never a traceback."""

import json
import pickle
import shlex
import shutil
import sys
import warnings

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

import headway
from headway import cli
from headway.attention import HeadScores
from headway.options import COMMANDS
from headway.suites import registry
from headway.suites.folder import folder_suite
from support_commands import with_options
from support_models import saved

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WORDS = [f"w{number}" for number in range(89)]


def run(monkeypatch, capsys, *words):
    """Exit code and what was written to the error stream."""
    code, _, said = run_and_read(monkeypatch, capsys, *words)
    return code, said


def run_and_read(monkeypatch, capsys, *words):
    """Exit code, and what was written to the output and to the error stream."""
    monkeypatch.setattr(sys, "argv", ["headway", *map(str, words)])
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    return code, *capsys.readouterr()


@pytest.fixture(autouse=True)
def no_memory_of_others(monkeypatch, tmp_path):
    """What an audit finds is remembered, but not from one test to another; what warns, warns on the error stream."""
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path / "headway-cache"))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder suite of one run with two checkpoints, a corpus beside it."""
    place = tmp_path_factory.mktemp("suite")
    for step in (0, 8):
        folder = place / "suite" / "toy-1m-seed1" / f"step{step}"
        folder.mkdir(parents=True)
        saved(folder, "gpt_neox", seed=step)
        tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="w0"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.save(str(folder / "tokenizer.json"))
    (place / "texts.txt").write_text("w1 w2 w3\nw4 w5 w6 w7\n")
    return place


@pytest.fixture
def place(original, tmp_path):
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path


def weights_of(place, step):
    return place / "suite" / "toy-1m-seed1" / f"step{step}" / "model.safetensors"


def no_damage(place):
    return None


def truncated(place):
    file = weights_of(place, 8)
    file.write_bytes(file.read_bytes()[:-100])


def not_finite(place):
    tensors = load_file(weights_of(place, 8))
    name = next(name for name in tensors if name.endswith("query_key_value.weight"))
    tensors[name][0, 0] = np.nan
    save_file(tensors, weights_of(place, 8), metadata={"format": "pt"})


def another_shape(place):
    config = weights_of(place, 8).with_name("config.json")
    config.write_text(config.read_text().replace('"num_hidden_layers": ', '"num_hidden_layers": 1'))


class Evil:
    def __reduce__(self):
        return (open, ("evil-was-here", "w"))


def malicious(place):
    weights_of(place, 8).unlink()
    torch.save({"a": Evil()}, weights_of(place, 8).with_name("pytorch_model.bin"), pickle_module=pickle)


def other_bytes(place):
    (place / "texts.txt").write_bytes(b"\xff\xfe\xfa caf\xe9")


def empty(place):
    (place / "texts.txt").write_text("\n\n")


def single_tokens(place):
    (place / "texts.txt").write_text("w1\nw2\n")


def other_tokenizer(place):
    for step in (0, 8):
        file = weights_of(place, step).with_name("tokenizer.json")
        file.write_text(file.read_text().replace('"w5": 5', '"w5": 200'))


def a_table(place):
    (place / "texts.csv").write_text("Sentence,n\nw1 w2,1\n")


MEASURE = ("measure", "suite", "--corpus", "texts.txt", "--out", "out")
CLUSTER = ("cluster", "suite", "--out", "out", "--nulls", 0)
INTERVENE = ("intervene", "suite", "--corpus", "texts.txt", "--out", "out")

BAD = {
    "unknown suite": (no_damage, ("measure", "pithia", "--out", "out"), 2, "pithia"),
    "unknown size": (
        no_damage,
        ("measure", "pythia", "--corpus", "nano", "--where", "size=15m", "--out", "out"),
        2,
        "15m",
    ),
    "unknown step": (no_damage, (*MEASURE, "--where", "step=3"), 2, "3"),
    "unknown seed": (no_damage, (*MEASURE, "--where", "seed=9"), 2, "9"),
    "unknown score": (no_damage, (*MEASURE, "--scores", "prv"), 2, "prv"),
    "no corpus": (no_damage, ("measure", "suite", "--corpus", "gone.txt", "--out", "out"), 2, "gone.txt"),
    "not UTF-8": (other_bytes, MEASURE, 2, "UTF-8"),
    "empty corpus": (empty, MEASURE, 2, "texts.txt"),
    "no such column": (a_table, ("measure", "suite", "--corpus", "texts.csv:Text", "--out", "out"), 2, "Text"),
    "one token each": (single_tokens, MEASURE, 2, "none of the 2 texts of the corpus texts.txt has 2 tokens"),
    "tokens that the model does not have": (other_tokenizer, MEASURE, 2, "token id 200"),
    "a BOS that the tokenizer does not have": (no_damage, (*MEASURE, "--add-bos"), 2, "BOS"),
    "truncated weights": (truncated, MEASURE, 1, "step8"),
    "NaN weights": (not_finite, MEASURE, 1, "NaN"),
    "config of another shape": (another_shape, MEASURE, 1, "toy-1m-seed1@8"),
    "a malicious pickle": (malicious, MEASURE, 1, "pytorch_model.bin"),
    "a layer that is not there": (no_damage, (*CLUSTER, "--layers", 77), 1, "layer 77"),
    "fewer heads than clusters": (no_damage, (*CLUSTER, "--ks", 30), 1, "too few for 30 clusters"),
    "one cluster": (no_damage, (*CLUSTER, "--ks", 1), 2, "at least 2"),
    "too few nulls": (no_damage, ("cluster", "suite", "--out", "out", "--nulls", 5), 2, "19 or more"),
    "unknown feature": (no_damage, (*CLUSTER, "--features", "raw,cooked"), 2, "cooked"),
    "labels that are not there": (no_damage, (*CLUSTER, "--labels", "mine.csv"), 2, "mine.csv"),
    "NaN weights to cluster": (not_finite, CLUSTER, 1, "NaN"),
    "interventions without clusters": (no_damage, INTERVENE, 2, "headway cluster"),
    "nothing to analyse": (no_damage, ("analyze", "suite"), 2, "suite"),
    "nothing to report": (no_damage, ("report", "suite"), 2, "suite"),
    "no such head table": (no_damage, ("import-heads", "gone.csv.gz", "--out", "out"), 2, "gone.csv.gz"),
    "no such column of a head table": (
        no_damage,
        ("import-heads", "texts.txt", "--columns", "run=a", "--out", "out"),
        2,
        "no column 'a'",
    ),
    "no such evaluation": (no_damage, ("import-abilities", "gone.json", "--out", "out"), 2, "gone.json"),
    "no evaluation": (
        no_damage,
        ("import-abilities", "suite/toy-1m-seed1/step0/config.json", "--out", "out"),
        2,
        "results",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_one_message_that_names_the_thing(place, monkeypatch, capsys, name):
    damage, words, code, named = BAD[name]
    damage(place)
    monkeypatch.chdir(place)
    found, said = run(monkeypatch, capsys, *words)
    assert named in said, said
    assert found == code, said
    assert "Traceback" not in said
    assert "a defect in headway" not in said
    assert not (place / "evil-was-here").exists()


def test_results_stay_when_a_checkpoint_fails(place, monkeypatch, capsys):
    truncated(place)
    monkeypatch.chdir(place)
    assert run(monkeypatch, capsys, *MEASURE)[0] == 1
    assert [part.name for part in (place / "out" / "heads").iterdir()] == ["toy-1m-seed1@0.parquet"]


def test_another_corpus_is_refused_unless_forced(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert run(monkeypatch, capsys, *MEASURE)[0] == 0
    (place / "texts.txt").write_text("w9 w8 w7\n")
    code, said = run(monkeypatch, capsys, *MEASURE)
    assert (code, "--force" in said) == (2, True)
    assert run(monkeypatch, capsys, *MEASURE, "--force")[0] == 0


@pytest.mark.parametrize(("option", "word"), [("--dtype", "int8"), ("--device", "gpu")])
def test_a_mistyped_word_replaces_nothing(place, monkeypatch, capsys, option, word):
    monkeypatch.chdir(place)
    assert run(monkeypatch, capsys, *MEASURE)[0] == 0
    code, said = run(monkeypatch, capsys, *MEASURE, option, word, "--force")
    assert (code, word in said) == (2, True)
    assert len(list((place / "out" / "heads").glob("*.parquet"))) == 2


def test_the_manifest_says_how_to_repeat_it(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert run(monkeypatch, capsys, *MEASURE, "--where", "step=8")[0] == 0
    entry = json.loads((place / "out" / "manifest.json").read_text())["tables"]["heads"]
    assert entry["asked"] == {"suite": "suite", "where": "step=8", "corpus": str(place / "texts.txt"), "device": DEVICE}
    assert entry["sources"] == {"toy-1m-seed1": str(place / "suite" / "toy-1m-seed1")}
    assert entry["identity"]["corpus"]["sha256"]
    assert entry["identity"]["dtype"] == "float32"


def test_a_failed_run_does_not_block_other_settings(place, monkeypatch, capsys):
    sound = weights_of(place, 8).read_bytes()
    truncated(place)
    monkeypatch.chdir(place)
    assert run(monkeypatch, capsys, *MEASURE, "--where", "step=8")[0] == 1
    weights_of(place, 8).write_bytes(sound)
    (place / "texts.txt").write_text("w1 w2 w3\n")
    assert run(monkeypatch, capsys, *MEASURE)[0] == 0


def on_the_hub(hub, place):
    """The suite of `place`, as one on the Hub."""
    folder = place / "suite" / "toy-1m-seed1"
    for step in (0, 8):
        hub.add_folder("someone/toy-1m-seed1", f"step{step}", folder / f"step{step}")
    hub.add("someone/toy-1m-seed1", "main", {"tokenizer.json": folder / "step0" / "tokenizer.json"})
    return ("measure", "hf:someone/toy-1m-seed1", "--corpus", "texts.txt", "--out", "out")


@pytest.mark.parametrize("damage", [single_tokens, other_tokenizer])
def test_an_unusable_corpus_is_refused_before_weights_are_fetched(place, monkeypatch, capsys, hub, damage):
    damage(place)
    monkeypatch.chdir(place)
    assert run(monkeypatch, capsys, *on_the_hub(hub, place))[0] == 2
    assert hub.sent("tokenizer.json") > 0
    assert hub.sent("model.safetensors") == 0
    assert not (place / "out").exists()


def test_a_sweep_that_goes_on_is_not_looked_at_anew(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    looked_at = []
    require = HeadScores.require_measurable
    monkeypatch.setattr(
        HeadScores, "require_measurable", lambda job, one: looked_at.append(one.key) or require(job, one)
    )
    assert run(monkeypatch, capsys, *MEASURE)[0] == 0
    assert run(monkeypatch, capsys, *MEASURE)[0] == 0
    assert looked_at == ["toy-1m-seed1@0"]


def test_a_first_checkpoint_that_cannot_be_looked_at_stops_no_sweep(place, monkeypatch, capsys):
    weights_of(place, 0).with_name("tokenizer.json").unlink()
    weights_of(place, 0).with_name("config.json").write_text("[")
    monkeypatch.chdir(place)
    code, said, errors = run_and_read(monkeypatch, capsys, *MEASURE)
    assert (code, said.splitlines()[0]) == (1, "1 checkpoint computed, 0 reused, 1 failed"), errors


QUICK = {
    "cluster": ("--nulls", 0),
    "intervene": ("--controls", 2, "--texts", 1, "--kinds", "q"),
    "analyze": ("--bootstraps", 0),
    "report": ("--figures", "no"),
}


@pytest.mark.slow
def test_the_examples_of_help_run_one_after_another(place, monkeypatch, capsys):
    """Those on the nano suite, here with a smaller suite under its name and fewer draws, then those on their results."""
    small = folder_suite(place / "suite", name="nano", corpus="texts.txt")
    monkeypatch.setattr(registry, "_nano", lambda name: small)
    monkeypatch.chdir(place)
    heads = json.loads(weights_of(place, 8).with_name("config.json").read_text())["num_attention_heads"]
    (place / "mine.csv").write_text("head,label\n" + "".join(f"{head},{head % 2}\n" for head in range(heads)))
    commands = [words for command in COMMANDS for words, _ in command.examples]
    # The small suite has no sizes of nano, and no induction.
    first = [
        words
        for words in commands
        if words.split()[1:2] == ["nano"] and not words.startswith("audit") and "role=" not in words
    ]
    then = [
        words for words in commands if words.startswith(("analyze", "report", "status")) and "induction" not in words
    ]
    assert (len(first), len(then)) == (8, 6)
    for words in [*first, *(words.replace("runs/mine", "runs/nano") for words in then)]:
        code, said = run(monkeypatch, capsys, *with_options(shlex.split(words), QUICK.get(words.split()[0], ())))
        assert code == 0, f"{words}: {said}"
    assert {path.name for path in (place / "runs" / "nano").iterdir()} > {"interventions", "report.html", "report.md"}
    assert {path.name for path in (place / "runs" / "labels").iterdir()} > {"clusters", "interventions", "prompts"}


WRITES = {
    "measure": ("measure", "pythia", "--corpus", "texts.txt"),
    "cluster": ("cluster", "pythia"),
    "intervene": ("intervene", "pythia"),
    "relate": ("relate", "pythia"),
    "describe": ("describe", "pythia"),
    "import-heads": ("import-heads", "gone.csv"),
    "import-abilities": ("import-abilities", "gone.json"),
    "audit": ("audit", "pythia"),
    "demo": ("demo",),
    "nano train": ("nano", "train"),
}


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize(
    ("out", "words"), [("", "--out is empty"), ("texts.txt", "texts.txt is a file"), ("texts.txt/x", "texts.txt is a")]
)
def test_an_out_that_cannot_be_ends_a_command_before_anything_else(place, monkeypatch, capsys, verb, out, words):
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:1")  # nothing is asked of the Hub
    code, said = run(monkeypatch, capsys, *WRITES[verb], "--out", out)
    assert (code, words in said, len(said.splitlines())) == (2, True, 1), said
    assert not (place / "headway-cache").exists()


INTERVENTIONS = {
    "a layer that is not there": (("--layers", 77), "77"),
    "a kind that is not there": (("--kinds", "x"), "x"),
    "a clustering that is not there": (("--clustering", "colours"), "colours"),
    "no prompts": (("--prompts", "empty.txt"), "empty.txt"),
}


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_interventions_that_cannot_be(place, monkeypatch, capsys, name):
    more, named = INTERVENTIONS[name]
    monkeypatch.chdir(place)
    (place / "empty.txt").write_text("")
    assert run(monkeypatch, capsys, *CLUSTER, "--ks", 2)[0] == 0
    code, said = run(monkeypatch, capsys, *INTERVENE, "--controls", 5, *more)
    assert code == 2, said
    assert named in said
    assert "Traceback" not in said


def test_counts_are_in_the_singular_where_they_are_one(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    code, said, _ = run_and_read(monkeypatch, capsys, *MEASURE, "--where", "step=8")
    assert (code, said.splitlines()[0]) == (0, "1 checkpoint computed, 0 reused, 0 failed")
    code, said, _ = run_and_read(monkeypatch, capsys, *MEASURE)
    assert (code, said.splitlines()[0]) == (0, "1 checkpoint computed, 1 reused, 0 failed")
    last_weights_at_step_4(place)
    code, said, _ = run_and_read(monkeypatch, capsys, "audit", "suite")
    assert (code, said.splitlines()[-2]) == (1, "3 checkpoints looked at, 1 flagged; 1 flag, 0 notes")


def test_interventions_say_what_came_of_each_of_their_tables(place, monkeypatch, capsys):
    shutil.copytree(place / "suite" / "toy-1m-seed1", place / "suite" / "toy-1m-seed2")
    not_finite(place)
    monkeypatch.chdir(place)
    assert run(monkeypatch, capsys, *CLUSTER, "--ks", 2, "--where", "step=8")[0] == 1  # seed 1 at step 8
    code, said, errors = run_and_read(monkeypatch, capsys, *INTERVENE, "--controls", 5, "--kinds", "q")
    each = "2 checkpoints computed, 0 reused, 1 failed"
    assert (code, said.splitlines()[0]) == (1, f"interventions: {each}; prompts: {each}"), errors
    assert errors.count("toy-1m-seed1@8") == 1, errors  # though both tables lack it, for the same reason


@pytest.mark.parametrize("words", [("--study", "roles", "--study", "abilities"), ("--study=roles", "--study=roles")])
def test_an_option_given_twice_is_refused(place, monkeypatch, capsys, words):
    code, said = run(monkeypatch, capsys, "analyze", place / "none", *words)
    assert code == 2
    assert said.strip() == "headway: --study is given twice. Give it once; commas separate several values"


def test_the_version_is_said(monkeypatch, capsys):
    assert run_and_read(monkeypatch, capsys, "--version") == (0, f"headway {headway.__version__}\n", "")


AWAY = {"down": ("HF_ENDPOINT", "http://127.0.0.1:9"), "offline": ("HF_HUB_OFFLINE", "1")}


@pytest.mark.parametrize("keep", ["yes", "no"])
@pytest.mark.parametrize("away", AWAY)
def test_a_finished_sweep_survives_a_hub_that_is_away(place, monkeypatch, capsys, hub, away, keep):
    monkeypatch.chdir(place)
    command = (*on_the_hub(hub, place), "--keep-files", keep)
    assert run(monkeypatch, capsys, *command)[0] == 0
    monkeypatch.setenv(*AWAY[away])
    code, said, errors = run_and_read(monkeypatch, capsys, *command)
    assert (code, said.splitlines()[0]) == (0, "0 checkpoints computed, 2 reused, 0 failed"), errors
    assert "headway: warning: " in errors
    if away == "down":
        assert "Using the last saved list of revisions of someone/toy-1m-seed1" in errors


@pytest.mark.parametrize("away", AWAY)
def test_a_hub_that_is_away_and_an_empty_cache_are_said(place, monkeypatch, capsys, hub, away):
    monkeypatch.chdir(place)
    monkeypatch.setenv(*AWAY[away])
    code, said = run(monkeypatch, capsys, *on_the_hub(hub, place))
    assert code == 1
    assert ("127.0.0.1:9 does not answer" if away == "down" else "HF_HUB_OFFLINE is set, and the cache") in said
    assert not (place / "out").exists()


def another_rotary_base(place):
    config = weights_of(place, 8).with_name("config.json")
    values = json.loads(config.read_text())
    values["rope_parameters"]["rope_theta"] = 5e5
    values["transformers_version"] = "4.0"
    config.write_text(json.dumps(values))


def another_vocabulary(place):
    file = weights_of(place, 8).with_name("tokenizer.json")
    file.write_text(file.read_text().replace('"w5": 5', '"w5": 6').replace('"w6": 6', '"w6": 5'))


@pytest.mark.parametrize(
    ("change", "name"), [(another_rotary_base, "rope_parameters"), (another_vocabulary, "tokenizer")]
)
def test_settings_that_differ_between_steps_are_warned_of(place, monkeypatch, capsys, change, name):
    change(place)
    monkeypatch.chdir(place)
    warnings.simplefilter("always")  # two commands in one process
    for _ in range(2):  # also where all parts are there already
        code, said = run(monkeypatch, capsys, *MEASURE)
        assert code == 0, said
        (warning,) = [line for line in said.splitlines() if "differs between steps" in line]
        assert warning.startswith(f"headway: warning: toy-1m-seed1: {name} differs between steps (")
        assert "at 1 step (0);" in warning
        assert "at 1 step (8))" in warning


def test_a_folder_of_an_unsafe_name_is_left_out(place, monkeypatch, capsys):
    shutil.copytree(place / "suite" / "toy-1m-seed1", place / "suite" / "copy of toy")
    monkeypatch.chdir(place)
    code, said = run(monkeypatch, capsys, *MEASURE)
    assert code == 0, said
    assert "copy of toy is left out: the run name 'copy of toy' cannot be part of a file name" in said
    assert len(list((place / "out" / "heads").iterdir())) == 2


def test_a_report_of_fewer_checkpoints_says_so(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert run(monkeypatch, capsys, *MEASURE, "--scores", "prev,self,prev_self_ratio")[0] == 0
    assert run(monkeypatch, capsys, "analyze", "out", "--bootstraps", 0)[0] == 0
    shutil.copytree(weights_of(place, 8).parent, weights_of(place, 16).parent)
    assert run(monkeypatch, capsys, *MEASURE, "--scores", "prev,self,prev_self_ratio")[0] == 0
    code, said = run(monkeypatch, capsys, "report", "out", "--format", "md")
    assert (code, "analysed before the table heads changed" in said) == (0, True), said
    assert "Out of date" in (place / "out" / "report.md").read_text()


def test_several_scores_are_analysed_into_one_report(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert run(monkeypatch, capsys, *MEASURE, "--scores", "prev,self,prev_self_ratio")[0] == 0
    code, said = run(monkeypatch, capsys, "analyze", "out", "--score", "prev", "--score", "self", "--bootstraps", 0)
    assert code == 0, said
    assert {path.name for path in (place / "out" / "analysis" / "development").glob("*.json")} == {
        "prev.json",
        "self.json",
    }
    assert run(monkeypatch, capsys, "report", "out", "--format", "md")[0] == 0
    text = (place / "out" / "report.md").read_text(encoding="utf-8")
    for title in ("Attention to the previous token", "Attention to the token itself"):
        assert f"# {title}: how it develops during training" in text


# --- an audit -------------------------------------------------------------------------------------------------------


def last_weights_at_step_4(place):
    shutil.copytree(weights_of(place, 8).parent, weights_of(place, 4).parent)


PLANTED = "toy-1m-seed1: step 4 has the weights of the last step, 8"


def test_an_audit_of_a_sound_suite(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    code, said, errors = run_and_read(monkeypatch, capsys, "audit", "suite", "--deep")
    assert (code, said) == (0, "2 checkpoints looked at, 0 flagged; 0 flags, 0 notes\n"), errors
    assert not (place / "out").exists()


@pytest.mark.parametrize("more", [(), ("--deep",), ("--where", "step=0..4"), ("--where", "step=4", "--deep")])
def test_an_audit_finds_what_was_planted(place, monkeypatch, capsys, more):
    last_weights_at_step_4(place)
    monkeypatch.chdir(place)
    code, said, _ = run_and_read(monkeypatch, capsys, "audit", "suite", "--out", "out", *more)
    assert code == 1
    assert f"  flag  {PLANTED}\n" in said
    assert "1 flagged" in said
    assert "--where" in said.splitlines()[-1]
    found = json.loads((place / "out" / "audit.json").read_text())
    assert [(one["kind"], one["steps"]) for one in found["findings"] if one["kind"] == "equal_weights"] == [
        ("equal_weights", [4])
    ]
    assert found["deep"] == ("--deep" in more)
    assert pl.read_parquet(place / "out" / "audit.parquet")["step"].to_list() == (
        [0, 4, 8] if "step=4" not in more else [4, 8]
    )


def test_a_deep_audit_reads_the_weights(place, monkeypatch, capsys):
    not_finite(place)
    monkeypatch.chdir(place)
    assert run(monkeypatch, capsys, "audit", "suite")[0] == 0
    code, said, _ = run_and_read(monkeypatch, capsys, "audit", "suite", "--deep")
    assert code == 1
    assert "flag  toy-1m-seed1: step 8: NaN or infinities in gpt_neox.layers.0.attention.query_key_value.weight" in said


def test_weights_that_cannot_be_read_end_no_audit(place, monkeypatch, capsys):
    malicious(place)
    monkeypatch.chdir(place)
    code, said, errors = run_and_read(monkeypatch, capsys, "audit", "suite", "--deep")
    assert code == 1
    assert "flag  toy-1m-seed1: step 8: " in said
    assert "headway does not read it" in said
    assert "2 checkpoints looked at" in said
    assert "Traceback" not in errors
    assert not (place / "evil-was-here").exists()


@pytest.mark.parametrize(("words", "named"), [(("--where", "step=3"), "3"), (("--where", "seed=9"), "9")])
def test_an_audit_of_what_is_not_there(place, monkeypatch, capsys, words, named):
    monkeypatch.chdir(place)
    code, said = run(monkeypatch, capsys, "audit", "suite", *words)
    assert code == 2
    assert named in said


@pytest.mark.parametrize("words", [MEASURE, (*CLUSTER, "--ks", 2)], ids=["measure", "cluster"])
def test_flagged_checkpoints_are_warned_of(place, monkeypatch, capsys, words):
    last_weights_at_step_4(place)
    monkeypatch.chdir(place)
    warning = "headway: warning: an audit flagged 1 of 3 checkpoints, such as toy-1m-seed1@4: step 4 has the"
    assert "warning: an audit" not in run(monkeypatch, capsys, *words, "--where", "step=0")[1], "there was no audit yet"
    assert run(monkeypatch, capsys, "audit", "suite")[0] == 1
    assert "warning: an audit" not in run(monkeypatch, capsys, *words, "--where", "step=8")[1]
    code, said = run(monkeypatch, capsys, *words)
    assert code == 0, said
    assert warning in said


# --- status ---------------------------------------------------------------------------------------------------------


def test_status_finds_a_damaged_partition_if_it_is_to_verify(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert run(monkeypatch, capsys, *MEASURE)[0] == 0
    sound = (0, "heads: 2 of 2 done, 0 failed, 0 left")
    part = place / "out" / "heads" / "toy-1m-seed1@8.parquet"
    for verify in ((), ("--verify",)):
        code, said, _ = run_and_read(monkeypatch, capsys, "status", "out", *verify)
        assert (code, said.partition(";")[0].strip()) == sound
    data = bytearray(part.read_bytes())
    data[8] ^= 1  # among the numbers: what says of which job the part is, at its end, is whole
    part.write_bytes(data)
    code, said, _ = run_and_read(monkeypatch, capsys, "status", "out")
    assert (code, said.partition(";")[0].strip()) == sound
    code, said, _ = run_and_read(monkeypatch, capsys, "status", "out", "--verify")
    assert code == 1
    assert said.startswith("heads: 1 of 2 done, 0 failed, 1 left")
    assert f"  damaged  {part.name}: " in said
    assert run(monkeypatch, capsys, *MEASURE)[0] == 0
    code, said, _ = run_and_read(monkeypatch, capsys, "status", "out", "--verify")
    assert (code, said.partition(";")[0].strip()) == sound


def test_status_tells_of_failures_and_of_what_is_no_run_directory(place, monkeypatch, capsys):
    truncated(place)
    monkeypatch.chdir(place)
    assert run(monkeypatch, capsys, *MEASURE)[0] == 1
    code, said, _ = run_and_read(monkeypatch, capsys, "status", "out", "--verify")
    assert code == 0, "a checkpoint that failed is no damaged part"
    assert said.startswith("heads: 1 of 2 done, 1 failed, 0 left")
    assert "  failed   toy-1m-seed1@8: " in said
    code, said = run(monkeypatch, capsys, "status", "suite", "--verify")
    assert code == 2
    assert "suite is not a run directory" in said
