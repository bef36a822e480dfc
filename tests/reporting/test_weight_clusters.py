"""The chapter of weight clusters: what was planted stands in it, and what is not there is said to be missing."""

import re

import polars as pl
import pytest

from headway import tables
from headway.reporting import write
from headway.reporting.parts import Figure, Missing, Table
from headway.reporting.weight_clusters import chapter
from headway.store.directory import RunDirectory
from headway.studies import Result, weight_clusters
from headway.studies.weight_clusters.effects import effects, prompts
from support_clusters import noise, one_outlier, planted_sweep, two_groups
from support_report import DRAWN, opened, run_directory
from support_studies import split, too_long


def planted(random, step):
    """Query heads fall into even and odd at step 32, key head 6 outgrows the others."""
    return {
        "q": two_groups(random, 1.0 if step >= 32 else 0.0),
        "k": one_outlier(random, 4 if step >= 32 else 1),
        "v": noise(random),
    }


def with_columns(columns, rows) -> pl.DataFrame:
    """A table of which only the columns that matter are given."""
    types = tables.schema(columns)
    known = [{name: row.get(name) for name in types} for row in rows]
    return pl.DataFrame(known, schema=types)


def effect(cluster, kl, n_controls, **changed):
    return {
        "suite": "planted", "run": "toy-seed1", "model": "toy", "size": "1k", "seed": "1", "step": 256, "layers": [0],
        "kind": "q", "clustering": "kmeans", "operation": "zero", "cluster": cluster, "heads": f"L0H{cluster}",
        "kl": kl, "kl_control_low": 0.1, "kl_control_median": 0.2, "kl_control_high": 0.3, "kl_percentile": 97.0,
        "kl_p": 0.03, "loss_change": 0.2, "n_controls": n_controls, "top_texts": ["<i>w1"], "top_before": [[" the", " a"]],
        "top_before_p": [[0.5, 0.25]], "top_after": [["<b>", " a"]], "top_after_p": [[0.75, 0.2]],
    } | changed  # fmt: skip


def answer(cluster, token, n_controls=30):
    return {
        "suite": "planted", "run": "toy-seed1", "model": "toy", "size": "1k", "seed": "1", "step": 256, "layers": [0, 1],
        "kind": "q", "clustering": "kmeans", "task": "arithmetic", "prompt": "<i>2 + 2 =</i>", "cluster": cluster,
        "heads": f"L0H{cluster}", "top_token": token, "top_probability": 0.5, "model_top_token": " 4",
        "clusters_differ": True, "controls_differ": 0.25, "n_controls": n_controls,
    }  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> Result:
    rundir = planted_sweep(
        RunDirectory(tmp_path_factory.mktemp("planted")), planted, runs=("toy-seed1", "toy-seed2"), steps=(0, 8, 32, 256),
        nulls=99,
    )  # fmt: skip
    planted_sweep(rundir, planted, steps=(0, 8, 32, 256), nulls=0, layout="published")
    found = weight_clusters.study(rundir, bootstraps=0)
    interventions = [effect(0, 0.9, 30), effect(1, 0.15, 30), effect(2, 7.0, 0)]
    effects(found, with_columns(tables.INTERVENTIONS_COLUMNS, interventions))
    prompts(found, with_columns(tables.PROMPTS_COLUMNS, [answer(0, " 4"), answer(1, " 5")]))
    return found


@pytest.fixture(scope="module")
def items(result):
    """Every figure, table and gap of the chapter, by its name or title."""
    return {getattr(item, "name", item.title): item for section in chapter(result).sections for item in section.items}


def test_every_figure_that_was_asked_for_is_there(items):
    figures = {name for name, item in items.items() if isinstance(item, Figure)}
    assert figures >= {
        "map", "silhouette", "metrics", "transitions", "pca", "tsne",
        "norms", "composition", "agreement", "seeds", "effects",
        "answers", "how-many", "readings", "each-null", "published-timeline",
    }  # fmt: skip
    assert not [item for item in items.values() if isinstance(item, Missing)]


def colours_of(part):
    """Every encoding of colour in a chart's specification."""
    if isinstance(part, list):
        return [found for item in part for found in colours_of(item)]
    if not isinstance(part, dict):
        return []
    own = [part["color"]] if isinstance(part.get("color"), dict) and "field" in part["color"] else []
    return own + [found for value in part.values() for found in colours_of(value)]


def test_lines_of_layers_and_heads_keep_their_colours_whatever_the_run(items, result):
    tables_of = chapter(result).tables
    for name in ("metrics", "agreement", "norms"):
        for colour in colours_of(items[name].chart.to_dict(validate=False)):
            low, high = colour["scale"]["domain"]
            values = tables_of[items[name].tables[0]][colour["field"]]
            assert low <= values.min() <= values.max() <= high, "beyond its domain a scale invents colours"


def test_the_outlier_is_named_with_its_norm_and_onset(items):
    outliers = items["outliers"]
    assert isinstance(outliers, Table)
    assert (
        outliers.frame.select("kind", "head", "onset_after", "onset", "left", "alone").rows()
        == [("K", "6", 8, 32, "yes", "yes")] * 2
    )
    assert outliers.frame["norm_ratio"].to_list() == pytest.approx([4, 4], rel=0.1)


