"""What each model argument decides, and so what a store of answers belongs to."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the models need the extra lmms-eval")

from redundancy_eval import model_args
from redundancy_eval.model_wrappers.families import registry
from redundancy_eval.model_wrappers.masking import checked_arguments, loading

pytestmark = [pytest.mark.models, pytest.mark.slow]


def own_arguments(function, *left_out):
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    found = {name for name, parameter in inspect.signature(function).parameters.items() if parameter.kind not in kinds}
    return found - {"self", *left_out}


def test_every_model_argument_says_what_it_decides():
    """One that is missing would count as deciding answers: safe, but another device would then be another model."""
    known = set(model_args.KINDS)
    assert own_arguments(loading.native_model, "model_id") <= known
    assert own_arguments(loading.transformers_model) <= known
    for family in registry.FAMILIES.values():
        assert set(family.settings) <= known, family.model_id
        assert set(family.published.arguments if family.published else ()) <= known
        assert set(checked_arguments.allowed(family.model_id)) <= known
    assert set(checked_arguments.allowed("hf_masked")) <= known
    pytest.importorskip("lmms_eval", reason="needs the extra lmms-eval")
    from redundancy_eval.model_wrappers.hosts.lmms_eval import hooked as lmms_eval_hooked
    from redundancy_eval.model_wrappers.hosts.lmms_eval import model as lmms_eval_model

    assert own_arguments(lmms_eval_model.MaskedLmms) <= known
    assert own_arguments(lmms_eval_hooked.Hooked) <= known
    assert {"max_new_tokens", "as_published"} <= known, "what VLMEvalKit's entry takes besides"
    # And no name there is anything else's.
    everything = (
        own_arguments(loading.native_model)
        | own_arguments(loading.transformers_model)
        | own_arguments(lmms_eval_model.MaskedLmms)
    )
    everything |= own_arguments(lmms_eval_hooked.Hooked) | {"max_new_tokens", "as_published"}
    everything |= {name for family in registry.FAMILIES.values() for name in family.settings}
    assert known <= everything
    assert set(model_args.KINDS.values()) == {"mask", "stand-in", "place", "answer"}


@given(st.dictionaries(st.sampled_from([*model_args.KINDS, "unknown", "seed"]), st.text(max_size=5)), st.booleans())
def test_what_decides_an_answer_is_told_from_what_does_not(arguments, full):
    kinds = {name: model_args.KINDS.get(name, "answer") for name in arguments}
    kept = {"answer"} if full else {"answer", "stand-in"}
    found = model_args.deciding(arguments, full)
    assert found == {name: value for name, value in arguments.items() if kinds[name] in kept}
    assert list(found) == sorted(found)
    assert model_args.deciding(dict(reversed(arguments.items())), full) == found


def test_a_calibration_and_a_site_decide_nothing_in_the_full_model():
    given = {"pretrained": "demo", "site": "projected", "calibration": "c", "device": "cpu", "drop": "clip"}
    assert model_args.deciding(given) == {"calibration": "c", "pretrained": "demo", "site": "projected"}
    assert model_args.deciding(given, full=True) == {"pretrained": "demo"}
