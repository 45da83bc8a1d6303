"""Head, neck, ears, nose, mouths and beards: lists of layers, lowest first. Heights in the head's frame, y down."""

from progan.avatars import palette
from progan.avatars.canvas import Layer, Recipe
from progan.avatars.palette import MAROON, WHITE, dim, mix, rgb, shade
from progan.avatars.shapes import (
    Shape,
    below,
    blend,
    box,
    circle,
    common,
    curve,
    ellipse,
    mirrored,
    moved,
    outside,
    ring,
    union,
    without,
)
from progan.avatars.traits import Array, Faces

NOSE, MOUTH = 0.175, 0.315
"""Heights."""


def skull(faces: Faces, grow: float = 0.0) -> Shape:
    """The outline of the head: a round skull and a narrower jaw."""
    width, chin = faces["head_width"], faces["chin"]
    return blend(
        ellipse(0.0, -0.10, width + grow, 0.48 + grow),
        ellipse(0.0, 0.10, width * faces["jaw"] + grow, chin - 0.10 + grow),
        0.12,
    )


def neck(faces: Faces) -> list[Layer]:
    """Neck, in the shadow of the chin."""
    skin = palette.skin(faces)
    shape = box(0.0, 0.60, faces["neck"], 0.26, 0.05)
    shadow = ellipse(faces["head_x"], 0.42, 0.34, 0.17)
    return [
        Layer(shape, shade(skin, 0.35), frame="body"),
        Layer(shadow, shade(skin, 1.3), soft=0.08, clip=shape, frame="body"),
    ]


def ears(faces: Faces) -> list[Layer]:
    """Ears with a darker inside."""
    skin, at = palette.skin(faces), faces["head_width"]
    return [
        Layer(mirrored(ellipse(at, 0.05, 0.085, 0.115)), shade(skin, 0.12)),
        Layer(mirrored(ellipse(at + 0.02, 0.055, 0.04, 0.065)), shade(skin, 0.75), soft=0.03),
    ]


def studs(faces: Faces) -> list[Layer]:
    """A golden dot on each ear lobe."""
    at = faces["head_width"] + 0.03
    return [
        Layer(mirrored(circle(at, 0.15, 0.034)), rgb(palette.GOLD)),
        Layer(mirrored(circle(at - 0.01, 0.14, 0.012)), rgb("#fff3c9")),
    ]


def hoops(faces: Faces) -> list[Layer]:
    """A golden ring under each ear lobe."""
    at = faces["head_width"] + 0.01
    return [Layer(mirrored(ring(circle(at, 0.205, 0.055), 0.017)), rgb(palette.GOLD))]


def face(faces: Faces) -> list[Layer]:
    """The head, lit from the upper left, with blushing cheeks."""
    skin, shape = palette.skin(faces), skull(faces)
    lit = ellipse(-0.05, -0.06, faces["head_width"] - 0.02, 0.50)
    glow = ellipse(-0.12, -0.25, 0.24, 0.22)
    cheeks = mirrored(ellipse(0.29, 0.20, 0.105, 0.075))
    return [
        Layer(shape, skin),
        Layer(outside(lit), shade(skin, 0.55), soft=0.16, clip=shape),
        Layer(glow, mix(skin, WHITE, 0.35), opacity=0.6, soft=0.30),
        Layer(cheeks, mix(skin, "#ee5a5f", 0.8), opacity=faces["blush"], soft=0.11, clip=shape),
    ]


def freckles(faces: Faces) -> list[Layer]:
    """Three dots on each cheek and two on the nose."""
    spots = [(0.21, 0.205), (0.29, 0.235), (0.34, 0.185), (0.055, 0.115)]
    dots = union(*(mirrored(circle(x, y, 0.017)) for x, y in spots))
    return [Layer(dots, shade(palette.skin(faces), 1.5), opacity=0.85)]


def nose(faces: Faces) -> list[Layer]:
    """A button nose: shadow underneath, light on top."""
    skin, size = palette.skin(faces), faces["nose_size"]
    return [
        Layer(ellipse(0.01, NOSE + 0.015, 0.062 * size, 0.045 * size), shade(skin, 0.95), soft=0.02),
        Layer(ellipse(0.0, NOSE, 0.054 * size, 0.042 * size), mix(shade(skin, 0.1), "#ff7a6b", 0.12), soft=0.02),
        Layer(ellipse(-0.015, NOSE - 0.015, 0.02, 0.014), mix(skin, WHITE, 0.55), soft=0.03),
    ]


