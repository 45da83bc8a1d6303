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
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from progan.avatars.portrait import render
from progan.avatars.traits import ATTRIBUTES, LABEL_NAMES, one_hot, sample

__all__ = ["ATTRIBUTES", "LABEL_NAMES", "attributes", "draw"]

Indices = Sequence[int] | NDArray[np.integer[Any]]


def draw(indices: Indices, resolution: int, seed: int = 0) -> NDArray[np.uint8]:
    """Portraits uint8 [n, R, R, 3] (0 ... 255, RGB) of the avatars `indices` [n] (0 ... 2**63 - 1) of `seed`."""
    return render(sample(indices, seed), resolution)


def attributes(indices: Indices, seed: int = 0) -> NDArray[np.float32]:
    """Labels float32 [n, L] in {0, 1}, one-hot per attribute, columns named by LABEL_NAMES."""
    return one_hot(sample(indices, seed))
