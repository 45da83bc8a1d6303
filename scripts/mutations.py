"""Shows that the tests are able to fail: breaks the code in one place at a time and runs the tests that guard it.

    python scripts/mutations.py [--jobs N] [WORD ...]     # all, or those with one of the words in their names

Works on copies of src in a temporary folder. Exit code 1 if a breakage survives, if its text is no longer in the code,
or if the tests are red without any. Takes about 3 seconds each.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Mutation(NamedTuple):
    """A breakage: in `file` (below src/progan) each old text becomes the new one; `tests` must notice."""

    name: str
    file: str
    edits: list[tuple[str, str]]
    tests: list[str]


ANSWERS, TRAINING = "tests/test_known_answers.py::", "tests/test_known_answers_training.py::"
LAYERS, NETWORKS = "tests/test_reference_layers.py::", "tests/test_reference_networks.py::"
LOSSES, STEPS = "tests/test_reference_losses.py::", "tests/test_reference_training.py::"
IMAGES, RANDOM, SCHEDULE = "tests/test_images.py::", "tests/test_randomness.py::", "tests/test_schedule.py::"

MUTATIONS = [
    # Growing
    Mutation(
        "unfaded reals",
        "training/step.py",
        [("return fade(images, alpha)", "return images")],
        [TRAINING + "test_reals_fade_as_fakes_do"],
    ),
    Mutation(
        "reals faded the wrong way round",
        "images.py",
        [("lerp(upscale(downscale(images)), images, alpha)", "lerp(images, upscale(downscale(images)), alpha)")],
        [IMAGES + "test_fade_mixes_with_the_mean_of_each_square", STEPS + "test_processed_reals"],
    ),
    Mutation(
        "alpha reversed in G",
        "models/progan.py",
        [
            (
                "torch.lerp(upscale(self._rgb(before, resolution // 2)), images, alpha)",
                "torch.lerp(images, upscale(self._rgb(before, resolution // 2)), alpha)",
            )
        ],
        [ANSWERS + "test_growing_changes_nothing_at_alpha_0"],
    ),
    Mutation(
        "alpha reversed in D",
        "models/progan.py",
        [("torch.lerp(below, x,", "torch.lerp(x, below,")],
        [ANSWERS + "test_growing_changes_nothing_at_alpha_0"],
    ),
    Mutation(
        "alpha forgotten in D's step",
        "training/step.py",
        [("loss.d_terms(critic(D, stage.alpha,", "loss.d_terms(critic(D, 1.0,")],
        [TRAINING + "test_reals_fade_as_fakes_do"],
    ),
    Mutation(
        "fade begins one evaluation early",
        "schedule.py",
        [("cur_nimg == span.end and span.phase", "False and span.phase")],
        [SCHEDULE + "test_stages_of_a_small_run"],
    ),
    Mutation(
        "fade ends one evaluation late",
        "schedule.py",
        [("if cur_nimg < span.end or", "if cur_nimg <= span.end or")],
        [SCHEDULE + "test_stages_of_a_small_run"],
    ),
    Mutation(
        "fades as long as those of the resolution left",
        "schedule.py",
        [("config.fade_kimg.at(resolution)", "config.fade_kimg.at(resolution // 2)")],
        [SCHEDULE + "test_stages_of_a_small_run"],
    ),
    # The averaged generator
    Mutation(
        "G becomes the average instead of G_ema",
        "training/step.py",
        [("(list(G_ema.parameters()), list(G.parameters())", "(list(G.parameters()), list(G_ema.parameters())")],
        [TRAINING + "test_the_average_moves_towards_g_by_one_minus_decay"],
    ),
    Mutation(
        "decay and 1 - decay swapped",
        "training/step.py",
        [("get_ema_multi_avg_fn(decay)", "get_ema_multi_avg_fn(1 - decay)")],
        [TRAINING + "test_g_ema_is_taken_before_the_g_step"],
    ),
    Mutation(
        "average taken after G's step",
        "training/loop.py",
        [
            ("        average(state.G_ema, state.G, config.optimizer.ema_decay)\n", ""),
            (
                '    state.skipped["G"] += not updated\n',
                '    state.skipped["G"] += not updated\n'
                "    average(state.G_ema, state.G, config.optimizer.ema_decay)\n",
            ),
        ],
        [TRAINING + "test_g_ema_is_taken_before_the_g_step"],
    ),
    Mutation(
        "grids show G",
        "training/observers.py",
        [("images = state.G_ema(", "images = state.G.forward(")],
        [TRAINING + "test_snapshots_and_grids_show_the_averaged_generator"],
    ),
    Mutation(
        "snapshots hold G",
        "training/observers.py",
        [("of_generator(state.G_ema,", "of_generator(state.G,")],
        [TRAINING + "test_snapshots_and_grids_show_the_averaged_generator"],
    ),
    # Losses
    Mutation(
        "create_graph dropped",
        "losses/wgan_gp.py",
        [("create_graph=True", "create_graph=False")],
        [ANSWERS + "test_the_penalty_trains_d"],
    ),
    Mutation(
        "create_graph dropped, graph kept",
        "losses/wgan_gp.py",
        [
            ("create_graph=True)", "create_graph=True)\n    gradients = gradients.detach() + 0 * critic(images).value.sum()"),
        ],
        [ANSWERS + "test_the_penalty_trains_d"],
    ),
    Mutation(
        "gradient norm of the batch, not of each image",
        "losses/wgan_gp.py",
        [(".square().sum((1, 2, 3)).sqrt()", ".square().sum().sqrt().expand(len(images))")],
        [LOSSES + "test_intermediates_at_the_final_resolution"],
    ),
    Mutation(
        "penalty measured at the stage's resolution",
        "training/step.py",
        [("slope = stage.resolution / G.resolution", "slope = 1.0")],
        [STEPS + "test_training_iteration"],
    ),
    Mutation(
        "drift dropped",
        "losses/wgan_gp.py",
        [("drift = self.config.drift_weight *", "drift = 0 *")],
        [ANSWERS + "test_wgan_gp_of_a_linear_critic"],
    ),
    Mutation(
        "drift of the fakes",
        "losses/wgan_gp.py",
        [("drift_weight * real.square()", "drift_weight * fake.square()")],
        [ANSWERS + "test_wgan_gp_of_a_linear_critic"],
    ),
    Mutation(
        "one mixing factor for the batch",
        "losses/wgan_gp.py",
        [("uniform.to(reals.dtype)", "uniform[:1].expand(len(reals)).to(reals.dtype)")],
        [ANSWERS + "test_mixed_images_lie_between_reals_and_fakes"],
    ),
    Mutation(
        "reals and fakes in one batch",
        "losses/interface.py",
        [
            (
                "real, fake = critic(reals), critic(fakes)",
                "both, n = critic(reals.new_tensor([]).new_empty(0, *reals.shape[1:]).__class__.__torch_function__ and "
                "__import__('torch').cat([reals, fakes])), len(reals)\n"
                "        real, fake = (Scores(*(x if x is None else x[s] for x in both)) for s in (slice(n), slice(n, None)))",
            )
        ],
        [LOSSES + "test_loss_and_gradients_of_d_as_in_training"],
    ),
    Mutation(
        "labels of fakes cost D nothing",
        "losses/interface.py",
        [(" + label_loss(fake, labels, self.label_kind)", "")],
        [ANSWERS + "test_labels_cost_d_for_reals_and_fakes_and_g_for_fakes"],
    ),
    # Layers
    Mutation(
        "He's constant of a ReLU without its 2",
        "layers-of-models",
        [],
        [],
    ),
]