def _lips(faces: Faces) -> Array:
    """Lip colour, float32 [n, 3]: rosier and darker than the skin."""
    return mix(shade(palette.skin(faces), 0.9), "#cb4257", 0.72)


def smile(faces: Faces) -> list[Layer]:
    """A wide upward curve with dimples."""
    width, bend = 0.185 * faces["mouth_width"], 0.095 * faces["mouth_bend"]
    return [Layer(curve(0.0, MOUTH - 0.035, width, bend, 0.027), _lips(faces))]


def laugh(faces: Faces) -> list[Layer]:
    """A wide open mouth with teeth and tongue."""
    width = 0.19 * faces["mouth_width"]
    top = MOUTH - 0.045
    shape = common(ellipse(0.0, top, width, 0.165), below(top))
    return [
        Layer(union(shape, curve(0.0, top, width - 0.01, 0.0, 0.018)), rgb(MAROON)),
        Layer(ellipse(0.02, top + 0.17, 0.10, 0.075), rgb("#ef6b73"), clip=shape),
        Layer(box(0.0, top + 0.012, width * 0.86, 0.036, 0.02), rgb("#fffdf8"), clip=shape),
    ]


def neutral(faces: Faces) -> list[Layer]:
    """A straight line over a hint of a lower lip."""
    width = 0.135 * faces["mouth_width"]
    return [
        Layer(ellipse(0.0, MOUTH + 0.045, 0.075, 0.025), mix(palette.skin(faces), _lips(faces), 0.4), soft=0.03),
        Layer(curve(0.0, MOUTH, width, 0.0, 0.025), _lips(faces)),
    ]


def sad(faces: Faces) -> list[Layer]:
    """A downward curve."""
    width, bend = 0.155 * faces["mouth_width"], -0.085 * faces["mouth_bend"]
    return [
        Layer(ellipse(0.0, MOUTH + 0.05, 0.07, 0.025), shade(palette.skin(faces), 0.8), soft=0.04),
        Layer(curve(0.0, MOUTH + 0.045, width, bend, 0.027), _lips(faces)),
    ]


def surprised(faces: Faces) -> list[Layer]:
    """A small round O."""
    size = faces["mouth_width"]
    return [
        Layer(ellipse(0.0, MOUTH + 0.02, 0.088 * size, 0.105 * size), _lips(faces)),
        Layer(ellipse(0.0, MOUTH + 0.02, 0.060 * size, 0.077 * size), rgb(MAROON)),
        Layer(ellipse(0.0, MOUTH + 0.07, 0.04, 0.03), rgb("#ef6b73"), opacity=0.8, soft=0.02),
    ]


def moustache(faces: Faces) -> list[Layer]:
    """Two drops meeting under the nose."""
    hair = palette.hair(faces)
    shape = mirrored(curve(0.105, NOSE + 0.075, 0.125, -0.025, 0.05, slope=0.30))
    return [Layer(moved(shape, 0.01, 0.03), shade(palette.skin(faces)), soft=0.05, opacity=0.5), Layer(shape, hair)]


def full_beard(faces: Faces) -> list[Layer]:
    """A beard from ear to ear that leaves the mouth free."""
    hair = palette.hair(faces)
    cheeks = mirrored(ellipse(0.17, 0.03, faces["head_width"] - 0.22, 0.18))
    gap = ellipse(0.0, MOUTH + 0.02, 0.205 * faces["mouth_width"], 0.07)
    shape = without(common(skull(faces, 0.035), below(0.04)), union(cheeks, gap))
    light = ellipse(-0.1, 0.3, 0.3, 0.25)
    return [
        Layer(shape, dim(hair, 0.75)),
        Layer(light, dim(hair, 0.2), soft=0.2, clip=shape),
    ]


MOUTHS: dict[str, Recipe] = {"smile": smile, "laugh": laugh, "neutral": neutral, "sad": sad, "surprised": surprised}
BEARDS: dict[str, Recipe] = {"moustache": moustache, "full": full_beard}
EARRINGS: dict[str, Recipe] = {"studs": studs, "hoops": hoops}