def test_bands_stand_behind_silhouette_and_share_at_every_k(result):
    bands = chapter(result).tables["bands"]
    assert set(bands["k"]) == {2, 3}
    assert set(bands["metric"]) == {"Silhouette", "Share of variance between clusters"}
    assert bands.select("low", "median", "high").null_count().sum_horizontal()[0] == 0
    assert (bands["low"] < bands["high"]).all()
    at_start = bands.filter(pl.col("step") == 0)
    assert at_start["start"].equals(at_start["value"], check_names=False)
    assert bands["start"].null_count() == 0


def test_the_number_of_groups_is_that_planted(result):
    counts = chapter(result).tables["counts"]
    queries = counts.filter(pl.col("kind") == "Q", pl.col("step") >= 32)["group_k"]
    assert set(queries) == {2}
    assert set(counts.filter(pl.col("kind") == "K", pl.col("step") >= 32)["group_k"]) == {1}


def test_changes_say_since_which_step(result):
    metrics = chapter(result).tables["metrics"]
    changes = metrics.filter(pl.col("metric").str.contains("change"), pl.col("step") == 32)
    assert set(changes["since"]) == {"since step 8"}
    assert (
        metrics.filter(pl.col("metric") == "Silhouette")["since"].null_count()
        == (metrics["metric"] == "Silhouette").sum()
    )


def test_published_rules_stand_beside_the_corrected(items):
    rules = items["rules"].frame
    n_published, n_corrected = rules.row(0, named=True)["n_published"], rules.row(0, named=True)["n_corrected"]
    assert n_published >= 2  # the outliers' silhouette is what the published rule calls strong clustering
    by_layer = items["rules-by-layer"].frame.filter(pl.col("kind") == "K")
    assert by_layer["published_clusters"].to_list() == ["yes", "yes"]
    assert by_layer["corrected_clusters"].to_list() == ["no", "no"]
    assert n_corrected <= n_published + 2


def test_an_effect_without_its_control_is_not_shown(items, result):
    assert 7.0 not in items["effects-table"].frame["kl"].to_list()
    assert any("no random groups" in note for note in result.notes)


def test_the_top_tokens_stand_before_and_after_with_their_probabilities(items):
    first = items["tops-table"].frame.row(0, named=True)
    assert (first["text"], first["before"], first["after"]) == (
        "<i>w1",
        " the (0.5),  a (0.25)",
        "<b> (0.75),  a (0.2)",
    )


def test_composition_follows_the_planted_groups(result):
    heads = chapter(result).tables["heads"].filter(pl.col("step") == 256, pl.col("kind") == "Q")
    for (_,), run in heads.group_by("run"):
        together = run.filter(pl.col("group") == "with head 0")["head"].sort().to_list()
        assert together == [0, 2, 4, 6, 8, 10]


def test_without_clusters_or_interventions_it_is_said():
    missing = [
        item.title
        for section in chapter(Result("weight_clusters", "weights")).sections
        for item in section.items
        if isinstance(item, Missing)
    ]
    assert {"Clusters", "Transitions", "Effects of interventions", "Prompts"} <= set(missing)


def test_captions_and_findings_are_short_sentences(result, items):
    assert too_long(result.found) == []
    for item in items.values():
        for sentence in split(getattr(item, "sentence", "")):
            assert len(sentence.split()) <= 25, sentence


def test_sections_begin_with_the_findings_of_their_key(result):
    leads = {section.name: section.lead for section in chapter(result).sections}
    for name in ("effects", "prompts", "published"):
        findings = [finding.text for finding in result.findings(name)]
        assert findings
        assert leads[name][: len(findings)] == findings


def test_addresses_are_unique(result, tmp_path):
    page = write(run_directory(tmp_path / "made", result), figures=False).read_text(encoding="utf-8")
    ids = re.findall(r'<(?:section|figure|div|article|h3)[^>]* id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 30


def test_the_mean_over_pairs_of_seeds_is_the_studys(result):
    """Two runs of one size: one pair, whose agreement is its own mean."""
    means, pairs = result.tables["seed_means"], result.tables["seeds"]
    assert means["n_pairs"].unique().to_list() == [1]
    on = ["size", "layer", "kind", "feature", "step"]
    both = means.join(pairs.filter(pl.col("clustering") == "kmeans", pl.col("k") == 2), on=on)
    assert both["ari"].equals(both["ari_right"], check_names=False)
    assert len(both) == len(means)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_every_chart_is_drawn_and_texts_are_escaped(result, tmp_path, width):
    path = write(run_directory(tmp_path / "made", result), figures=False)
    with opened(path, width=width) as page:
        charts = page.evaluate(DRAWN)
        assert len([chart for chart in charts if not chart["name"].rpartition("-")[0].endswith("-small")]) == 16
        assert len(charts) > 16  # and small ones in the summary
        for chart in charts:
            assert chart["marks"] > 1, chart
            assert 0 < chart["width"] <= chart["room"], chart
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.query_selector("main i, main td b") is None
        assert page.heard == []
