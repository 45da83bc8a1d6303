"""How much more alike fakes are than reals."""

import math

from torch import Tensor

from progan.metrics.base import Value
from progan.metrics.ms_ssim import LOWEST, MultiScaleSsim
from progan.metrics.setting import Setting


class Excess:
    """`ms_ssim_excess`: MS-SSIM of the fakes less that of the reals; 0 is right, above 0 too little variety.

    The interval is over pairs of both kinds, which are independent: its half width is the root of the sum of squares.
    """

    def __init__(self, setting: Setting) -> None:
        setting.need_resolution("ms-ssim-excess", LOWEST)
        self._of = {True: MultiScaleSsim(), False: MultiScaleSsim()}

    def update(self, pixels: Tensor, real: bool) -> None:
        """See Metric."""
        self._of[real].update(pixels, real=False)

    def result(self) -> dict[str, Value]:
        """See Metric."""
        fakes, reals = (self._of[real].result()["ms_ssim"] for real in (False, True))
        value = fakes.value - reals.value
        half = math.hypot(fakes.high - fakes.value, reals.high - reals.value)
        return {"ms_ssim_excess": Value(value, value - half, value + half)}


make = Excess
