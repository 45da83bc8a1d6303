"""Head, neck, ears, nose, mouths, beards, eyes, brows and glasses: lists of layers, lowest first.

Heights in the head's frame, y down.
"""

from progan.avatars.canvas import Layer, Recipe, Shape, below, blend, box, circle, curve, ellipse, line
from progan.avatars.traits import GOLD, INK, MAROON, WHITE, Array, Faces, Number, dim, mix, rgb, shade

EYE, NOSE, MOUTH = 0.02, 0.175, 0.315
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
    skin = faces.colour("skin")
    shape = box(0.0, 0.60, faces["neck"], 0.26, 0.05)
    shadow = ellipse(faces["head_x"], 0.42, 0.34, 0.17)
    return [
        Layer(shape, shade(skin, 0.35), frame="body"),
        Layer(shadow, shade(skin, 1.3), soft=0.08, clip=shape, frame="body"),
    ]


def ears(faces: Faces) -> list[Layer]:
    """Ears with a darker inside."""
    skin, at = faces.colour("skin"), faces["head_width"]
    return [
        Layer(ellipse(at, 0.05, 0.085, 0.115).mirrored(), shade(skin, 0.12)),
        Layer(ellipse(at + 0.02, 0.055, 0.04, 0.065).mirrored(), shade(skin, 0.75), soft=0.03),
    ]


def studs(faces: Faces) -> list[Layer]:
    """A golden dot on each ear lobe."""
    at = faces["head_width"] + 0.03
    return [
        Layer(circle(at, 0.15, 0.034).mirrored(), rgb(GOLD)),
        Layer(circle(at - 0.01, 0.14, 0.012).mirrored(), rgb("#fff3c9")),
    ]


def hoops(faces: Faces) -> list[Layer]:
    """A golden ring under each ear lobe."""
    at = faces["head_width"] + 0.01
    return [Layer(circle(at, 0.205, 0.055).ring(0.017).mirrored(), rgb(GOLD))]


def face(faces: Faces) -> list[Layer]:
    """The head, lit from the upper left, with blushing cheeks."""
    skin, shape = faces.colour("skin"), skull(faces)
    lit = ellipse(-0.05, -0.06, faces["head_width"] - 0.02, 0.50)
    glow = ellipse(-0.12, -0.25, 0.24, 0.22)
    cheeks = ellipse(0.29, 0.20, 0.105, 0.075).mirrored()
    return [
        Layer(shape, skin),
        Layer(~lit, shade(skin, 0.55), soft=0.16, clip=shape),
        Layer(glow, mix(skin, WHITE, 0.35), opacity=0.6, soft=0.30),
        Layer(cheeks, mix(skin, "#ee5a5f", 0.8), opacity=faces["blush"], soft=0.11, clip=shape),
    ]


def freckles(faces: Faces) -> list[Layer]:
    """Three dots on each cheek and two on the nose."""
    spots = [(0.21, 0.205), (0.29, 0.235), (0.34, 0.185), (0.055, 0.115)]
    dots = Shape.union(*(circle(x, y, 0.017).mirrored() for x, y in spots))
    return [Layer(dots, shade(faces.colour("skin"), 1.5), opacity=0.85)]


def nose(faces: Faces) -> list[Layer]:
    """A button nose: shadow underneath, light on top."""
    skin, size = faces.colour("skin"), faces["nose_size"]
    return [
        Layer(ellipse(0.01, NOSE + 0.015, 0.062 * size, 0.045 * size), shade(skin, 0.95), soft=0.02),
        Layer(ellipse(0.0, NOSE, 0.054 * size, 0.042 * size), mix(shade(skin, 0.1), "#ff7a6b", 0.12), soft=0.02),
        Layer(ellipse(-0.015, NOSE - 0.015, 0.02, 0.014), mix(skin, WHITE, 0.55), soft=0.03),
    ]


def _lips(faces: Faces) -> Array:
    """Lip colour, float32 [n, 3]: rosier and darker than the skin."""
    return mix(shade(faces.colour("skin"), 0.9), "#cb4257", 0.72)


def smile(faces: Faces) -> list[Layer]:
    """A wide upward curve with dimples."""
    width, bend = 0.185 * faces["mouth_width"], 0.095 * faces["mouth_bend"]
    return [Layer(curve(0.0, MOUTH - 0.035, width, bend, 0.027), _lips(faces))]


