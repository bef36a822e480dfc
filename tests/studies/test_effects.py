"""Effects of interventions beside their controls: random groups, and the run's first step."""

import polars as pl

from headway import tables
from headway.studies import Result
from headway.studies.weight_clusters.effects import effects, prompts


def frame(columns, rows) -> pl.DataFrame:
    """A table of which only the columns that matter are given."""
    types = tables.schema(columns)
    return pl.DataFrame([{name: row.get(name) for name in types} for row in rows], schema=types)


def effect(step, kl, run="toy-seed1", **more):
    return {
        "run": run, "step": step, "layers": [0], "kind": "q", "clustering": "kmeans", "operation": "zero", "cluster": 0,
        "heads": "L0H1", "kl": kl, "kl_p": 0.5, "n_controls": 30, "top_changed": 0.5, "top_changed_control_median": 0.25,
        "top_texts": ["one", "two"], "top_before": [["a", "b"], ["c", "d"]], "top_before_p": [[0.6, 0.1], [0.5, 0.2]],
        "top_after": [["b", "a"], ["c", "d"]], "top_after_p": [[0.4, 0.3], [0.5, 0.2]],
    } | more  # fmt: skip


def studied(*rows) -> Result:
    result = Result("weight_clusters", "weights")
    effects(result, frame(tables.INTERVENTIONS_COLUMNS, rows))
    return result


def test_an_effect_at_the_first_step_is_no_control_of_its_own():
    swap = {"operation": "swap", "other_cluster": 1}
    result = studied(effect(0, 0.1), effect(8, 0.9), effect(0, 0.3, **swap), effect(8, 0.7, **swap))
    found = result.tables["effects"].sort("operation", "step")
    assert found.select("step", "kl", "first_step", "kl_first_step").rows() == [
        (0, 0.3, None, None), (8, 0.7, 0, 0.3), (0, 0.1, None, None), (8, 0.9, 0, 0.1),
    ]  # fmt: skip
    assert not [note for note in result.notes if "one step" in note]


def test_a_run_with_one_step_is_named():
    result = studied(effect(8, 0.9, run="toy-seed2"), effect(0, 0.1), effect(8, 0.9))
    alone = result.tables["effects"].filter(pl.col("run") == "toy-seed2")
    assert alone["kl_first_step"].to_list() == [None]
    assert [note for note in result.notes if note.startswith("toy-seed2: interventions at one step only")]


def test_top_tokens_are_listed_by_text_and_rank_and_not_without_controls():
    tops = studied(effect(8, 0.9), effect(8, 0.9, cluster=1, n_controls=0)).tables["tops"]
    columns = ("text", "rank", "token_before", "p_before", "token_after", "p_after", "top_changed_control_median")
    assert tops.select(columns).rows() == [
        ("one", 1, "a", 0.6, "b", 0.4, 0.25), ("one", 2, "b", 0.1, "a", 0.3, 0.25),
        ("two", 1, "c", 0.5, "c", 0.5, 0.25), ("two", 2, "d", 0.2, "d", 0.2, 0.25),
    ]  # fmt: skip
    assert set(tops["cluster"]) == {0}


def test_prompts_that_were_not_asked_are_said():
    answer = {
        "run": "toy-seed1", "step": 8, "layers": [0], "kind": "q", "clustering": "kmeans", "prompt": "2 + 2 =",
        "cluster": 0, "clusters_differ": True, "controls_differ": 0.25, "n_controls": 30,
        "left_out": ["the prompt 'one' has 99 tokens"],
    }  # fmt: skip
    result = Result("weight_clusters", "weights")
    prompts(result, frame(tables.PROMPTS_COLUMNS, [answer, answer | {"run": "toy-seed2"}]))
    assert result.notes == ["Not asked of toy-seed1, toy-seed2: the prompt 'one' has 99 tokens."]


def test_answers_of_earlier_steps_are_not_pooled_with_those_of_the_last():
    """The figure shows one step, at first the last: the headline is of that."""
    answer = {
        "run": "toy-seed1", "layers": [0], "kind": "q", "clustering": "kmeans", "prompt": "2 + 2 =", "cluster": 0,
        "n_controls": 30,
    }  # fmt: skip
    result = Result("weight_clusters", "weights")
    steps = [(0, False, 0.0), (4, False, 0.0), (8, True, 0.25)]
    rows = [answer | {"step": step, "clusters_differ": own, "controls_differ": other} for step, own, other in steps]
    prompts(result, frame(tables.PROMPTS_COLUMNS, rows))
    (found,) = result.findings("prompts")
    assert (found.name, found.values) == ("differ", {"differ": 1.0, "by_chance": 0.25})
    assert "differently in 100% of cases; random groups of their sizes do in 25%." in found.answer
