"""Random numbers that are functions of where they are used."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from progan.randomness import Rng, latents, mix, philox

U = np.uint64


def words(counter: int, key: int) -> list[str]:
    return [f"{int(word):08x}" for word in philox(np.array(counter, U), np.array(key, U))]


def test_philox_gives_the_known_answers_of_random123() -> None:
    assert words(0, 0) == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def reference_philox(counter: list[int], key: list[int]) -> list[int]:
    """Written from the paper (Salmon et al. 2011, section 3.3), for whole counters and keys, in plain integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        low, high = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(high >> 32) ^ c[1] ^ k[0], high & 0xFFFFFFFF, (low >> 32) ^ c[3] ^ k[1], low & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def test_the_reference_gives_the_known_answers_of_random123() -> None:
    ones, pi = [0xFFFFFFFF] * 4, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    assert reference_philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert reference_philox(ones, ones[:2]) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert reference_philox(pi, [0xA4093822, 0x299F31D0]) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@given(counter=st.integers(0, 2**32 - 1), key=st.integers(0, 2**64 - 1))
def test_philox_of_any_counter_and_key(counter: int, key: int) -> None:
    expected = reference_philox([counter, 0, 0, 0], [key & 0xFFFFFFFF, key >> 32])
    assert words(counter, key) == [f"{word:08x}" for word in expected]


@given(seed=st.integers(0, 2**64 - 1), z_dim=st.integers(1, 13))
def test_the_latent_of_a_seed_is_what_its_documentation_says(seed: int, z_dim: int) -> None:
    """Repeated here with nothing but integers and `math`, as JavaScript would."""
    expected = []
    for block in range(-(-z_dim // 4)):
        u = [(w + 0.5) / 2**32 for w in reference_philox([block, 0, 0, 0], [seed & 0xFFFFFFFF, seed >> 32])]
        for a, b in ((u[0], u[1]), (u[2], u[3])):
            radius = math.sqrt(-2 * math.log(a))
            expected += [radius * math.cos(2 * math.pi * b), radius * math.sin(2 * math.pi * b)]
    (ours,) = latents([seed], z_dim)
    assert ours.dtype == np.float32
    assert ours == pytest.approx(expected[:z_dim], abs=1e-6)


def test_latents_are_normal_and_uncorrelated() -> None:
    z = latents(range(4000), 64).astype(np.float64)
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    assert abs((z**3).mean()) < 0.02
    assert abs((z**4).mean() - 3) < 0.05
    correlations = np.corrcoef(z, rowvar=False) - np.eye(64)
    assert np.abs(correlations).max() < 0.08, "5 sigma, between entries"
    assert np.abs(np.corrcoef(z[:200]) - np.eye(200)).max() < 0.65, "5 sigma, between seeds"


def test_the_latent_of_a_seed_does_not_depend_on_the_batch_or_the_length() -> None:
    together = latents([7, 3, 2**63, 7], 100)
    assert (together[0] == together[3]).all()
    for row, seed in zip(together, (7, 3, 2**63, 7), strict=True):
        assert (latents([seed], 100)[0] == row).all()
        assert (latents([seed], 33)[0] == row[:33]).all()
    assert latents([], 8).shape == (0, 8)


def test_mix_tells_all_neighbours_apart() -> None:
    hashes = {mix(a, b, c) for a in range(20) for b in range(20) for c in range(20)}
    assert len(hashes) == 8000
    assert all(0 <= h < 2**63 for h in hashes)
    assert mix(1, 2) != mix(2, 1)


def test_rng_is_a_function_of_seed_images_and_stream() -> None:
    def draws(*where: object) -> list[float]:
        rng = Rng(*where)  # type: ignore[arg-type]
        return [*rng.normal(2, 3).flatten().tolist(), *rng.uniform(2).tolist(), *rng.integers(2, 1000).tolist()]

    one = draws(1, 64, "D")
    assert draws(1, 64, "D") == one
    assert all(draws(*other) != one for other in ((2, 64, "D"), (1, 65, "D"), (1, 64, "G"), (64, 1, "D")))


def test_rng_draws_what_it_says() -> None:
    rng = Rng(0, 0, "D")
    normal, uniform, integers = rng.normal(1000, 8), rng.uniform(8000), rng.integers(8000, 5)
    assert (normal.dtype, uniform.dtype, integers.dtype) == (torch.float32, torch.float32, torch.int64)
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05
    assert abs(uniform.mean() - 0.5) < 0.02
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert integers.unique().tolist() == [0, 1, 2, 3, 4]


def test_rng_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    Rng(3, 4, "init").normal(2, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
