"""The options: declared once, documented, parsed, saved and read back."""

import contextlib
import dataclasses
import json
import types
import typing
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progan import commands
from progan import config as config_module
from progan.commands import CompareConfig, ProtocolConfig, SweepConfig
from progan.config import (
    LOSS_CONFIGS,
    MODEL_CONFIGS,
    LossConfig,
    ModelConfig,
    NonsaturatingConfig,
    Precision,
    PrepareConfig,
    ProGANConfig,
    RunConfig,
    RuntimeConfig,
    ScheduleConfig,
    coerce,
)
from progan.errors import ConfigError
from progan.losses import LOSSES
from progan.models import MODELS
from progan.options import GROUPS, difference, from_dict, leaves, options, override, to_dict
from progan.per_resolution import RESOLUTIONS, PerResolution, per_resolution
from progan.presets import PRESETS, preset
from progan.training.numerics import DTYPES

GROUP_CLASSES = {group: [type(getattr(RunConfig(), group))] for group in GROUPS if group not in ("model", "loss")} | {
    "model": list(MODEL_CONFIGS.values()),
    "loss": list(LOSS_CONFIGS.values()),
}
CLASSES = [cls for classes in GROUP_CLASSES.values() for cls in classes] + [
    PrepareConfig,
    ProtocolConfig,
    CompareConfig,
    SweepConfig,
]
EVERY = {option.name: option for cls in CLASSES for option in options(cls)}


# What is declared


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_option_is_documented(cls: type) -> None:
    for option in options(cls):
        assert len(option.doc) > 10, f"{cls.__name__}.{option.name}"
        assert option.doc[0].isupper() or option.doc[0] in "`0123456789"
        assert option.doc.endswith((".", "…")), f"{cls.__name__}.{option.name}"


def test_every_config_class_can_be_reached() -> None:
    own = commands.ExportConfig, commands.SubmitConfig, commands.AppConfig
    declared = {
        value
        for name, value in {**vars(config_module), **vars(commands)}.items()
        if dataclasses.is_dataclass(value)
        and name.endswith("Config")
        and not name.startswith(("_", "Base"))  # of several
        and not issubclass(value, own)  # of commands of their own
    }
    assert declared == {*CLASSES, RunConfig}
    assert {field.name for field in dataclasses.fields(RunConfig)} == {"preset", *GROUPS}


def test_flat_names_are_unique_over_the_groups() -> None:
    homes: dict[str, str] = {}
    for group, classes in GROUP_CLASSES.items():
        for name in {option.name for cls in classes for option in options(cls)}:
            assert homes.setdefault(name, group) == group
    assert not {"model", "loss", "preset", "kind", "out"} & set(homes)


def test_names_shared_by_kinds_of_a_group_mean_the_same() -> None:
    for classes in GROUP_CLASSES.values():
        found: dict[str, Any] = {}
        for option in (option for cls in classes for option in options(cls)):
            assert found.setdefault(option.name, option).type == option.type


@pytest.mark.parametrize(
    ("union", "registries"),
    [(LossConfig, [LOSSES, LOSS_CONFIGS.values()]), (ModelConfig, [MODELS, MODEL_CONFIGS.values()])],
)
def test_every_config_of_a_union_is_in_its_registries(union: Any, registries: list[Any]) -> None:
    """One line each: names, flags and files follow from the union."""
    for registry in registries:
        assert set(typing.get_args(union)) == set(registry)


def test_every_precision_has_a_dtype() -> None:
    assert set(typing.get_args(Precision)) == {"auto", *DTYPES}


# Changing options


def test_override_parses_text() -> None:
    config = override(RunConfig(), {"lr": "4:0.001,64:0.002", "z_dim": "128", "mirror": "true", "total_kimg": "none"})
    assert config.schedule.lr == per_resolution({4: 0.001, 64: 0.002})
    assert (config.model.z_dim, config.dataset.mirror, config.schedule.total_kimg) == (128, True, None)
    assert override(config, {}) == config


