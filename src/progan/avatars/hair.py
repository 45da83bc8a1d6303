"""Hair styles: what hangs behind the head and what lies on it, with or without a hat on top."""

from collections.abc import Callable
from functools import partial
from math import cos, radians, sin

from progan.avatars.canvas import Layer, Shape, above, below, blend, box, circle, curve, ellipse, line, triangle
from progan.avatars.head import skull
from progan.avatars.traits import WHITE, Faces, Number, dim, mix, rgb, shade

HairRecipe = Callable[[bool, Faces], list[Layer]]
"""(do they wear a hat, faces) -> layers."""

HAT_LINE = -0.27
"""Under a hat there is no hair above this height (but for what the hat covers)."""

NAPE = 0.02
"""Height at which the sides of short hair end."""

SHINE = curve(-0.15, -0.435, 0.20, -0.07, 0.035, slope=-0.25)
"""Light on smooth hair."""

FRINGE = ((-0.30, -0.17), (-0.14, -0.23), (0.02, -0.19), (0.17, -0.24), (0.30, -0.16))
"""x and y of the tips of spiky hair on the forehead."""


def _cap(faces: Faces, grow: float = 0.045) -> Shape:
    """The head with a layer of hair around it."""
    grown = faces["volume"] + grow
    return ellipse(0.0, -0.10, faces["head_width"] + grown, 0.50 + grown)


def _over(
    hatted: bool, faces: Faces, shape: Shape, strands: Shape | None = None, shine: Shape = SHINE, gloss: float = 0.30
) -> list[Layer]:
    """Hair of this shape over the face: its shadow on the skin, the hair, darker strands, light on the crown."""
    hair = faces.colour("hair")
    if hatted:
        shape &= below(HAT_LINE - 0.12)
    shadow = shape.moved(0.01, 0.045)
    layers = [Layer(shadow, shade(faces.colour("skin"), 1.2), 0.5, 0.05, clip=skull(faces)), Layer(shape, hair)]
    if strands:
        layers.append(Layer(strands, dim(hair), opacity=0.6, clip=shape))
    if not hatted:
        layers.append(Layer(shine, mix(hair, WHITE, gloss), soft=0.07, clip=shape))
    return layers


def _behind(outline: Callable[[Faces], Shape], hatted: bool, faces: Faces) -> list[Layer]:
    """Hair of this outline behind the head, in its shadow."""
    shape = outline(faces) & below(HAT_LINE) if hatted else outline(faces)
    return [Layer(shape, dim(faces.colour("hair"), 0.9))]


def bald(hatted: bool, faces: Faces) -> list[Layer]:
    """A shine on the scalp."""
    shine = ellipse(-0.17, -0.40, 0.10, 0.06)
    return [] if hatted else [Layer(shine, rgb(WHITE), opacity=0.45, soft=0.07)]


def short(hatted: bool, faces: Faces) -> list[Layer]:
    """A side parting, brushed across, and sideburns."""
    part = faces["parting"]
    forehead = ellipse(0.10 * part, 0.24, faces["head_width"] - 0.055, 0.54) | ellipse(-0.12 * part, 0.02, 0.30, 0.36)
    quiff = ellipse(0.10 * part, -0.50, 0.36, 0.15 + faces["volume"])
    upper = curve(0.06 * part, -0.42, 0.30, -0.10, 0.010, slope=0.18 * part)
    lower = curve(0.14 * part, -0.34, 0.24, -0.10, 0.008, slope=0.22 * part)
    return _over(hatted, faces, ((_cap(faces) & above(NAPE)) | quiff) - forehead, upper | lower)


def spiky(hatted: bool, faces: Faces) -> list[Layer]:
    """Spikes all around the head, and a jagged fringe."""
    spikes = [_spike(angle, 0.81 - 0.0000125 * angle**2) for angle in range(-108, 109, 24)]
    fringe = [triangle(x - 0.15, -0.42, x, tip, x + 0.11, -0.42) for x, tip in FRINGE]
    crown = (_cap(faces, 0.03) & above(NAPE)) - ellipse(0.0, 0.16, faces["head_width"] - 0.05, 0.53)
    strands = Shape.union(*(line(x, -0.31, 0.75 * x, -0.45, 0.010) for x in (-0.215, -0.06, 0.10, 0.225)))
    return _over(hatted, faces, Shape.union(crown, *spikes, *fringe), strands)


def _spike(angle: float, reach: float) -> Shape:
    """A spike from the middle of the head out to `reach`; `angle` in degrees from straight up, clockwise."""
    left, tip, right = (radians(angle + turn) for turn in (-24, 5, 24))
    x0, y0, x1, y1 = (0.45 * f(end) for end in (left, right) for f in (sin, cos))
    return triangle(x0, -0.12 - y0, reach * sin(tip), -0.10 - reach * cos(tip), x1, -0.12 - y1)


def _curls(hatted: bool, angles: range, reach: float, radius: Number) -> Shape:
    """Curls around the head; under a hat only those at its sides."""
    places = [(1.04 * reach * sin(radians(a)), -0.13 - reach * cos(radians(a))) for a in angles]
    return Shape.union(*(circle(x, y, radius) for x, y in places if not hatted or y > HAT_LINE))


