"""The study of configuration on heads with features that are planted, or not, and on circuits that were written into weights."""

import numpy as np
import polars as pl
import pytest

import headway
from headway.errors import StatisticsError
from headway.reporting import write
from headway.reporting.configuration import chapter
from headway.reporting.parts import Figure, Missing
from headway.store import RunDirectory
from headway.studies import applying, configuration
from headway.studies.configuration import classification, likeness, matching
from headway.studies.configuration.described import FEATURES, Described, standardised
from support_circuits import PLACES, planted_suite
from support_report import DRAWN, opened, run_directory
from support_studies import too_long, undocumented

P, LAYERS, HEADS = len(FEATURES), 3, 6
ROLE = "a role"


def heads(seed, shift=0.0, *, run=0, alike=0.0):
    """A run of random heads, two of each layer with the role. `shift` moves three of their features; `alike` makes heads that have
    the role attend and write like those of other runs."""
    random = np.random.default_rng([seed, run])
    layers = np.repeat(np.arange(LAYERS), HEADS)
    held = np.zeros(LAYERS * HEADS, bool)
    for layer in range(LAYERS):
        held[layer * HEADS + random.choice(HEADS, 2, replace=False)] = True
    features = random.normal(size=(len(layers), P)) + layers[:, None]  # layers differ
    features[held, :3] += shift
    vectors = {}
    for at, name in enumerate(("attention", "outputs")):
        own = random.normal(size=(len(layers), 40))
        own[held] += alike * np.random.default_rng([9, at]).normal(size=40)
        vectors[name] = (own / np.linalg.norm(own, axis=1, keepdims=True)).astype(np.float32)
    return Described(
        f"toy-seed{run}",
        "1m",
        str(run),
        64,
        layers,
        np.tile(np.arange(HEADS), LAYERS),
        standardised(features, layers),
        vectors,
        {ROLE: held},
    )


def runs(seed, n=4, **planted):
    return [heads(seed, run=run, **planted) for run in range(n)]


def test_a_planted_configuration_is_found_in_unseen_runs():
    of_runs, table = classification.classified(runs(1, shift=3.0), [ROLE], 199, 0)
    row = table.row(0, named=True)
    assert row["balanced_accuracy"] > 0.9
    assert row["p"] == pytest.approx(1 / 200)
    assert row["chance"] == pytest.approx(0.5, abs=0.05)
    assert (row["n_runs"], row["n_holders"], row["n_others"]) == (4, 24, 48)
    assert of_runs["balanced_accuracy"].mean() == pytest.approx(row["balanced_accuracy"])
    assert of_runs["run"].to_list() == [f"toy-seed{run}" for run in range(4)]
    pairs = likeness.alike(runs(1, shift=3.0), [ROLE], 199, 0)
    assert (pairs["distance"] < pairs["lower"]).all()
    different = classification.differences(runs(1, shift=3.0), [ROLE])
    assert set(different.sort("p").head(3)["feature"]) == set(FEATURES[:3])


def test_heads_without_a_configuration_stay_at_chance():
    """The rates of p ≤ 0.05 of all tests, where roles fall on random heads and layers differ."""
    p = {"classified": [], "within runs": [], "across runs": [], "matched": []}
    for seed in range(80):
        made = runs(seed)
        p["classified"].append(classification.classified(made, [ROLE], 99, seed)[1]["p"][0])
        for pairs, found in likeness.alike(made, [ROLE], 99, seed).select("pairs", "p").iter_rows():
            p[pairs].append(found)
        p["matched"].append(matching.matching(made, [ROLE], 99, seed).roles.filter(by="both")["p"][0])
    for name, found in p.items():
        # Binomial(80, 0.05): P(10 or more) = 0.008. Ties of counts make p larger.
        assert sum(one <= 0.05 for one in found) <= 9, name
        assert np.mean(found) > 0.4, name


def test_the_layer_of_a_head_tells_nothing():
    """All heads of a role are in one layer, and features differ by layer alone: no layer has both kinds of heads."""
    made = []
    for one in runs(3):
        held = one.layers == 1
        made.append(
            Described(
                one.run, one.size, one.seed, one.step, one.layers, one.heads, one.features, one.vectors, {ROLE: held}
            )
        )
    assert classification.classified(made, [ROLE], 19, 0)[1].is_empty()
    assert likeness.alike(made, [ROLE], 19, 0).is_empty()
    layered = matching.matching(made, [ROLE], 19, 0).roles
    assert layered["p"].null_count() == layered.height  # every exchange gives the same count


