"""Every number that the published study prints is met on its own rows."""

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from headway.store.directory import RunDirectory
from headway.studies import Result
from support_studies import too_long

# expected.json: df of mixed models within 0.05 of the printed value, since R's own come from numerical derivatives
DF_TOLERANCE = 0.05
# for evenly spaced x mgcv's printed F depends on a sign that rounding decides: R gives either, according to x's scale
OTHER_F = {"35.59": "35.42"}
COEFFICIENTS = {"fixed": ("estimate", "std_error", "df", "t", "p"), "other": ("estimate", "std_error", "t", "p")}


def meets(value: float, printed: str) -> bool:
    """Whether `value`, rounded to the digits of `printed`, is it.

    R's printCoefmat rounds twice, first to a digit more (0.2263544 to 0.22635, and that to 2.263e-01): the first
    rounding moves a value by up to 0.05 of the last digit, beside the half of it that the second may.
    """
    if printed.startswith("<"):
        return value < float(printed.lstrip("< "))
    if printed.endswith("%"):
        value, printed = value * 100, printed.rstrip("%")
    last_digit = Decimal(1).scaleb(Decimal(printed).as_tuple().exponent)
    return abs(Decimal(float(value)) - Decimal(printed)) <= last_digit * Decimal("0.55")


def unmet(found, expected, path: str = "") -> list[str]:
    """The paths under which `found` does not meet `expected`."""
    if isinstance(expected, dict):
        absent = [f"{path}.{key} is absent" for key in expected if key not in found]
        return absent + [
            line for key in expected if key in found for line in unmet(found[key], expected[key], f"{path}.{key}")
        ]
    if isinstance(expected, list) and isinstance(found, dict):  # a coefficient
        names = COEFFICIENTS["fixed" if ".fixed." in path else "other"]
        return [
            line
            for name, text in zip(names, expected, strict=True)
            for line in unmet(found[name], text, f"{path}.{name}")
        ]
    if isinstance(expected, list):
        return [line for i, text in enumerate(expected) for line in unmet(found[i], text, f"{path}[{i}]")]
    if isinstance(expected, str):
        if path.startswith(".lmm") and path.endswith(".df"):
            good = abs(found - float(expected)) <= DF_TOLERANCE or meets(found, expected)
        else:
            good = meets(found, expected) or (path.endswith(".F") and meets(found, OTHER_F.get(expected, expected)))
        return [] if good else [f"{path}: {found!r} is not {expected}"]
    return [] if found == expected else [f"{path}: {found!r} is not {expected!r}"]


@pytest.fixture(scope="module")
def result(reference, tmp_path_factory) -> Result:
    """Through the command line, as users get it."""
    out = tmp_path_factory.mktemp("published") / "run"
    headway("import-heads", reference / "pythia_heads.csv.gz", "--out", out)
    headway("analyze", out, "--bootstraps", 0)
    return Result.load(RunDirectory(out), "development", "prev_self_ratio")


def headway(*words) -> None:
    command = [Path(sys.executable).with_name("headway"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def expected(reference) -> dict:
    """expected.json without the formulas and methods, which are words and tested below."""

    def numbers(value):
        if not isinstance(value, dict):
            return value
        return {key: numbers(item) for key, item in value.items() if key not in ("formula", "method", "_about")}

    return numbers(json.loads((reference / "expected.json").read_text()))


@pytest.mark.parametrize("section", ["data", "lmm", "gam", "ols", "cor_test", "tables"])
def test_every_printed_number_is_met(result, expected, section):
    assert expected[section]
    assert unmet(result.values[section], expected[section], f".{section}") == []


def test_formulas_are_the_published(result, reference):
    published = json.loads((reference / "expected.json").read_text())
    for section in ("lmm", "gam", "ols"):
        for name, model in published[section].items():
            found = result.values[section][name]
            assert found["formula"] == model["formula"].replace("mean_prev_self_ratio", "prev_self_ratio")
            assert found.get("method") == model.get("method")


def test_only_results_of_bootstraps_are_left_out(result):
    assert all("--bootstraps" in left["reason"] for left in result.values["left_out"])
    assert len(result.tables) >= 35


def test_a_wrong_number_would_be_seen(result, expected):
    damaged = json.loads(json.dumps(result.values["lmm"]))
    damaged["peak"]["fixed"]["log10(n_params)"]["estimate"] += 1e-4
    assert len(unmet(damaged, expected["lmm"], ".lmm")) == 1


def test_each_sentence_of_a_finding_is_short_and_its_answer_comes_first(result):
    assert too_long(result.found) == []
    answers = {(finding.section, finding.name): finding.answer for finding in result.headline}
    assert answers["growth", "rise"] == "The largest head's score rises during training in all 4 sizes."
    told = "cannot be told from 4 sizes"
    assert answers["onset", "published"] == f"Whether larger models start earlier or later {told} (p = 0.13)."
    assert answers["size", "peak"] == f"Whether larger models peak higher {told} (p = 0.091)."


def test_the_robust_lines_are_those_of_mixed_models_with_a_random_size(result):
    """lme4 on the same rows: `y ~ log10(n_params) + (1 | seed_name) + (1 | model)`."""
    robust = result.values["beyond"]["robust"]
    for outcome, p, estimate in (
        ("onset", 0.133199, -0.848515),
        ("peak", 0.091025, 2.584766),
        ("slope", 0.053920, 0.3859),
    ):
        assert robust[outcome]["p"] == pytest.approx(p, abs=1e-5)  # the digits given
        assert robust[outcome]["estimate"] == pytest.approx(estimate, abs=1e-5)
    depth = robust["final_layer_by_size"]
    assert depth["p"] == pytest.approx(0.561, abs=1e-3)
    without = {(row["outcome"], row["size"]): row for row in result.tables["without_size"].to_dicts()}
    assert without["onset", "14m"]["estimate"] == pytest.approx(-0.004, abs=5e-4)
    assert without["onset", "14m"]["p"] > 0.9
    checks = {row["outcome"]: row for row in result.tables["size_checks"].to_dicts()}
    assert checks["onset"]["step_after"] == "14m"
    assert checks["onset"]["step_share"] > 0.99 > 0.8 > checks["onset"]["line_share"]


def test_the_published_score_is_asked_for_the_published_thresholds(result):
    assert result.values["thresholds"]["levels"] == [i / 10 for i in range(1, 16)]