def laugh(faces: Faces) -> list[Layer]:
    """A wide open mouth with teeth and tongue."""
    width = 0.19 * faces["mouth_width"]
    top = MOUTH - 0.045
    shape = ellipse(0.0, top, width, 0.165) & below(top)
    return [
        Layer(shape | curve(0.0, top, width - 0.01, 0.0, 0.018), rgb(MAROON)),
        Layer(ellipse(0.02, top + 0.17, 0.10, 0.075), rgb("#ef6b73"), clip=shape),
        Layer(box(0.0, top + 0.012, width * 0.86, 0.036, 0.02), rgb("#fffdf8"), clip=shape),
    ]


def neutral(faces: Faces) -> list[Layer]:
    """A straight line over a hint of a lower lip."""
    width = 0.135 * faces["mouth_width"]
    return [
        Layer(ellipse(0.0, MOUTH + 0.045, 0.075, 0.025), mix(faces.colour("skin"), _lips(faces), 0.4), soft=0.03),
        Layer(curve(0.0, MOUTH, width, 0.0, 0.025), _lips(faces)),
    ]


def sad(faces: Faces) -> list[Layer]:
    """A downward curve."""
    width, bend = 0.155 * faces["mouth_width"], -0.085 * faces["mouth_bend"]
    return [
        Layer(ellipse(0.0, MOUTH + 0.05, 0.07, 0.025), shade(faces.colour("skin"), 0.8), soft=0.04),
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
    hair = faces.colour("hair")
    shape = curve(0.105, NOSE + 0.075, 0.125, -0.025, 0.05, slope=0.30).mirrored()
    return [Layer(shape.moved(0.01, 0.03), shade(faces.colour("skin")), soft=0.05, opacity=0.5), Layer(shape, hair)]


def full_beard(faces: Faces) -> list[Layer]:
    """A beard from ear to ear that leaves the mouth free."""
    hair = faces.colour("hair")
    cheeks = ellipse(0.17, 0.03, faces["head_width"] - 0.22, 0.18).mirrored()
    gap = ellipse(0.0, MOUTH + 0.02, 0.205 * faces["mouth_width"], 0.07)
    shape = (skull(faces, 0.035) & below(0.04)) - (cheeks | gap)
    light = ellipse(-0.1, 0.3, 0.3, 0.25)
    return [Layer(shape, dim(hair, 0.75)), Layer(light, dim(hair, 0.2), soft=0.2, clip=shape)]


def eyes(faces: Faces) -> list[Layer]:
    """Socket, white, iris, pupil, two highlights and the upper lid."""
    at, size, y = faces["eye_spacing"], faces["eye_size"], EYE + faces["eye_height"]
    skin, iris = faces.colour("skin"), faces.colour("iris")
    x, gaze_y = faces["gaze_x"], y + 0.005 + faces["gaze_y"]

    def both(dx: Number, dy: Number, radius: Number) -> Shape:
        return circle(at, gaze_y, radius).mirrored().moved(x + dx, dy)

    white = ellipse(at, y, 0.125 * size, 0.135 * size).mirrored()
    lid = curve(at, y - 0.045 * size, 0.128 * size, -0.095 * size, 0.023).mirrored()
    return [
        Layer(ellipse(at, y, 0.150, 0.155).mirrored(), shade(skin, 0.7), soft=0.05),
        Layer(white, rgb("#fffefb")),
        Layer(both(0.0, 0.0, 0.092 * size), mix(iris, INK, 0.45), clip=white),
        Layer(both(0.0, 0.004, 0.080 * size), iris, clip=white),
        Layer(both(0.0, 0.045, 0.050), mix(iris, WHITE, 0.4), opacity=0.7, soft=0.05, clip=white),
        Layer(both(0.0, 0.0, 0.040 * size), rgb("#17131a"), clip=white),
        Layer(both(-0.032, -0.034, 0.027), rgb(WHITE)),
        Layer(both(0.034, 0.036, 0.014), rgb(WHITE), opacity=0.85),
        Layer(lid.moved(0.0, 0.03), rgb("#7d6f86"), soft=0.05, opacity=0.45, clip=white),
        Layer(lid, rgb(INK)),
    ]


def lashes(faces: Faces) -> list[Layer]:
    """Two flicks at the outer corner of each eye."""
    size = faces["eye_size"]
    x, y = faces["eye_spacing"] + 0.10 * size, EYE + faces["eye_height"] - 0.07 * size
    flicks = line(x, y, x + 0.07, y - 0.03, 0.016) | line(x, y, x + 0.045, y - 0.065, 0.016)
    return [Layer(flicks.mirrored(), rgb(INK))]


def brows(faces: Faces) -> list[Layer]:
    """Thick brows: with a bald head they are what shows the colour of the hair."""
    at, y = faces["eye_spacing"] + 0.01, EYE - 0.195 + faces["brow_lift"]
    bend, slope = faces["brow_bend"], faces["brow_slope"]
    shape = curve(at, y, 0.115, -bend, 0.034, slope=slope).mirrored()
    return [Layer(shape, dim(faces.colour("hair"), 0.75))]


def _arms(faces: Faces, reach: Number, y: Number) -> Shape:
    """The arms of glasses, from the frame to the ears."""
    at = faces["eye_spacing"]
    return line(at + reach, y, faces["head_width"], y - 0.02, 0.018).mirrored()


def _glint(faces: Faces, y: Number) -> Shape:
    """A streak of light on each lens."""
    at = faces["eye_spacing"]
    return Shape.union(*(line(x - 0.02, y + 0.11, x + 0.09, y - 0.06, 0.022) for x in (-at, at)))


def round_glasses(faces: Faces) -> list[Layer]:
    """Round lenses in a thin golden frame."""
    at, y = faces["eye_spacing"], EYE + faces["eye_height"] + 0.005
    lens = circle(at, y, 0.178).mirrored()
    bridge = curve(0.0, y, at - 0.17, -0.03, 0.018)
    rims = lens.ring(0.020) | bridge | _arms(faces, 0.178, y)
    return [
        Layer(lens, rgb("#eaf6ff"), opacity=0.16),
        Layer(_glint(faces, y), rgb(WHITE), opacity=0.30, clip=lens),
        Layer(rims, rgb("#c98a1f")),
    ]


def square_glasses(faces: Faces) -> list[Layer]:
    """Square lenses in a thick frame."""
    at, y = faces["eye_spacing"], EYE + faces["eye_height"] + 0.015
    lens = box(at, y, 0.172, 0.145, 0.05).mirrored()
    rims = lens.ring(0.030) | box(0.0, y - 0.05, 0.05, 0.024, 0.02) | _arms(faces, 0.172, y - 0.05)
    return [
        Layer(lens, rgb("#eaf6ff"), opacity=0.12),
        Layer(_glint(faces, y), rgb(WHITE), opacity=0.28, clip=lens),
        Layer(rims, faces.colour("frame")),
    ]


def tinted_glasses(faces: Faces) -> list[Layer]:
    """Sunglasses, dark at the top and clear below, so that the iris shows."""
    at, y = faces["eye_spacing"], EYE + faces["eye_height"] + 0.01
    lens = ellipse(at + 0.005, y + 0.01, 0.185, 0.17).mirrored()
    shade_of = box(at, y - 0.20, 0.3, 0.17, 0.0).mirrored()
    rims = lens.ring(0.018) | box(0.0, y - 0.06, 0.05, 0.018, 0.01) | _arms(faces, 0.185, y - 0.03)
    return [
        Layer(lens, rgb("#7a3fa0"), opacity=0.40),
        Layer(shade_of, rgb("#2b1440"), opacity=0.80, soft=0.22, clip=lens),
        Layer(_glint(faces, y), rgb(WHITE), opacity=0.30, clip=lens),
        Layer(rims, rgb(INK)),
    ]


MOUTHS: dict[str, Recipe] = {"smile": smile, "laugh": laugh, "neutral": neutral, "sad": sad, "surprised": surprised}
BEARDS: dict[str, Recipe] = {"moustache": moustache, "full": full_beard}
EARRINGS: dict[str, Recipe] = {"studs": studs, "hoops": hoops}
GLASSES: dict[str, Recipe] = {"round": round_glasses, "square": square_glasses, "tinted": tinted_glasses}
