"""Background, clothes and hats: lists of layers, lowest first."""

import numpy as np

from progan.avatars.canvas import Layer, Recipe, Shape, above, below, blend, box, circle, curve, ellipse, line, triangle
from progan.avatars.head import skull
from progan.avatars.traits import WHITE, Faces, dim, mix, rgb, shade


def background(faces: Faces) -> list[Layer]:
    """One colour, a lighter disc, and a soft shadow around the head."""
    colour = faces.colour("page")
    return [
        Layer(below(-9.0), colour, frame="page"),
        Layer(circle(0.0, 0.02, faces["disc"]), mix(colour, WHITE, 0.22), frame="page"),
        Layer(below(0.9), shade(colour, 0.5), soft=1.4, opacity=0.6, frame="page"),
    ]


def _shoulders(faces: Faces) -> Shape:
    return blend(ellipse(0.0, 1.14, faces["shoulders"], 0.42), ellipse(0.0, 0.98, 0.46, 0.30), 0.1)


def clothes(faces: Faces) -> list[Layer]:
    """Shoulders, darker to the right."""
    cloth, shape = faces.colour("cloth"), _shoulders(faces)
    lit = ellipse(-0.12, 1.15, faces["shoulders"] - 0.06, 0.44)
    return [Layer(shape, cloth, frame="body"), Layer(~lit, dim(cloth, 0.8), soft=0.25, clip=shape, frame="body")]


def _bare(faces: Faces) -> Layer:
    """The skin where the neck comes out."""
    return Layer(ellipse(0.0, 0.70, faces["neck"] + 0.035, 0.085), shade(faces.colour("skin"), 0.5), frame="body")


def tee(faces: Faces) -> list[Layer]:
    """A round collar."""
    collar = curve(0.0, 0.70, faces["neck"] + 0.045, 0.095, 0.032)
    return [_bare(faces), Layer(collar, dim(faces.colour("cloth"), 1.1), frame="body")]


def stripes(faces: Faces) -> list[Layer]:
    """Two bands across the chest."""
    bands = box(0.0, 0.845, 1.0, 0.03, 0.0) | box(0.0, 0.965, 1.0, 0.03, 0.0)
    return [Layer(bands, faces.colour("accent"), clip=_shoulders(faces), frame="body"), *tee(faces)]


def shirt(faces: Faces) -> list[Layer]:
    """A pointed collar and buttons."""
    cloth = faces.colour("cloth")
    collar = triangle(0.03, 0.80, 0.20, 0.62, 0.27, 0.86).mirrored()
    gap = triangle(-0.17, 0.66, 0.17, 0.66, 0.0, 0.84)
    seam = line(0.0, 0.84, 0.0, 1.1, 0.012)
    buttons = circle(0.045, 0.90, 0.018) | circle(0.045, 0.98, 0.018)
    return [
        Layer(gap, shade(faces.colour("skin"), 0.5), frame="body"),
        Layer(seam, dim(cloth, 1.3), frame="body"),
        Layer(buttons, faces.colour("accent"), frame="body"),
        Layer(collar.moved(0.01, 0.02), dim(cloth, 1.6), opacity=0.5, soft=0.03, frame="body"),
        Layer(collar, mix(cloth, faces.colour("accent"), 0.75), frame="body"),
    ]


def hoodie(faces: Faces) -> list[Layer]:
    """A thick hood around the neck, and two strings."""
    cloth = faces.colour("cloth")
    roll = curve(0.0, 0.655, 0.255, 0.165, 0.072)
    strings = line(0.09, 0.84, 0.10, 0.95, 0.016).mirrored()
    return [
        _bare(faces),
        Layer(roll.moved(0.0, 0.03), dim(cloth, 1.6), opacity=0.5, soft=0.05, frame="body"),
        Layer(roll, mix(cloth, WHITE, 0.14), frame="body"),
        Layer(strings, faces.colour("accent"), frame="body"),
    ]


def _dome(faces: Faces, height: float, line_at: float) -> Shape:
    """A hat's crown over the hair."""
    width = faces["head_width"] + 0.075 + faces["volume"] * 0.5
    return ellipse(0.0, line_at, width, height) & above(line_at)


