"""What headway finds out about models without an entry, and whether it sees that a wrong guess is wrong."""

from dataclasses import replace
from functools import partial

import pytest

from headway.errors import UnsupportedModel
from headway.interventions import Permute
from headway.models import ARCHITECTURES, architecture_for, geometry_of
from headway.models.architectures import (
    StoredWeight,
    grouped_kinds,
    heads_then_kinds,
    kinds_in_blocks,
    partitioned_kinds,
)
from headway.models.config import skeleton
from headway.models.probing import fault_of
from support_architectures import random_model, tiny
from support_models import CONFIGS
from support_models import random_model as known_model

QKV = {
    "phi3": ("self_attn.qkv_proj.weight", kinds_in_blocks, (grouped_kinds,)),
    "bloom": ("self_attention.query_key_value.weight", heads_then_kinds, (kinds_in_blocks,)),
    "codegen": ("attn.qkv_proj.weight", partitioned_kinds, (kinds_in_blocks, grouped_kinds, heads_then_kinds)),
}


def probed(model_type, architecture):
    model = skeleton(tiny(model_type).to_json_string(), "the model")
    return fault_of(model, architecture, geometry_of(model))


@pytest.mark.parametrize("model_type", QKV)
def test_only_the_right_order_of_a_fused_weight_passes(model_type):
    tensor, right, wrong = QKV[model_type]
    found = architecture_for(random_model(tiny(model_type)))

    def read_with(layout):
        own = {kind: StoredWeight(tensor, partial(layout, kind=number)) for number, kind in enumerate("qkv")}
        return replace(found, weights={**found.weights, **own})

    assert probed(model_type, read_with(right)) is None
    for layout in wrong:
        assert "not that head's alone" in probed(model_type, read_with(layout))


@pytest.mark.parametrize(("one", "other"), [("q", "k"), ("k", "v"), ("q", "v")])
def test_kinds_that_are_taken_for_each_other_do_not_pass(one, other):
    found = architecture_for(random_model(tiny("opt")))
    swapped = {**found.weights, one: found.weights[other], other: found.weights[one]}
    assert "not that head's alone" in probed("opt", replace(found, weights=swapped))


@pytest.mark.parametrize("architecture", [name for name in CONFIGS if name not in ("gpt_oss", "gpt2")])
def test_the_entries_pass_too(architecture):
    """Entries are written by hand. gpt_oss has sinks, so a query changes even the row of one key."""
    model = skeleton(known_model(architecture).config.to_json_string(), "the model")
    entry = next(one for one in ARCHITECTURES if architecture in one.model_types)
    assert fault_of(model, entry, geometry_of(model)) is None


def test_the_model_is_not_changed_by_the_trial():
    model = skeleton(tiny("opt").to_json_string(), "the model")
    fault_of(model, architecture_for(model), geometry_of(model))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_heads_that_do_not_lie_apart_are_not_reordered():
    model = random_model(tiny("falcon", new_decoder_architecture=True, num_kv_heads=3))
    assert architecture_for(model).weights["q"].tensor == "self_attention.query_key_value.weight"
    with pytest.raises(UnsupportedModel, match="do not lie apart"), Permute({0: [1, 0, 2, 3, 4, 5]}, "q").on(model):
        pass
