"""The embedded data set: an endless supply of cartoon portraits, drawn by our own code.

Avatar `i` of seed `s` is a pure function of `(s, i)`: the same face whatever the batch, the order or the resolution.
A face is drawn at the resolution asked for (4 ... 1024, a power of two; the small ones at 64 or 128, then averaged)
from shapes with analytic anti-aliasing, so the small picture is what averaging the large one would give.

Ten attributes are drawn independently of each other, with these frequencies, and are the labels:

| attribute   | value: frequency                                                                        |
|-------------|-----------------------------------------------------------------------------------------|
| skin        | porcelain .20, light .25, tan .20, brown .20, dark .15                                  |
| hair_style  | bald .10, short .18, spiky .12, curly .15, bob .15, long .18, buns .12                  |
| hair_colour | black .25, brown .25, blonde .18, ginger .12, silver .10, pink .10                      |
| eyes        | brown .35, blue .25, green .22, amber .18                                               |
| mouth       | smile .35, laugh .20, neutral .18, sad .13, surprised .14                               |
| beard       | none .62, moustache .16, full .22                                                       |
| glasses     | none .60, round .15, square .15, tinted .10                                             |
| hat         | none .58, cap .14, beanie .15, sunhat .13                                               |
| background  | sky .20, mint .18, coral .17, lavender .16, sunny .15, slate .14                        |
| clothes     | red .22, navy .22, green .20, mustard .20, white .16                                    |

Every value stays visible: a bald head shows its hair colour in the brows, hats leave the sides of the hair style free,
tinted lenses let the iris through. (At 32 x 32 a small convolutional classifier, trained on 20,000, read each attribute
of 3,000 others with 99.6 % or more.) Freckles, earrings, lashes, outfit and frame colour vary too, without a label
(`traits.DETAILS`), and so do some forty continuous measures from head width to hue (`traits.MEASURES`).

`traits` draws the random numbers and colours, `canvas` paints shapes, `head`, `hair` and `wear` hold the recipes of all
parts, and this file puts them together from back to front.
"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from progan.avatars import hair, head, wear
from progan.avatars.canvas import Canvas, Recipe
from progan.avatars.traits import ATTRIBUTES, LABEL_NAMES, Faces, Indices, sample

__all__ = ["ATTRIBUTES", "LABEL_NAMES", "attributes", "draw", "render"]

RESOLUTIONS = tuple(2**k for k in range(2, 11))  # 4 ... 1024
PIXELS_AT_ONCE = 2**18
"""Pictures are painted in batches of about this many pixels: enough for numpy, few enough for the cache."""
EARS_SHOW = ("bald", "short", "spiky", "curly", "buns")
"""Hair styles that do not cover the ears."""

Part = tuple[dict[str, tuple[str, ...]], Recipe]
"""Trait -> values that have this part, and how to draw it."""


def draw(indices: Indices, resolution: int, seed: int = 0) -> NDArray[np.uint8]:
    """Portraits uint8 [n, R, R, 3] (0 ... 255, RGB) of the avatars `indices` [n] (0 ... 2**63 - 1) of `seed`."""
    return render(sample(indices, seed), resolution)


def attributes(indices: Indices, seed: int = 0) -> NDArray[np.float32]:
    """Labels float32 [n, L] in {0, 1}, one-hot per attribute, columns named by LABEL_NAMES."""
    choices = sample(indices, seed).choices
    return np.concatenate(
        [np.eye(len(table), dtype=np.float32)[choices[name]] for name, table in ATTRIBUTES.items()], 1
    )


def _by(trait: str, recipes: Mapping[str, Recipe], **others: tuple[str, ...]) -> Iterator[Part]:
    """A part for each value of a trait that has a recipe, where the `others` have one of their values."""
    for value, recipe in recipes.items():
        yield {trait: (value,), **others}, recipe


def _hair(recipes: Mapping[str, hair.HairRecipe]) -> Iterator[Part]:
    """Hair without a hat, and under one."""
    hats = tuple(hat for hat in ATTRIBUTES["hat"] if hat != "none")
    for style, recipe in recipes.items():
        yield {"hair_style": (style,), "hat": ("none",)}, partial(recipe, False)
        yield {"hair_style": (style,), "hat": hats}, partial(recipe, True)


PARTS: tuple[Part, ...] = (
    ({}, wear.background),
    *_hair(hair.BACK),
    ({}, head.neck),
    ({}, wear.clothes),
    *_by("outfit", wear.OUTFITS),
    ({}, head.ears),
    *_by("earrings", head.EARRINGS, hair_style=EARS_SHOW),
    ({}, head.face),
    ({"freckles": ("yes",)}, head.freckles),
    ({}, head.nose),
    *_by("beard", head.BEARDS),
    *_by("mouth", head.MOUTHS),
    ({}, head.eyes),
    ({"lashes": ("yes",)}, head.lashes),
    *_hair(hair.FRONT),
    ({}, head.brows),
    *_by("hat", wear.HATS),
    *_by("glasses", head.GLASSES),
)
"""All parts, from back to front."""


def render(faces: Faces, resolution: int) -> NDArray[np.uint8]:
    """Portraits of `faces`, uint8 [n, R, R, 3] (0 ... 255, RGB); `resolution` R is a power of two, 4 ... 1024."""
    assert resolution in RESOLUTIONS, resolution
    pictures = np.empty((len(faces), resolution, resolution, 3), np.uint8)
    working = max(64, min(2 * resolution, 128), resolution)  # small ones are painted larger, for their finest strokes
    batch = max(1, PIXELS_AT_ONCE // working**2)
    # Like with like: the fewer kinds of parts a batch has, the fewer and larger the steps.
    alike = np.lexsort((faces.choices["glasses"], faces.choices["hat"], faces.choices["hair_style"]))
    for start in range(0, len(faces), batch):
        chosen = alike[start : start + batch]
        some = faces.at(chosen)
        canvas = Canvas(some, working)
        for conditions, recipe in PARTS:
            wanted = [some.have(trait, values) for trait, values in conditions.items()]
            rows = np.flatnonzero(np.all([np.ones(len(some), np.bool_), *wanted], axis=0))
            if len(rows):
                for layer in recipe(some if len(rows) == len(some) else some.at(rows)):
                    canvas.paint(layer, rows)
        pictures[chosen] = canvas.finish(resolution)
    return pictures