def test_the_discriminant_is_that_of_the_covariance_within_classes():
    """With many heads nothing is shrunk, and both have the same direction (Sherman and Morrison)."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(P, P))
    labels = random.random(3000) < 0.3
    seen = random.normal(size=(3000, P)) @ mixing + np.outer(labels, random.normal(size=P))
    new = random.normal(size=(400, P)) @ mixing
    truth = random.random(400) < 0.5
    found = classification.balanced_accuracy(seen, labels[None], new, truth[None])[0]
    means = [seen[labels].mean(0), seen[~labels].mean(0)]
    within = sum((seen[of] - mean).T @ (seen[of] - mean) for of, mean in zip((labels, ~labels), means, strict=True))
    direction = np.linalg.solve(within, means[0] - means[1])
    told = new @ direction > (means[0] + means[1]) / 2 @ direction
    expected = (told[truth].mean() + (~told[~truth]).mean()) / 2
    assert found == pytest.approx(expected, abs=0.01)  # a head or two on the border: the little shrinkage that is left


def test_the_covariance_is_shrunk_as_ledoit_and_wolf_say():
    random = np.random.default_rng(1)
    x = random.normal(size=(12, 5)) * [1, 2, 3, 4, 5]
    centred = x - x.mean(0)
    sample = centred.T @ centred / 12
    level = np.trace(sample) / 5
    d2 = ((sample - level * np.eye(5)) ** 2).sum() / 5
    b2 = min(d2, sum(((np.outer(row, row) - sample) ** 2).sum() / 5 for row in centred) / 12**2)
    expected = b2 / d2 * level * np.eye(5) + (d2 - b2) / d2 * sample
    np.testing.assert_allclose(
        classification.shrunk_covariance(x), expected, atol=1e-8
    )  # 1e-9 is added to the diagonal
    assert np.isfinite(np.linalg.inv(classification.shrunk_covariance(x[:3, [0, 0, 0, 0]]))).all()


def test_counterparts_are_found_beyond_layers():
    found = matching.matching(runs(5, alike=3.0), [ROLE], 199, 0)
    for row in found.roles.iter_rows(named=True):
        assert row["share"] > 0.9
        assert row["p"] == pytest.approx(1 / 200)
        assert row["n_possible"] == 6 * 6  # six pairs of runs, six heads of the role in each
    assert found.matches.filter(by="both").height == 6 * LAYERS * HEADS
    assert found.steps["same_layer_chance"].to_list() == [pytest.approx(1 / LAYERS)] * 3


def test_sizes_are_learned_together_with_all_runs_of_a_seed_left_out():
    small = runs(1, n=2, shift=3.0)
    large = [
        Described(f"big-{one.run}", "9m", one.seed, 64, one.layers, one.heads, one.features, one.vectors, one.holds)
        for one in small
    ]
    table = classification.classified([*small, *large], [ROLE], 99, 0)[1]
    assert table["size"].to_list() == ["1m", "9m", None]
    assert table.filter(pl.col("size").is_null())["n_runs"][0] == 4
    same_seed = [heads(1, run=0, shift=3.0), Described(**(vars(heads(1, run=0)) | {"run": "other", "size": "9m"}))]
    assert classification.classified(same_seed, [ROLE], 9, 0)[1].is_empty()  # no other seed to learn from


RUNS = {f"planted-1m-seed{seed}": {"previous": 1, "induction": 1, "decoy": 1} for seed in range(3)}


@pytest.fixture(scope="module")
def rundir(tmp_path_factory):
    folder = planted_suite(tmp_path_factory.mktemp("configuration"), RUNS, (0, 1))
    given = {"corpus": str(folder / "texts.txt"), "repeated_length": 8}
    headway.measure(folder / "suite", out=folder / "out", scores=["prev", "induction"], repeated_texts=8, **given)
    assert headway.describe(folder / "suite", out=folder / "out", **given).failed == []
    return RunDirectory(folder / "out")


@pytest.fixture(scope="module")
def result(rundir):
    assert "configuration" in applying(rundir)
    return configuration.study(rundir, bootstraps=200)


def test_written_heads_meet_their_counterparts(result):
    matched = result.tables["matches"].filter(by="both")
    for name in ("previous", "induction", "decoy"):
        layer, head = PLACES[name]
        own = matched.filter(layer=layer, head=head)
        partners = set(own.select("other_layer", "other_head").rows())
        # By attention alone the decoy is an induction head; with outputs it is not.
        assert partners == {PLACES[name]}, name
        # What a decoy writes is noise, so that it shares its attention alone.
        assert own["similarity"].min() > (0.4 if name == "decoy" else 0.6)
    classified = result.tables["classification"].filter(role="induction")
    assert classified["balanced_accuracy"][0] > 0.9


def test_findings_are_short_and_say_their_counts(result):
    assert too_long(result.found) == []
    assert {finding.section for finding in result.found} == {"weights", "features", "matches"}
    assert any("3 runs" in finding.text for finding in result.findings("weights"))


def test_what_is_missing_is_said(rundir, tmp_path):
    with pytest.raises(StatisticsError, match="`headway describe` makes it"):
        configuration.study(RunDirectory(tmp_path))


def test_every_figure_is_there_and_drawn(result, rundir):
    items = [item for section in chapter(result).sections for item in section.items]
    assert {item.name for item in items if isinstance(item, Figure)} == {
        "classified", "classified-steps", "alike", "features", "head-map", "matched", "similarity",
    }  # fmt: skip
    assert not [item for item in items if isinstance(item, Missing)]
    result.save(rundir)
    page = write(rundir, figures=False).read_text(encoding="utf-8")
    assert "Configuration: are the heads of a role alike?" in page


@pytest.mark.browser
def test_every_chart_is_drawn(result, tmp_path):
    with opened(write(run_directory(tmp_path / "made", result), figures=False), width=1280) as page:
        charts = page.evaluate(DRAWN)
        assert len(charts) >= 7
        for chart in charts:
            assert chart["marks"] > 1, chart
            assert 0 < chart["width"] <= chart["room"], chart
        assert page.heard == []


def test_every_table_and_column_is_documented(result):
    assert undocumented(result.tables, "configuration.md") == {}


def test_without_roles_heads_are_matched_all_the_same(rundir, tmp_path):
    """The score is there, but no head passes the level."""
    alone = configuration.study(rundir, roles=["previous-token=prev>2", "induction=induction>2"], bootstraps=20)
    assert alone.tables["matches"].height
    assert {"matches"} == {finding.section for finding in alone.found}
    items = [item for section in chapter(alone).sections for item in section.items]
    assert any("no head holds a role of attention" in item.reason for item in items if isinstance(item, Missing))