def _shadow(faces: Faces, shape: Shape) -> Layer:
    """Shadow of a hat on the forehead."""
    return Layer(shape.moved(0.0, 0.05), rgb("#3a1f2b"), opacity=0.28, soft=0.06, clip=skull(faces, 0.05))


def cap(faces: Faces) -> list[Layer]:
    """A baseball cap worn sideways, the visor where the parting is."""
    cloth, accent = faces.colour("cloth"), faces.colour("accent")
    crown = _dome(faces, 0.48, -0.29)
    lit = ellipse(-0.10, -0.32, 0.44, 0.46)
    side = np.where(faces["parting"] < 0, np.float32(-1), np.float32(1))
    visor = blend(ellipse(side * 0.44, -0.305, 0.46, 0.075), ellipse(side * 0.20, -0.32, 0.36, 0.075), 0.08)
    band = box(0.0, -0.315, 0.7, 0.035, 0.0)
    return [
        _shadow(faces, visor | band),
        Layer(circle(0.0, -0.765, 0.045), accent),
        Layer(crown, dim(cloth, 0.8)),
        Layer(lit, cloth, soft=0.15, clip=crown),
        Layer(ellipse(0.0, -0.29, 0.20, 0.50).ring(0.011), dim(cloth, 1.1), clip=crown),
        Layer(ellipse(0.0, -0.29, 0.19, 0.49), mix(cloth, accent, 0.9), clip=crown),
        Layer(band, dim(cloth, 1.2), clip=crown),
        Layer(visor.moved(0.0, 0.025), dim(cloth, 1.7)),
        Layer(visor, mix(cloth, accent, 0.10)),
    ]


def beanie(faces: Faces) -> list[Layer]:
    """A knitted hat with a cuff and a bobble."""
    cloth, accent = faces.colour("cloth"), faces.colour("accent")
    crown = _dome(faces, 0.45, -0.36)
    lit = ellipse(-0.10, -0.40, 0.42, 0.42)
    width = faces["head_width"] + 0.085 + faces["volume"] * 0.5
    cuff = box(0.0, -0.345, width, 0.085, 0.07)
    ribs = Shape.union(*(line(x, -0.40, x, -0.29, 0.012) for x in (-0.42, -0.30, -0.18, -0.06, 0.06, 0.18, 0.30, 0.42)))
    bobble = circle(0.0, -0.81, 0.12)
    return [
        Layer(bobble, shade(accent, 0.5)),
        Layer(circle(-0.02, -0.83, 0.09), accent, soft=0.06),
        _shadow(faces, cuff),
        Layer(crown, dim(cloth, 0.7)),
        Layer(lit, cloth, soft=0.15, clip=crown),
        Layer(cuff, mix(cloth, accent, 0.85)),
        Layer(ribs, shade(mix(cloth, accent, 0.85), 1.0)),
    ]


def sunhat(faces: Faces) -> list[Layer]:
    """A straw hat: tall crown, ribbon in the colour of the clothes, wide brim."""
    cloth, straw = faces.colour("cloth"), rgb("#ecc98a")
    crown = box(0.0, -0.56, 0.42, 0.31, 0.22) | box(0.0, -0.42, 0.45, 0.13, 0.05)
    brim = blend(ellipse(0.0, -0.345, 0.80, 0.095), ellipse(0.0, -0.31, 0.52, 0.08), 0.05)
    ribbon = box(0.0, -0.47, 0.6, 0.065, 0.0)
    lit = ellipse(-0.12, -0.60, 0.34, 0.34)
    return [
        _shadow(faces, brim),
        Layer(crown, shade(straw, 0.5)),
        Layer(lit, straw, soft=0.15, clip=crown),
        Layer(ribbon, cloth, clip=crown),
        Layer(brim, shade(straw, 0.9)),
        Layer(brim.moved(0.0, -0.025), mix(straw, WHITE, 0.15)),
    ]


OUTFITS: dict[str, Recipe] = {"tee": tee, "stripes": stripes, "shirt": shirt, "hoodie": hoodie}
"""Outfit -> what is on the shoulders."""

HATS: dict[str, Recipe] = {"cap": cap, "beanie": beanie, "sunhat": sunhat}
"""Hat -> what is on the head."""
