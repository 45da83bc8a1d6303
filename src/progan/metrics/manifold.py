"""Are fakes like reals, and is every kind of real there? Balls that reach to the k-th nearest neighbour.

Precision and recall (Kynkäänniemi et al. 2019); density and coverage (Naeem et al. 2020), which one outlier cannot
carry.
"""

import torch
from torch import Tensor

from progan.metrics.base import Collecting, Setting, Value, fraction_of, mean_of
from progan.metrics.features import Scale, random_features
from progan.metrics.nearest import blocks, radii


class Manifold(Collecting):
    """Random features of reals and fakes, in the units of the reals."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, random_features(setting))

    def points(self, reals: int, fakes: int) -> tuple[Tensor, Tensor]:
        """Features float32 [N, F] and [M, F]. Raises ConfigError for fewer than so many reals or fakes."""
        rows = self.rows(True, reals), self.rows(False, fakes)
        scale = Scale(rows[0])
        return scale(rows[0]), scale(rows[1])


class PrecisionRecall(Manifold):
    """`precision`: fraction of the fakes in the ball of a real; `recall`: of the reals in the ball of a fake.

    A ball reaches to the third nearest neighbour. The intervals are Wilson's over the images whose fraction it is, the
    balls being given.
    """

    name, neighbours = "precision-recall", 3

    def result(self) -> dict[str, Value]:
        precision, recall = inside(*self.points(self.neighbours + 1, self.neighbours + 1), self.neighbours)
        return {"precision": fraction_of(precision), "recall": fraction_of(recall)}


class DensityCoverage(Manifold):
    """`density`: in how many reals' balls a fake lies, divided by 5; `coverage`: fraction of balls that hold a fake.

    A ball reaches to the fifth nearest neighbour (section 3). Where both come from one distribution density is about 1
    and coverage 1 - 2⁻⁵ = 0.97. Intervals are over the fakes (density, normal) and over the reals (coverage, Wilson),
    the others being given.
    """

    name, neighbours = "density-coverage", 5

    def result(self) -> dict[str, Value]:
        balls, covered = counts(*self.points(self.neighbours + 1, 2), self.neighbours)
        return {"density": mean_of(balls / self.neighbours), "coverage": fraction_of(covered)}


def inside(reals: Tensor, fakes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Features float [N, F] and [M, F] -> which fakes lie in a real's ball, bool [M]; which reals in a fake's, [N]."""
    of_reals, of_fakes = radii(reals, k), radii(fakes, k)  # the balls, as squared radii
    precision, recall = torch.zeros_like(of_fakes, dtype=torch.bool), torch.zeros_like(of_reals, dtype=torch.bool)
    for rows, squares in blocks(reals, fakes):
        precision |= (squares <= of_reals[rows, None]).any(0)
        recall[rows] = (squares <= of_fakes).any(1)
    return precision, recall


def counts(reals: Tensor, fakes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Features float [N, F] and [M, F] -> balls each fake lies in, float64 [M]; which hold a fake, bool [N]."""
    reach = radii(reals, k)
    balls, covered = reach.new_zeros(len(fakes)), torch.zeros_like(reach, dtype=torch.bool)
    for rows, squares in blocks(reals, fakes):
        hits = squares <= reach[rows, None]
        balls += hits.sum(0)
        covered[rows] = hits.any(1)
    return balls, covered
