"""What a search varies: how it is written, that samples lie in it, and that a longer search begins as a shorter one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.study import StudyError
from bench.tuning.space import KINDS, Dimension, default_space, draw, overlaid, parse, size, with_layers

NAMES = st.sampled_from(["after", "middle", "before", "global", "hybrid"])
RATES = st.floats(1e-8, 1e3)
VALUES = {float: RATES, int: st.integers(0, 99), str: NAMES}


def dimensions(name: str) -> st.SearchStrategy[Dimension]:
    kind = KINDS[name].type
    listed = st.lists(VALUES[kind], min_size=1, max_size=5, unique=True).map(lambda v: Dimension(name, tuple(v)))
    pairs = st.tuples(RATES, RATES).filter(lambda pair: pair[0] < pair[1])
    return listed | pairs.map(lambda pair: Dimension(name, bounds=pair)) if kind is float else listed


SPACES = st.lists(st.sampled_from(list(KINDS)), min_size=1, unique=True).flatmap(
    lambda names: st.tuples(*map(dimensions, names))
)


@given(SPACES)
def test_a_space_reads_as_it_is_written_in_one_order(space):
    texts = [dimension.text for dimension in space]
    assert set(parse(texts)) == set(space)
    assert parse(texts) == parse(texts[::-1])


@given(SPACES, st.integers(1, 30), st.integers(0, 30), st.integers(0, 5))
def test_samples_lie_in_the_space_and_a_longer_search_begins_as_a_shorter_one(space, few, more, seed):
    drawn = draw(space, few + more, seed)
    assert draw(space, few, seed) == drawn[:few]
    for values in drawn:
        assert list(values) == [dimension.name for dimension in space]
        for dimension in space:
            value = values[dimension.name]
            low, high = dimension.bounds or (0, 0)
            assert low <= value <= high if dimension.bounds else value in dimension.values
    if (there := size(space)) is None:
        assert len(drawn) == few + more
    else:
        assert len({str(values) for values in drawn}) == len(drawn) == min(few + more, there)


def test_a_range_is_searched_by_orders_of_magnitude():
    rates = [values["lr"] for values in draw(parse(["lr=1e-4..1e-2"]), 400, 0)]
    assert 0.4 < sum(rate < 1e-3 for rate in rates) / 400 < 0.6
    assert len(set(rates)) > 300 and all(len(f"{rate:.10g}".lstrip("0.")) <= 5 for rate in rates)


def test_another_seed_draws_others():
    space = default_space()
    assert draw(space, 5, 0) != draw(space, 5, 1)


def test_the_usual_space_has_no_block_for_the_baseline_and_layers_only_as_a_choice():
    assert [d.name for d in default_space()] == ["lr", "placement", "mapper_lora", "attention"]
    assert [d.name for d in default_space(has_block=False)] == ["lr", "attention"]
    assert with_layers(default_space(), (7,)) == default_space()
    assert with_layers(default_space(), (7, 15))[1] == Dimension("layer", (7, 15))


def test_values_take_the_place_of_settings_and_leave_the_rest():
    settings = {"train": {"lr": 1.0, "batch": 2}}
    merged = overlaid(settings, {"lr": 0.5, "layer": 3, "attention": "global", "lora_rank": 2})
    assert merged == {"train": {"lr": 0.5, "batch": 2}, "model": {"attention": "global"}, "block": {"lora_rank": 2}}
    assert settings == {"train": {"lr": 1.0, "batch": 2}}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["placment=after"], "unknown dimension 'placment'; did you mean 'placement'? available: lr, layer"),
        (["steps=10,20"], "unknown dimension 'steps'; available"),
        (["lr"], "lr takes numbers, or a range such as 1e-4..1e-2"),
        (["lr="], "lr takes numbers"),
        (["lr=fast"], "lr takes numbers"),
        (["lr=nan"], "lr takes numbers"),
        (["lr=1e-2..1e-4"], "from a smaller to a larger number, both above 0; did you mean 0.0001..0.01?"),
        (["lr=1e-3..1e-3"], "from a smaller to a larger"),
        (["lr=0..1"], "both above 0"),
        (["lr=1..inf"], "from a smaller to a larger"),
        (["layer=8..24"], "layer takes whole numbers such as 8,16,24"),
        (["mapper_lora=4.5"], "mapper_lora takes whole numbers"),
        (["attention=global,global"], "a value is given twice"),
        (["lr=1e-3,1e-2", "lr=1e-4"], "--search lr: is given twice"),
    ],
)
def test_what_is_no_dimension_is_told_with_what_would_be(texts, words):
    with pytest.raises(StudyError) as told:
        parse(texts)
    assert words in str(told.value) and str(told.value).startswith("--search ")


def test_every_dimension_names_a_setting_that_presets_have():
    from bench.presets import PRESETS

    for name, kind in KINDS.items():
        assert name == "layer" or kind.setting in PRESETS["cpu"][kind.group]
