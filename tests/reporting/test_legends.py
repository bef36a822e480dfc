"""The colours of small figures are named, and a role has one colour in all chapters."""

import altair as alt
import polars as pl

from headway.known_scores import ROLES
from headway.reporting.legends import Swatch, legend
from headway.reporting.roles.frames import colours

SIZES = {name: Swatch(name, light, dark) for name, light, dark in (("1m", "#111", "#eee"), ("5m", "#222", "#ddd"))}
DATA = pl.DataFrame({"x": [1], "y": [2], "size": ["1m"], "role": ["a"], "of": ["b"]})


def specified(**encoding) -> dict:
    return alt.Chart(DATA).mark_point().encode(x="x:Q", **encoding).to_dict(validate=False)


def named(field: str, **names: str) -> alt.Color:
    return alt.Color(f"{field}:N", scale=alt.Scale(domain=list(names), range=list(names.values())))


def test_sizes_have_the_colours_of_the_page():
    assert legend(specified(y="y:Q", color="size:N"), SIZES) == tuple(SIZES.values())
    assert legend(specified(y="y:Q", color="size:N"), {}) == ()


def test_other_names_have_the_colours_of_their_scale():
    """A chart coloured by role stood under a legend of sizes."""
    roles = named("role", a="#400", b="#040")
    found = legend(specified(y="y:Q", color=roles), SIZES)
    assert found == (Swatch("a", "#400", "#400"), Swatch("b", "#040", "#040"))
    layered = alt.layer(
        alt.Chart(DATA).mark_point().encode(x="x:Q", color=roles), alt.Chart(DATA).mark_line().encode(fill="size:N")
    )
    assert legend(layered.to_dict(validate=False), SIZES) == (*found, *SIZES.values())


def test_what_an_axis_names_has_no_legend():
    assert legend(specified(y="of:N", color=named("of", b="#040")), SIZES) == ()


def test_a_scale_of_numbers_has_no_legend():
    assert legend(specified(y="y:Q", color=alt.Color("x:Q", scale=alt.Scale(domain=[0, 1], range="ramp"))), SIZES) == ()
    assert legend(specified(y="y:Q", color="role:N"), SIZES) == ()
    assert legend(specified(y="y:Q"), SIZES) == ()


def test_a_role_has_one_colour_whatever_stands_beside_it():
    every = colours([*ROLES, "mine", "yours"])
    assert len(set(every.values())) == len(every) == 8
    for names in (["induction"], ["mine", "induction"], ["induction", "previous-token", "mine"]):
        assert colours(names) == {name: every[name] for name in names}
