"""Eyes, brows and glasses: lists of layers, lowest first."""

from progan.avatars import palette
from progan.avatars.canvas import Layer, Recipe
from progan.avatars.palette import INK, WHITE, dim, mix, rgb, shade
from progan.avatars.shapes import Number, Shape, box, circle, curve, ellipse, line, mirrored, moved, ring, union
from progan.avatars.traits import Faces

EYE = 0.02
"""Height of the eyes."""


def eyes(faces: Faces) -> list[Layer]:
    """Socket, white, iris, pupil, two highlights and the upper lid."""
    at, size, y = faces["eye_spacing"], faces["eye_size"], EYE + faces["eye_height"]
    skin, iris = palette.skin(faces), palette.iris(faces)
    x, gaze_y = faces["gaze_x"], y + 0.005 + faces["gaze_y"]

    def both(dx: Number, dy: Number, radius: Number) -> Shape:
        return moved(mirrored(circle(at, gaze_y, radius)), x + dx, dy)

    white = mirrored(ellipse(at, y, 0.125 * size, 0.135 * size))
    lid = mirrored(curve(at, y - 0.045 * size, 0.128 * size, -0.095 * size, 0.023))
    return [
        Layer(mirrored(ellipse(at, y, 0.150, 0.155)), shade(skin, 0.7), soft=0.05),
        Layer(white, rgb("#fffefb")),
        Layer(both(0.0, 0.0, 0.092 * size), mix(iris, INK, 0.45), clip=white),
        Layer(both(0.0, 0.004, 0.080 * size), iris, clip=white),
        Layer(both(0.0, 0.045, 0.050), mix(iris, WHITE, 0.4), opacity=0.7, soft=0.05, clip=white),
        Layer(both(0.0, 0.0, 0.040 * size), rgb("#17131a"), clip=white),
        Layer(both(-0.032, -0.034, 0.027), rgb(WHITE)),
        Layer(both(0.034, 0.036, 0.014), rgb(WHITE), opacity=0.85),
        Layer(moved(lid, 0.0, 0.03), rgb("#7d6f86"), soft=0.05, opacity=0.45, clip=white),
        Layer(lid, rgb(INK)),
    ]


def lashes(faces: Faces) -> list[Layer]:
    """Two flicks at the outer corner of each eye."""
    at, size, y = faces["eye_spacing"], faces["eye_size"], EYE + faces["eye_height"]

    x, top = at + 0.10 * size, y - 0.07 * size
    shape = mirrored(union(*(line(x, top, x + dx, top + dy, 0.016) for dx, dy in ((0.07, -0.03), (0.045, -0.065)))))
    return [Layer(shape, rgb(INK))]


def brows(faces: Faces) -> list[Layer]:
    """Thick brows: with a bald head they are what shows the colour of the hair."""
    return _brows(faces, 0.034)


def bold_brows(faces: Faces) -> list[Layer]:
    """The brows of a bald head."""
    return _brows(faces, 0.042)


def _brows(faces: Faces, thick: float) -> list[Layer]:
    at, y = faces["eye_spacing"] + 0.01, EYE - 0.195 + faces["brow_lift"]
    bend, slope = faces["brow_bend"], faces["brow_slope"]
    shape = mirrored(curve(at, y, 0.115, -bend, thick, slope=slope))
    return [Layer(shape, dim(palette.hair(faces), 0.75))]


def _arms(faces: Faces, reach: Number, y: Number) -> Shape:
    """From the frame to the ears."""
    at = faces["eye_spacing"]
    return mirrored(line(at + reach, y, faces["head_width"], y - 0.02, 0.018))


def _glint(faces: Faces, y: Number) -> Shape:
    """A streak of light on each lens."""
    at = faces["eye_spacing"]
    return union(*(line(x - 0.02, y + 0.11, x + 0.09, y - 0.06, 0.022) for x in (-at, at)))


def round_glasses(faces: Faces) -> list[Layer]:
    """Round lenses in a thin golden frame."""
    at, y = faces["eye_spacing"], EYE + faces["eye_height"] + 0.005
    lens = mirrored(circle(at, y, 0.178))
    bridge = curve(0.0, y, at - 0.17, -0.03, 0.018)
    rims = union(ring(lens, 0.020), bridge, _arms(faces, 0.178, y))
    return [
        Layer(lens, rgb("#eaf6ff"), opacity=0.16),
        Layer(_glint(faces, y), rgb(WHITE), opacity=0.30, clip=lens),
        Layer(rims, rgb("#c98a1f")),
    ]


def square_glasses(faces: Faces) -> list[Layer]:
    """Square lenses in a thick frame."""
    at, y = faces["eye_spacing"], EYE + faces["eye_height"] + 0.015
    lens = mirrored(box(at, y, 0.172, 0.145, 0.05))
    rims = union(ring(lens, 0.030), box(0.0, y - 0.05, 0.05, 0.024, 0.02), _arms(faces, 0.172, y - 0.05))
    return [
        Layer(lens, rgb("#eaf6ff"), opacity=0.12),
        Layer(_glint(faces, y), rgb(WHITE), opacity=0.28, clip=lens),
        Layer(rims, palette.frames(faces)),
    ]


def tinted_glasses(faces: Faces) -> list[Layer]:
    """Sunglasses, dark at the top and clear below, so that the iris shows."""
    at, y = faces["eye_spacing"], EYE + faces["eye_height"] + 0.01
    lens = mirrored(ellipse(at + 0.005, y + 0.01, 0.185, 0.17))
    shade_of = mirrored(box(at, y - 0.20, 0.3, 0.17, 0.0))
    rims = union(ring(lens, 0.018), box(0.0, y - 0.06, 0.05, 0.018, 0.01), _arms(faces, 0.185, y - 0.03))
    return [
        Layer(lens, rgb("#7a3fa0"), opacity=0.40),
        Layer(shade_of, rgb("#2b1440"), opacity=0.80, soft=0.22, clip=lens),
        Layer(_glint(faces, y), rgb(WHITE), opacity=0.30, clip=lens),
        Layer(rims, rgb(INK)),
    ]


GLASSES: dict[str, Recipe] = {"round": round_glasses, "square": square_glasses, "tinted": tinted_glasses}
"""Glasses -> what is in front of the eyes."""
