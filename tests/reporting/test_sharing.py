"""Charts that share their encodings are the charts that Altair makes of copies."""

import altair as alt

from headway.reporting.charts import forms
from headway.reporting.charts.sharing import shared_encodings


def chart():
    x, y = alt.X("step:Q", title="Step"), alt.Y("score:Q", axis=alt.Axis(format="%"))
    lines = forms.lines("heads", x, y, forms.tips(("step:Q", "step")), by="run", color=forms.by_size(["14m", "70m"]))
    return forms.focusable(forms.panels(lines + forms.guide("heads", "size", y=0.5), "size", ["14m", "70m"]))


def test_the_same_specification_from_fewer_copies():
    expected = chart().to_dict(validate=False)
    with shared_encodings():
        assert chart().to_dict(validate=False) == expected
        one = forms.base("heads").mark_point().encode(x=alt.X("step:Q"))
        assert one.copy().encoding is one.encoding
        # A chart that is encoded further gets encodings of its own.
        assert one.encode(y=alt.Y("score:Q")).encoding.x is one.encoding.x
        assert one.encoding.y is alt.Undefined
    assert one.copy().encoding is not one.encoding