def curly_back(hatted: bool, faces: Faces) -> list[Layer]:
    """A cloud of curls behind the head."""
    hair, angles = faces.colour("hair"), range(-126, 127, 28)
    cloud = _curls(hatted, angles, 0.53, 0.165 + faces["volume"])
    light = _curls(hatted, angles, 0.53, 0.09).moved(-0.02, -0.02)
    return [Layer(cloud, dim(hair, 0.75)), Layer(light, dim(hair, 0.3), soft=0.10)]


def curly(hatted: bool, faces: Faces) -> list[Layer]:
    """Two rows of curls on the head, each with its light."""
    upper, lower = range(-75, 76, 30), range(-90, 91, 30)
    top = _cap(faces) & above(-0.40)
    shape = top | _curls(hatted, upper, 0.43, 0.12) | _curls(hatted, lower, 0.36, 0.105)
    shine = _curls(hatted, upper, 0.50, 0.03) | _curls(hatted, lower, 0.37, 0.03)
    return _over(hatted, faces, shape, shine=shine.moved(-0.03, -0.03), gloss=0.18)


def _bob_outline(faces: Faces) -> Shape:
    width = faces["head_width"] + faces["volume"] + 0.10
    bottom = 0.42 + faces["hair_length"]
    return ellipse(0.0, -0.10, width, 0.56 + faces["volume"]) | box(
        0.0, (bottom - 0.10) / 2, width, (bottom + 0.10) / 2, 0.12
    )


def bob(hatted: bool, faces: Faces) -> list[Layer]:
    """A straight fringe and a panel down each cheek."""
    window = box(0.0, 0.36, faces["head_width"] - 0.075, 0.60, 0.10)
    fringe = [line(0.8 * x, -0.42, x, -0.20, 0.009) for x in (-0.26, -0.09, 0.10, 0.27)]
    sides = line(0.48, -0.15, 0.50, 0.33, 0.009).mirrored()
    return _over(hatted, faces, _bob_outline(faces) - window, Shape.union(sides, *fringe))


def _long_outline(faces: Faces) -> Shape:
    width = faces["head_width"] + faces["volume"] + 0.07
    bottom = 0.90 + faces["hair_length"]
    crown = ellipse(0.0, -0.10, width, 0.55 + faces["volume"])
    return blend(crown, box(0.0, bottom / 2, width + 0.06, bottom / 2, 0.16), 0.1)


def long(hatted: bool, faces: Faces) -> list[Layer]:
    """A parting like a curtain, and a lock over each shoulder."""
    part = 0.07 * faces["parting"]
    arch = circle(part - 0.32, 0.36, 0.75) & circle(part + 0.32, 0.36, 0.75)
    opening = arch | box(0.0, 0.75, faces["head_width"] - 0.06, 0.6, 0.3)
    sides = line(0.50, 0.0, 0.53, 0.78, 0.009).mirrored()
    crown = curve(0.24, -0.36, 0.20, -0.04, 0.009, slope=0.9).mirrored().moved(part, 0.0)
    return _over(hatted, faces, _long_outline(faces) - opening, sides | crown)


def buns_back(hatted: bool, faces: Faces) -> list[Layer]:
    """A bun on either side; a hat pushes them down."""
    x, y = (0.55, -0.19) if hatted else (0.43, -0.60)
    hair, size = faces.colour("hair"), faces["volume"] + 0.19
    bun = circle(x, y, size).mirrored()
    light = circle(x, y, size - 0.06).mirrored().moved(-0.03, -0.03)
    coil = circle(x, y, size * 0.5).ring(0.010).mirrored().moved(-0.02, -0.01)
    return [Layer(bun, dim(hair, 0.8)), Layer(light, hair, soft=0.08), Layer(coil, dim(hair, 0.9), opacity=0.7)]


def buns(hatted: bool, faces: Faces) -> list[Layer]:
    """Hair combed back from a high hairline, parted in the middle."""
    part = 0.10 * faces["parting"]
    arch = circle(part - 0.22, 0.25, 0.64) & circle(part + 0.22, 0.25, 0.64)
    forehead = arch | ellipse(0.0, 0.22, faces["head_width"] - 0.035, 0.42)
    strands = line(part, -0.66, part, -0.33, 0.011) | line(0.17, -0.36, 0.28, -0.52, 0.009).mirrored().moved(part, 0.0)
    return _over(hatted, faces, (_cap(faces, 0.03) & above(NAPE)) - forehead, strands)


BACK: dict[str, HairRecipe] = {
    "curly": curly_back,
    "bob": partial(_behind, _bob_outline),
    "long": partial(_behind, _long_outline),
    "buns": buns_back,
}
"""Hair style -> what is behind the head."""
FRONT: dict[str, HairRecipe] = {style.__name__: style for style in (bald, short, spiky, curly, bob, long, buns)}
"""Hair style -> what lies on the head."""
