"""Whatever is given as an option: a value of the option's type, kept exactly, or refused with a word."""

import json
import math
import typing
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostile import JSON, NUMBERS, SCALARS, TEXTS, cases, changed, fine_or_refused
from progan.config import LOSS_CONFIGS, MODEL_CONFIGS, PrepareConfig, RunConfig, coerce
from progan.errors import ConfigError
from progan.options import difference, from_dict, leaves, options, override, to_dict
from progan.per_resolution import PerResolution
from progan.presets import PRESETS, preset
from progan.schedule import Schedule, in_images

EVERY = sorted(
    {option.name for _, option, _ in leaves(RunConfig())}
    | {option.name for kinds in (MODEL_CONFIGS, LOSS_CONFIGS) for cls in kinds.values() for option in options(cls)}
)
POWERS = st.sampled_from([4, 8, 16, 1024, "4", "8", 4.0, 4.5, True, 3, "4.5", "x", None])
VALUES = st.one_of(
    SCALARS,
    JSON,
    st.dictionaries(POWERS, NUMBERS, max_size=3),
    st.lists(st.tuples(POWERS, NUMBERS), max_size=3).map(lambda pairs: ",".join(f"{r}:{v}" for r, v in pairs)),
    NUMBERS.map(str),
    st.binary(max_size=4),
)


def check(config: RunConfig) -> None:
    """A configuration that was accepted can be used, and says of itself what it is."""
    for _, option, value in leaves(config):
        kinds = [kind for kind in (option.type, *typing.get_args(option.type)) if isinstance(kind, type)]
        is_whole_float = type(value) is int and float in kinds  # as the presets have them
        assert type(value) in kinds or value is None or is_whole_float or typing.get_origin(option.type) is Literal
        assert not isinstance(value, float) or math.isfinite(value)
        assert not isinstance(value, str) or not set(value) & set(map(chr, range(32)))
    content = json.dumps(to_dict(config), allow_nan=False)
    assert from_dict(json.loads(content)) == config
    assert difference(config, config) == []
    schedule: Schedule | None = fine_or_refused(lambda: Schedule(in_images(config.schedule, 70_000)))
    if schedule is None:
        return
    block = next(schedule.walk(0))
    assert 0 < block.end < 2**62
    schedule.at(schedule.total_nimg)


@cases
@given(name=st.sampled_from([*EVERY, "model", "loss"]), value=VALUES)
def test_one_option(name: str, value: Any) -> None:
    config = fine_or_refused(lambda: override(RunConfig(), {name: value}))
    if config is not None:
        check(config)


@cases
@given(
    name=st.sampled_from(sorted(PRESETS)),
    changes=st.dictionaries(st.sampled_from([*EVERY, "model", "loss"]) | TEXTS, VALUES, max_size=4),
)
def test_several_options_over_a_preset(name: str, changes: dict[str, Any]) -> None:
    config = fine_or_refused(lambda: override(preset(name), changes))
    if config is not None:
        check(config)


@cases
@given(data=st.data())
def test_configurations_from_files(data: st.DataObject) -> None:
    sound = json.loads(json.dumps(to_dict(preset(data.draw(st.sampled_from(sorted(PRESETS)))))))
    config = fine_or_refused(lambda: from_dict(changed(sound, data.draw)))
    if config is not None:
        check(config)


@cases
@given(content=JSON)
def test_configurations_from_anything(content: Any) -> None:
    config = fine_or_refused(lambda: from_dict(content))
    assert config is None


@cases
@given(value=VALUES)
def test_numbers_by_resolution(value: Any) -> None:
    parsed = fine_or_refused(lambda: PerResolution.of(value))
    if parsed is None:
        return
    assert all(type(key) is int and type(number) is float for key, number in parsed.values)
    assert PerResolution.of(dict(parsed.values)) == parsed
    if isinstance(value, dict):  # nothing was rounded or taken for something else
        assert sorted((float(key), float(number)) for key, number in value.items()) == sorted(parsed.values)


@cases
@given(name=TEXTS)
def test_names_of_presets(name: str) -> None:
    config = fine_or_refused(lambda: preset(name))
    assert (config is None) == (name not in PRESETS)


@cases
@given(changes=st.dictionaries(st.sampled_from([option.name for option in options(PrepareConfig)]), VALUES, max_size=3))
def test_options_of_preparation(changes: dict[str, Any]) -> None:
    types = {option.name: option.type for option in options(PrepareConfig)}
    config = fine_or_refused(
        lambda: PrepareConfig(**{name: coerce(name, value, types[name]) for name, value in changes.items()})
    )
    assert config is None or config.resolution is None or config.resolution in (4, 8, 16, 32, 64, 128, 256, 512, 1024)


TAKEN = {
    "data": [None, 7, "a\0b"],
    "fade_kimg": [{4.5: 1}, {True: 1}, "1e306"],
    "total_kimg": [1e306],
    "lr": [True, "nan", b"1"],
    "seed": [math.inf, 2.5, 10**30],
    "z_dim": [10**12],
    "workers": [10**9],
    "mirror": ["yes", 1],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in TAKEN.items() for value in values])
def test_what_was_once_taken_for_something_else(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name.replace("_", "-")):
        override(RunConfig(), {name: value})


def test_whole_numbers_are_kept_whole() -> None:
    assert override(RunConfig(), {"seed": "9007199254740993"}).runtime.seed == 2**53 + 1