def test_override_chooses_the_loss_and_its_options_at_once() -> None:
    config = override(RunConfig(), {"r1_weight": 5, "loss": "nonsaturating"})
    assert config.loss == NonsaturatingConfig(r1_weight=5.0)
    assert override(config, {"loss": "nonsaturating"}) == config, "naming the loss it has changes nothing"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"r1_weight": 1},
            "--r1-weight belongs to loss nonsaturating and minimax and hinge and relativistic; this run has wgan-gp",
        ),
        ({"loss": "lsgan", "gp_weight": 1}, "--gp-weight belongs to loss wgan-gp; this run has lsgan"),
        (
            {"loss": "hinges"},
            "--loss must be one of wgan-gp, wgan, lsgan, nonsaturating, minimax, hinge, relativistic; got",
        ),
        ({"model": "biggan"}, "--model must be one of progan"),
        ({"fmapmax": 1}, "there is no option --fmapmax; did you mean --fmap-max?"),
        ({"xyzzy": 1}, "there is no option --xyzzy"),
        ({"z_dim": "many"}, "--z-dim must be a whole number; got 'many'"),
        ({"z_dim": 1.5}, "--z-dim must be a whole number; got 1.5"),
        ({"z_dim": 0}, "--z-dim must be at least 1; got 0"),
        ({"beta2": "nan"}, "--beta2 must be a number; got 'nan'"),
        ({"beta2": 1}, "--beta2 must be at least 0 and below 1; got 1.0"),
        ({"mirror": "perhaps"}, "--mirror must be true or false; got 'perhaps'"),
        ({"pixel_norm": "d"}, "--pixel-norm must be one of g, both, none; got 'd'"),
        ({"lr": "4:x"}, "--lr: '4:x' is neither a number nor a list such as 4:512,8:256"),
        ({"lr": "5:1"}, "--lr: resolutions must be powers of two"),
        ({"lr": "-1"}, "--lr: values must be finite and not negative; got -1"),
        ({"batch_size": "4:2.5"}, "--batch-size must be whole numbers of at least 1"),
        ({"batch_size": 0}, "--batch-size must be whole numbers of at least 1"),
        ({"resolution": 48}, "--resolution must be a power of two from 4 to 1024; got 48"),
        ({"start_resolution": 128}, "--start-resolution 128 is above --resolution 64"),
        ({"total_kimg": 0}, "--total-kimg must be above 0"),
        ({"gp_weight": -1}, "--gp-weight must not be negative; got -1.0"),
        ({"gp_target": 0}, "--gp-target must be above 0"),
        ({"tick_kimg": 0}, "--tick-kimg must be above 0"),
        ({"workers": -1}, "--workers must be at least 0; got -1"),
    ],
)
def test_a_mistake_is_answered_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(RunConfig(), changes)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_can_be_set_from_its_own_text(group: str) -> None:
    one_resolution = RunConfig(schedule=ScheduleConfig(start_resolution=64))  # which every model can have
    for cls in GROUP_CLASSES[group]:
        kind = {group: cls.kind} if group in ("model", "loss") else {}
        for option in options(cls):
            default = option.default if option.default is not dataclasses.MISSING else getattr(cls(), option.name)
            changed = override(one_resolution, {**kind, option.name: "none" if default is None else str(default)})
            assert getattr(getattr(changed, group), option.name) == default


