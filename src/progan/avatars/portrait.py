"""A portrait: its parts from back to front, and the loop that paints batches of them."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from progan.avatars import eyes, hair, head, wear
from progan.avatars.canvas import Canvas, Recipe, working_resolution
from progan.avatars.traits import ATTRIBUTES, Faces

PIXELS_AT_ONCE = 2**18
"""Pictures are painted in batches of about this many pixels: enough for numpy, few enough for the cache."""

RESOLUTIONS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)

Part = tuple[dict[str, tuple[str, ...]], Recipe]
"""Trait -> values that have this part, and how to draw it."""

EARS_SHOW = ("bald", "short", "spiky", "curly", "buns")
"""Hair styles that do not cover the ears."""

HATS = tuple(hat for hat in ATTRIBUTES["hat"] if hat != "none")


def _by(trait: str, recipes: dict[str, Recipe]) -> Iterator[Part]:
    for value, recipe in recipes.items():
        yield {trait: (value,)}, recipe


def _earrings() -> Iterator[Part]:
    for earring, recipe in head.EARRINGS.items():
        yield {"earrings": (earring,), "hair_style": EARS_SHOW}, recipe


def _hair(recipes: dict[str, hair.HairRecipe]) -> Iterator[Part]:
    for style, recipe in recipes.items():
        yield {"hair_style": (style,), "hat": ("none",)}, partial(recipe, False)
        yield {"hair_style": (style,), "hat": HATS}, partial(recipe, True)


PARTS: tuple[Part, ...] = (
    ({}, wear.background),
    *_hair(hair.BACK),
    ({}, head.neck),
    ({}, wear.clothes),
    *_by("outfit", wear.OUTFITS),
    ({}, head.ears),
    *_earrings(),
    ({}, head.face),
    ({"freckles": ("yes",)}, head.freckles),
    ({}, head.nose),
    *_by("beard", head.BEARDS),
    *_by("mouth", head.MOUTHS),
    ({}, eyes.eyes),
    ({"lashes": ("yes",)}, eyes.lashes),
    *_hair(hair.FRONT),
    ({}, eyes.brows),
    *_by("hat", wear.HATS),
    *_by("glasses", eyes.GLASSES),
)
"""From back to front."""


def render(faces: Faces, resolution: int) -> NDArray[np.uint8]:
    """Portraits of `faces`, uint8 [n, R, R, 3] (0 ... 255, RGB); `resolution` R is a power of two, 4 ... 1024."""
    assert resolution in RESOLUTIONS, resolution
    pictures = np.empty((len(faces), resolution, resolution, 3), np.uint8)
    batch = max(1, PIXELS_AT_ONCE // working_resolution(resolution) ** 2)
    alike = np.lexsort((faces.choices["glasses"], faces.choices["hat"], faces.choices["hair_style"]))
    for start in range(0, len(faces), batch):  # like with like: fewer, larger steps
        chosen = alike[start : start + batch]
        pictures[chosen] = _paint(faces.at(chosen), resolution)
    return pictures


def _paint(faces: Faces, resolution: int) -> NDArray[np.uint8]:
    canvas = Canvas(faces, resolution)
    for conditions, recipe in PARTS:
        wanted = np.ones(len(faces), np.bool_)
        for trait, values in conditions.items():
            wanted &= faces.rows(trait, *values)
        rows = np.flatnonzero(wanted)
        if len(rows):
            canvas.paint(recipe(faces if len(rows) == len(faces) else faces.at(rows)), rows)
    return canvas.finish(resolution)
