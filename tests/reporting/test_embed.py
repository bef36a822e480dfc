"""Data inside the page comes out as it went in, and cannot end the element that holds it."""

import base64
import gzip
import json
import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.reporting.embed import SIGNIFICANT_DIGITS, packed, rows, script_json


def unpacked(text: str) -> dict:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def column(encoded: dict) -> list:
    if "values" in encoded:
        return encoded["values"]
    return [None if code is None else encoded["levels"][code] for code in encoded["codes"]]


@given(st.lists(st.none() | st.text(), max_size=20))
def test_texts_come_back_exactly(texts):
    frame = pl.DataFrame({"name": pl.Series(texts, dtype=pl.String)})
    assert column(unpacked(packed({"t": frame}))["t"]["name"]) == texts


@given(st.lists(st.floats(-1e300, 1e300, allow_subnormal=False) | st.just(math.nan) | st.just(math.inf), max_size=20))
def test_numbers_come_back_to_five_digits_and_what_is_no_number_as_null(numbers):
    frame = pl.DataFrame({"value": pl.Series(numbers, dtype=pl.Float64)})
    back = column(unpacked(packed({"t": frame}))["t"]["value"])
    for number, shown in zip(numbers, back, strict=True):
        if math.isfinite(number):
            # half a unit in the last digit that is kept
            assert shown == pytest.approx(number, rel=0.5 * 10.0 ** (1 - SIGNIFICANT_DIGITS), abs=1e-300)
        else:
            assert shown is None


def test_whole_numbers_stay_whole():
    frame = pl.DataFrame({"n_params": [405_334_016, 14_067_712]})
    assert column(unpacked(packed({"t": frame}))["t"]["n_params"]) == [405_334_016, 14_067_712]
    assert rows(frame)[0] == {"n_params": 405_334_016}


@given(st.text() | st.sampled_from(["</script>", "<!--", "]]>", "\u2028", "&lt;"]))
def test_json_in_a_script_element_has_no_sign_that_html_reads(text):
    embedded = script_json({"name": text})
    assert not set("<>&\u2028\u2029") & set(embedded)
    assert json.loads(embedded) == {"name": text}


def test_json_refuses_what_it_cannot_say():
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(math.nan)