# Saving and reading


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values a user may give an option of this type, mostly allowed ones."""
    if isinstance(kind, types.UnionType):
        inner = next(member for member in typing.get_args(kind) if member is not type(None))
        return st.none() | values(inner)
    if typing.get_origin(kind) is Literal:
        return st.sampled_from(typing.get_args(kind))
    number = st.floats(0, 0.999, allow_nan=False) | st.integers(0, 4096)
    table = st.dictionaries(st.sampled_from(RESOLUTIONS), number, min_size=1)
    by_type = {
        bool: st.booleans(),
        int: st.integers(0, 2000) | st.sampled_from(RESOLUTIONS),
        float: number,
        str: st.text(),
        PerResolution: number | table,
    }
    return by_type[kind]


@st.composite
def run_configs(draw: st.DrawFn) -> RunConfig:
    """Any configuration that can be had by overriding a preset."""
    config = preset(draw(st.sampled_from(sorted(PRESETS))))
    loss = draw(st.sampled_from(sorted(LOSS_CONFIGS)))
    with contextlib.suppress(ConfigError):  # a lazy penalty needs a loss that has one
        config = override(config, {"loss": loss})
    for _, option, _ in leaves(config):
        if draw(st.booleans()):
            try:
                config = override(config, {option.name: draw(values(option.type))})
            except ConfigError:
                continue  # a value out of bounds: the option keeps its own
    return config


@given(run_configs())
def test_a_configuration_survives_json(config: RunConfig) -> None:
    again = from_dict(json.loads(json.dumps(to_dict(config))))
    assert again == config
    assert difference(config, again) == []
    assert hash(again) == hash(config)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([*EVERY, "kind", "wgan-gp"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from([*EVERY]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(name=st.sampled_from(sorted(EVERY)) | st.text(), value=JUNK)
def test_override_refuses_nonsense_with_a_config_error_only(name: str, value: Any) -> None:
    try:
        config = override(RunConfig(), {name: value})
    except ConfigError:
        return
    assert from_dict(to_dict(config)) == config


@given(
    option=st.sampled_from(list(EVERY.values())), text=st.text() | st.from_regex(r"[0-9:.,e+-]{1,20}", fullmatch=True)
)
def test_coerce_refuses_text_with_a_config_error_only(option: Any, text: str) -> None:
    with contextlib.suppress(ConfigError):
        coerce(option.name, text, option.type)


@pytest.mark.parametrize(
    "value", [10**400, float("inf"), {4: 10**400}, {float("inf"): 1}, [], {}, None, b"x", object()]
)
@pytest.mark.parametrize("name", ["z_dim", "beta1", "lr", "loss", "model", "mirror", "pixel_norm", "total_kimg"])
def test_override_refuses_values_that_are_no_numbers_at_all(name: str, value: Any) -> None:
    if (name, value) in [("total_kimg", None), ("loss", None), ("model", None)]:
        return
    with pytest.raises(ConfigError, match=f"^--{name.replace('_', '-')}"):
        override(RunConfig(), {name: value})


@given(data=st.data())
def test_from_dict_refuses_damage_with_a_config_error_only(data: st.DataObject) -> None:
    """One value anywhere in a saved configuration replaced or left out."""
    saved = json.loads(json.dumps(to_dict(RunConfig())))
    at = saved
    key = data.draw(st.sampled_from(sorted(at)))
    while isinstance(at[key], dict) and at[key] and data.draw(st.booleans()):
        at = at[key]
        key = data.draw(st.sampled_from(sorted(at)))
    if data.draw(st.booleans()):
        at[key] = data.draw(JUNK)
    else:
        del at[key]
    try:
        config = from_dict(saved)
    except ConfigError:
        return
    assert from_dict(to_dict(config)) == config


def test_from_dict_refuses_what_this_version_does_not_know() -> None:
    saved = to_dict(RunConfig())
    saved["schedule"]["warmup_kimg"] = 5
    with pytest.raises(ConfigError, match="--warmup-kimg"):
        from_dict(saved)


def test_difference_names_what_changed() -> None:
    config = override(RunConfig(), {"lr": {4: 0.001, 8: 0.002}, "loss": "lsgan"})
    lines = difference(RunConfig(), config)
    assert lines[:2] == ["loss: wgan-gp -> lsgan", "lr: 0.001 -> 4:0.001,8:0.002"]
    assert "gp-weight: 10.0 -> absent" in lines
    assert len(lines) == 5


# Numbers that depend on the resolution


def test_an_entry_holds_from_its_resolution_upwards() -> None:
    with pytest.raises(ConfigError, match="each once"):
        PerResolution.of("4:512,8:256,4:64")
    table = PerResolution.of("8:256,32:64")
    assert [table.at(r) for r in (4, 8, 16, 32, 1024)] == [256, 256, 256, 64, 64]
    assert per_resolution(3).at(4) == per_resolution(3).at(1024) == 3


@pytest.mark.parametrize("value", [7, 0.5, "7", "4:7", {4: 7}, {"4": "7", "16": 2}, "16:2,4:7", " 4 : 7 , 8 : 1 "])
def test_per_resolution_reads_numbers_text_and_tables(value: Any) -> None:
    table = PerResolution.of(value)
    assert PerResolution.of(table) is table
    assert PerResolution.of(str(table)) == table


@given(st.dictionaries(st.sampled_from(RESOLUTIONS), st.floats(0, 1e6), min_size=1))
def test_per_resolution_survives_its_own_text(table: dict[int, float]) -> None:
    value = per_resolution(table)
    again = PerResolution.of(str(value))
    if len(table) > 1:
        assert [key for key, _ in again.values] == [key for key, _ in value.values]
    assert [number for _, number in again.values] == [number for _, number in value.values], "no digit is lost"


@pytest.mark.parametrize(
    "value", ["", "4:", ":4", "4:1:2", "x", "4:1,4:2,x", {}, {3: 1}, [1], None, {4: float("nan")}, "inf"]
)
def test_per_resolution_refuses_the_rest(value: Any) -> None:
    with pytest.raises(ConfigError):
        PerResolution.of(value)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_name_themselves_and_survive_json(name: str) -> None:
    config = preset(name)
    assert config.preset == name
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


def test_an_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean mnist32"):
        preset("mnist")


def test_configs_check_themselves() -> None:
    for broken in (
        lambda: ScheduleConfig(resolution=100),
        lambda: RuntimeConfig(seed=-1),
        lambda: ProGANConfig(mbstd_group=-1),
    ):
        with pytest.raises(ConfigError):
            broken()
