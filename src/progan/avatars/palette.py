"""The colours: one designer's table, and a little jitter so that no two avatars share a tone."""

import numpy as np

from progan.avatars.traits import Array, Faces

SKIN = ("#ffe2cf", "#f4c39b", "#d89c69", "#a76a41", "#7d4b2e")
HAIR = ("#231f29", "#56311a", "#f3ca62", "#d65f27", "#cfd4de", "#ea6da4")
EYES = ("#5a3214", "#2f86e0", "#3f9c3d", "#e39a1b")
BACKGROUND = ("#8fcdf4", "#9fe2bd", "#ffae96", "#c2b2f3", "#ffe292", "#56648f")
CLOTHES = ("#e2504a", "#34458f", "#2f9e73", "#f0aa35", "#f6f4ef")
ACCENT = ("#ffe9dc", "#f3c85a", "#eaf7dc", "#7a4a26", "#e2675f")
"""What goes with each of CLOTHES: stripes, hat bands, collars."""
FRAMES = ("#25242c", "#7a4526", "#a3283c")

WHITE, INK, MAROON, GOLD = "#ffffff", "#2a2530", "#6b1f2b", "#f2bb3c"


def rgb(code: str) -> Array:
    """The colour "#rrggbb" as float32 [1, 3], 0 ... 255."""
    return np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)]], np.float32)


def mix(one: Array, two: Array | str, share: float | Array) -> Array:
    """From colour `one` (share 0) to colour `two` (share 1), float32 [n, 3]."""
    other = rgb(two) if isinstance(two, str) else two
    return np.asarray(one + (other - one) * share, np.float32)


def shade(colour: Array, amount: float = 1.0) -> Array:
    """`colour` in the shadow: darker and warmer, float32 [n, 3]."""
    return mix(colour, colour * rgb("#c79a9f") / np.float32(255), amount)


def dim(colour: Array, amount: float = 1.0) -> Array:
    """`colour` in the shadow, less warm: for hair and clothes, float32 [n, 3]."""
    return mix(colour, colour * rgb("#b5a3a5") / np.float32(255), amount)


def skin(faces: Faces) -> Array:
    """Skin, float32 [n, 3]."""
    return _pick(faces, "skin", SKIN, "skin", 5)


def hair(faces: Faces) -> Array:
    """Hair, brows and beard, float32 [n, 3]."""
    return _pick(faces, "hair_colour", HAIR, "hair", 7)


def iris(faces: Faces) -> Array:
    """The iris, float32 [n, 3]."""
    return _pick(faces, "eyes", EYES, "eye", 9)


def page(faces: Faces) -> Array:
    """The background, float32 [n, 3]."""
    return _pick(faces, "background", BACKGROUND, "page", 7)


def cloth(faces: Faces) -> Array:
    """Clothes and hat, float32 [n, 3]."""
    return _pick(faces, "clothes", CLOTHES, "cloth", 7)


def accent(faces: Faces) -> Array:
    """What goes with the clothes, float32 [n, 3]."""
    return _pick(faces, "clothes", ACCENT, "cloth", 4)


def frames(faces: Faces) -> Array:
    """Frames of glasses, float32 [n, 3]."""
    return np.concatenate([rgb(code) for code in FRAMES])[faces.choices["frame"]]


def _pick(faces: Faces, name: str, table: tuple[str, ...], jitter: str, reach: float) -> Array:
    """The colour of each face's value of `name`, its channels up to `reach` lighter or darker."""
    base = np.concatenate([rgb(code) for code in table])[faces.choices[name]]
    noise = np.concatenate([faces[f"{jitter}_{channel}"][:, :, 0] for channel in "rgb"], axis=1)
    return np.asarray(np.clip(base + noise * np.float32(reach), 0, 255), np.float32)
