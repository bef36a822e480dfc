"""Every causal language model of the installed transformers: docs/architectures.md says what headway does with it."""

import pytest
import transformers

from support_architectures import EVERY, PAGE, TOLERANCE, examine, rows_of

WRITTEN = PAGE.read_text(encoding="utf-8")
of_this_version = pytest.mark.skipif(
    f"transformers {transformers.__version__}." not in WRITTEN, reason="the page is of another transformers"
)


@of_this_version
@pytest.mark.parametrize("architecture", EVERY)
def test_the_page_says_what_is_found(architecture, tmp_path):
    row = examine(architecture, tmp_path)
    found = tuple("no" if reason else "yes" for reason in (row.measure, row.cluster, row.intervene))
    assert rows_of(WRITTEN)[architecture] == found, row
    assert row.difference is None or row.difference <= TOLERANCE
    assert (row.difference is None) == bool(row.measure)


@of_this_version
def test_the_page_has_every_architecture():
    assert tuple(rows_of(WRITTEN)) == EVERY


def test_how_many():
    answers = list(rows_of(WRITTEN).values())
    assert sum(measure == "yes" for measure, _, _ in answers) >= 90
    assert sum(cluster == "yes" for _, cluster, _ in answers) >= 70
    assert sum(intervene == "yes" for _, _, intervene in answers) >= 70
