"""Shows that the tests are able to fail: breaks the code in one place at a time and runs the tests that guard it.

    python scripts/mutations.py [--jobs N] [WORD ...]     # all, or those with one of the words in their names

Works on copies of src in a temporary folder; takes a few seconds for each. Exit code 1 if a breakage survives, if its
text is no longer in the code, or if a guarding test is red without any.
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
TIMEOUT = 300
"""Seconds for the tests of one breakage."""


class Mutation(NamedTuple):
    """In `file` (below src/progan) each old text becomes the new one; `tests` must notice."""

    name: str
    file: str
    edits: dict[str, str]
    tests: list[str]


ANSWERS, TRAINING = "known_answers.py::test_", "known_answers_training.py::test_"
NETWORKS, LAYERS = "reference_networks.py::test_", "reference_layers.py::test_"
LOSSES, STEPS = "reference_losses.py::test_", "reference_training.py::test_"
METRICS, MEASURED, EVALUATE = "metrics_known_answers.py::Test", "metrics_reference.py::test_", "evaluate.py::Test"
IMPORT, PORTS, LIBRARY = "import_official.py::", "import_ports.py::", "library.py::"
OBJECTIVES = "losses.py::test_"
FAULTS, PROCESSES = "faults.py::test_", "faults_processes.py::test_"
FILES, FORMATS = "files.py::test_", "formats.py::test_"
TOGETHER = "distributed.py::test_"
AUGMENT, INITIAL = "augment.py::test_", "initial.py::test_"
CHOICES = "choices.py::test_"
CLI, SUBMIT = "cli.py::test_", "submit.py::test_"
PAGE = "app_page.py::test_"
PRETRAINED = "pretrained.py::test_"
RANGES, FACES = "data_ranges.py::test_", "data_faces.py::test_"
NAMED, WRITTEN, SHOWN = "data_named.py::test_", "data_stylegan.py::test_", "data_inspection.py::test_"
IMAGES, RANDOMNESS, SCHEDULE = "images.py::test_", "randomness.py::test_", "schedule.py::test_"

GROWING = [
    Mutation(
        "unfaded reals",
        "training/step.py",
        {"return fade(images, alpha)": "return images"},
        [TRAINING + "reals_fade_as_fakes_do"],
    ),
    Mutation(
        "reals faded the wrong way round",
        "images.py",
        {"lerp(upscale(downscale(images)), images, alpha)": "lerp(images, upscale(downscale(images)), alpha)"},
        [IMAGES + "fade_mixes_with_the_mean_of_each_square"],
    ),
    Mutation(
        "alpha reversed in G",
        "models/progan.py",
        {
            "_mix(upscale(self._rgb(before, resolution // 2)), images, alpha)": (
                "_mix(images, upscale(self._rgb(before, resolution // 2)), alpha)"
            )
        },
        [ANSWERS + "growing_changes_nothing_at_alpha_0"],
    ),
    Mutation(
        "alpha reversed in D",
        "models/progan.py",
        {"_mix(below, x,": "_mix(x, below,"},
        [ANSWERS + "growing_changes_nothing_at_alpha_0"],
    ),
    Mutation(
        "alpha forgotten in D's step",
        "training/step.py",
        {
            "judge = critic(D, batch.alpha,": "judge = critic(D, 1.0,",
        },
        [TRAINING + "reals_fade_as_fakes_do"],
    ),
    Mutation(
        "fade begins one evaluation early",
        "schedule.py",
        {"(cur_nimg == span.end and": "(False and"},
        [SCHEDULE + "stages_of_a_small_run"],
    ),
    Mutation(
        "fade ends one evaluation late",
        "schedule.py",
        {"cur_nimg < span.end or": "cur_nimg <= span.end or"},
        [SCHEDULE + "stages_of_a_small_run"],
    ),
    Mutation(
        "fade as long as that of the resolution before",
        "schedule.py",
        {"config.fade_kimg.at(resolution)": "config.fade_kimg.at(resolution // 2)"},
        [SCHEDULE + "stages_of_a_small_run"],
    ),
    Mutation(
        "learning rate of the resolution before while fading",
        "schedule.py",
        {"config.lr.at(resolution)": 'config.lr.at(resolution // 2 if phase == "fade" else resolution)'},
        [SCHEDULE + "every_evaluation_of_the_official_schedule"],
    ),
]

AVERAGE = [
    Mutation(
        "G averaged instead of G_ema",
        "training/step.py",
        {"(list(G_ema.parameters()), list(G.parameters())": "(list(G.parameters()), list(G_ema.parameters())"},
        [TRAINING + "the_average_moves_towards_g_by_one_minus_decay"],
    ),
    Mutation(
        "decay and 1 - decay swapped",
        "training/step.py",
        {"get_ema_multi_avg_fn(decay)": "get_ema_multi_avg_fn(1 - decay)"},
        [TRAINING + "g_ema_is_taken_before_the_g_step"],
    ),
    Mutation(
        "average taken after G's step",
        "training/loop.py",
        {
            '        with record_function("average"):\n            step.average()\n': "",
            '    meter.add("G", terms)\n': '    meter.add("G", terms)\n    step.average()\n',
        },
        [TRAINING + "g_ema_is_taken_before_the_g_step"],
    ),
    Mutation(
        "grids show G",
        "training/observers/run_files.py",
        {
            "generate(state.G_ema, z": "generate(state.G, z",
        },
        [TRAINING + "snapshots_and_grids_show_the_averaged_generator"],
    ),
    Mutation(
        "snapshots hold G",
        "training/observers/run_files.py",
        {"of_generator(state.G_ema,": "of_generator(state.G,"},
        [TRAINING + "snapshots_and_grids_show_the_averaged_generator"],
    ),
]

LOSS = [
    Mutation(
        "create_graph dropped",
        "losses/base.py",
        {
            "create_graph=True": "create_graph=False",
        },
        [ANSWERS + "the_penalty_trains_d"],
    ),
    Mutation(
        "penalty that is reported but trains nothing",
        "losses/base.py",
        {
            "return gradients.square()": "gradients = gradients.detach().requires_grad_()\n    return gradients.square()",
        },
        [ANSWERS + "the_penalty_trains_d"],
    ),
    Mutation(
        "gradient norm of the batch, not of each image",
        "losses/base.py",
        {
            ".square().sum((1, 2, 3))": ".square().sum().expand(len(images))",
        },
        [LOSSES + "intermediates_at_the_final_resolution"],
    ),
    Mutation(
        "penalty measured at the stage's resolution",
        "training/step.py",
        {
            "batch.resolution / G.resolution, draws)": "1.0, draws)",
        },
        [STEPS + "training_iteration"],
    ),
    Mutation(
        "drift dropped",
        "losses/wgan_gp.py",
        {"drift = self.config.drift_weight *": "drift = 0 *"},
        [ANSWERS + "wgan_gp_of_a_linear_critic"],
    ),
    Mutation(
        "drift of fakes",
        "losses/wgan_gp.py",
        {"drift_weight * real.square()": "drift_weight * fake.square()"},
        [ANSWERS + "wgan_gp_of_a_linear_critic"],
    ),
    Mutation(
        "one mixing factor for the whole batch",
        "losses/wgan_gp.py",
        {"uniform.to(reals.dtype)": "uniform[:1].repeat(len(reals)).to(reals.dtype)"},
        [ANSWERS + "mixed_images_lie_between_reals_and_fakes"],
    ),
    Mutation(
        "reals and fakes in one pass of D",
        "losses/base.py",
        {
            "real, fake = critic(reals), critic(fakes)": "real, fake = (Scores(*half) for half in zip(*((None, None) if x is None else x.chunk(2) for x in critic(torch.cat([reals, fakes])))))",
        },
        [LOSSES + "loss_and_gradients_of_d_as_in_training"],
    ),
    Mutation(
        "labels of fakes cost D nothing",
        "losses/base.py",
        {" + label_loss(fake, labels, self.label_kind)": ""},
        [ANSWERS + "labels_cost_d_for_reals_and_fakes_and_g_for_fakes"],
    ),
    Mutation(
        "R1 without its half",
        "losses/base.py",
        {
            "return weight / 2 *": "return weight *",
        },
        [ANSWERS + "nonsaturating_of_a_linear_critic"],
    ),
]

WEIGHTS = [
    Mutation(
        "He's constant without its 2",
        "models/layers.py",
        {"gain: float = math.sqrt(2)": "gain: float = 1"},
        [ANSWERS + "he_constants_of_the_paper_networks"],
    ),
    Mutation(
        "He's constant with the fan-out",
        "models/layers.py",
        {"inputs * kernel**2, gain": "outputs * kernel**2, gain"},
        [ANSWERS + "he_constants_of_the_paper_networks"],
    ),
    Mutation(
        "He's constant twice",
        "models/layers.py",
        {"(1.0 if use_wscale else std)": "std"},
        [ANSWERS + "weights_begin_as_n01_and_biases_as_0"],
    ),
    Mutation(
        "He's constant not used",
        "models/layers.py",
        {"self.weight if self.scale == 1 else self.weight * self.scale": "self.weight"},
        [LAYERS + "equalized_convolution"],
    ),
    Mutation(
        "gain of ToRGB like all others",
        "models/progan.py",
        {"channels, 1, gain=1, use_wscale=wscale)": "channels, 1, use_wscale=wscale)"},
        [ANSWERS + "he_constants_of_the_paper_networks"],
    ),
    Mutation(
        "gain of G's first dense like all others",
        "models/progan.py",
        {"math.sqrt(2) / 4, wscale": "math.sqrt(2), wscale"},
        [NETWORKS + "images_of_g"],
    ),
    Mutation(
        "gain of D's last dense like all others",
        "models/progan.py",
        {"1 + label_size, gain=1,": "1 + label_size,"},
        [NETWORKS + "scores_and_logits_of_d"],
    ),
]

LAYER = [
    Mutation(
        "minibatch statistic of neighbours",
        "models/layers.py",
        {".reshape(size, n // size, c, h, w)": ".reshape(n // size, size, c, h, w).transpose(0, 1)"},
        [ANSWERS + "sample_n_belongs_to_group_n_mod_the_number_of_groups"],
    ),
    Mutation(
        "minibatch statistic of the whole batch",
        "models/layers.py",
        {"size = group_divisor(n, group_size)": "size = n"},
        [LAYERS + "minibatch_stddev"],
    ),
    Mutation(
        "minibatch groups that do not divide the batch",
        "config.py",
        {
            "if n % size == 0": "if True",
        },
        [ANSWERS + "group_sizes_divide_the_batch"],
    ),
    Mutation(
        "unbiased minibatch deviation",
        "models/layers.py",
        {".square().mean(0)  #": ".square().sum(0) / (size - 1)  #"},
        [ANSWERS + "minibatch_stddev_of_0_and_2_is_1"],
    ),
    Mutation(
        "fused up-convolution not flipped",
        "models/layers.py",
        {".flip(2, 3)).transpose(0, 1)": ").transpose(0, 1)"},
        [LAYERS + "up_convolution_is_one_function_fused_or_not"],
    ),
    Mutation(
        "fused down-convolution sums instead of averaging",
        "models/layers.py",
        {"_sum_shifts(self.scaled(x.dtype)) * 0.25": "_sum_shifts(self.scaled(x.dtype))"},
        [LAYERS + "fused_down_convolution_has_its_activation_after_the_mean"],
    ),
    Mutation(
        "unfused down-convolution averages before its activation",
        "models/layers.py",
        {"downscale(activation(super().forward(x)))": "activation(downscale(super().forward(x)))"},
        [NETWORKS + "scores_and_logits_of_d"],
    ),
    Mutation(
        "latents normalised before the labels join them",
        "models/progan.py",
        {
            "        if labels is not None:\n            z = torch.cat(": (
                "        if self.normalize_latents:\n            z = pixel_norm(z)\n"
                "        if labels is not None:\n            z = torch.cat("
            ),
            "labels.to(z.dtype)], 1)\n        if self.normalize_latents:\n            z = pixel_norm(z)\n": (
                "labels.to(z.dtype)], 1)\n"
            ),
        },
        [NETWORKS + "images_of_g"],
    ),
    Mutation(
        "pixel norm with the sum",
        "models/layers.py",
        {".square().mean(1, keepdim=True)": ".square().sum(1, keepdim=True)"},
        [LAYERS + "functions_of_the_4d_input"],
    ),
    Mutation(
        "leaky ReLU of slope 0.01",
        "models/layers.py",
        {"def leaky_relu(x: Tensor, leak: float = 0.2)": "def leaky_relu(x: Tensor, leak: float = 0.01)"},
        [LAYERS + "functions_of_the_4d_input"],
    ),
    Mutation(
        "a weight's part of the second derivative lost",
        "models/convolution.py",
        {"dw = _weight_gradient(gradient, v, weight, *ctx.how) if needs[1] else None": "dw = None"},
        [ANSWERS + "first_and_second_derivatives_of_convolve"],
    ),
    Mutation(
        "patches one column apart whatever the stride",
        "models/conv_matmul.py",
        {"(image, row * stride, column * stride, row, column, 1)": "(image, row * stride, column, row, column, 1)"},
        [ANSWERS + "first_and_second_derivatives_of_convolve"],
    ),
    Mutation(
        "patches added in bf16",
        "models/conv_matmul.py",
        {"    cells = cells.to(torch.promote_types(patches.dtype, torch.float32))\n": ""},
        [ANSWERS + "products_of_matrices_in_bf16_are_near_convolutions_in_float64"],
    ),
    Mutation(
        "an input's gradient smaller than the input",
        "models/convolution.py",
        {" and x.shape[2:] == conv_matmul.output_size(\n            gradient, weight, back\n        )": ""},
        [ANSWERS + "first_and_second_derivatives_of_convolve"],
    ),
    Mutation(
        "products of matrices on a GPU too",
        "models/conv_matmul.py",
        {'x.device.type == "cpu" and x.dtype == torch.bfloat16': "x.dtype == torch.bfloat16"},
        [ANSWERS + "where_convolutions_are_products_of_matrices"],
    ),
    Mutation(
        "a weight not turned round in Winograd's input gradient",
        "models/winograd.py",
        {"turned = tuple(row[::-1] for row in G)": "turned = G"},
        [ANSWERS + "first_and_second_derivatives_by_winograds_algorithm"],
    ),
    Mutation(
        "another last point in Winograd's transform",
        "models/winograd.py",
        {"(0, 1, -1, 8, -8, 1))": "(0, 1, -1, 8, -8, 2))"},
        [ANSWERS + "first_and_second_derivatives_by_winograds_algorithm"],
    ),
    Mutation(
        "Winograd's algorithm for images of any size",
        "models/winograd.py",
        {"h % TILE == w % TILE == 0 and ": ""},
        [ANSWERS + "where_convolutions_are_computed_by_winograds_algorithm"],
    ),
    Mutation(
        "Winograd's algorithm never tried",
        "training/preflight/autotune.py",
        {"return quick if evidence.faster else now": "return now"},
        [CHOICES + "winograds_algorithm_is_tried_where_networks_are_wide_and_in_fp32"],
    ),
    Mutation(
        "a run that goes on takes whichever convolutions it likes",
        "run/assemble.py",
        {"            winograd=recorded.winograd and on_cpu,\n": ""},
        [CHOICES + "a_run_goes_on_with_or_without_winograds_algorithm_as_it_was_begun"],
    ),
    Mutation(
        "what depends on images shared within a step",
        "training/accelerate/traced.py",
        {"fixed.issuperset(node.all_input_nodes)": "True"},
        ["compiled.py::test_what_depends_on_weights_alone_is_done_once"],
    ),
    Mutation(
        "what is written to shared within a step",
        "training/accelerate/traced.py",
        {"        if schema.is_mutable or (": "        if False and ("},
        ["compiled.py::test_what_is_written_to_is_not_shared"],
    ),
    Mutation(
        "memory given back after every large tensor",
        "run/assemble.py",
        {"        keep_pages(True)\n": "        pass\n"},
        [CHOICES + "a_run_that_moves_to_a_gpu_leaves_winograds_algorithm_behind"],
    ),
    Mutation(
        "each process decides for itself whether all is decided",
        "run/assemble.py",
        {"json.loads(processes.broadcast(json.dumps(decide and pace is None).encode()))": "decide and pace is None"},
        ["hosts.py::test_what_the_first_host_measured_holds_on_both"],
    ),
    Mutation(
        "Winograd's algorithm on a GPU where a run began with it on a CPU",
        "run/assemble.py",
        {"recorded.winograd and on_cpu": "recorded.winograd"},
        [CHOICES + "a_run_that_moves_to_a_gpu_leaves_winograds_algorithm_behind"],
    ),
    Mutation(
        "Winograd's algorithm where there may be too little memory for it",
        "training/preflight/autotune.py",
        {" or not _roomy(replace(setup, numerics=quick))": ""},
        [CHOICES + "winograds_algorithm_is_left_out_where_it_may_not_find_its_memory"],
    ),
    Mutation(
        "what is written to through a view shared within a step",
        "training/accelerate/traced.py",
        {"(node in found and any(each.alias_info for each in schema.returns))": "False"},
        ["compiled.py::test_what_is_written_to_is_not_shared"],
    ),
    Mutation(
        "what is drawn shared within a step",
        "training/accelerate/traced.py",
        {'torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())': "False"},
        ["compiled.py::test_what_is_drawn_is_drawn_anew"],
    ),
    Mutation(
        "nothing is sent to W&B once a run went back",
        "training/observers/wandb.py",
        {"if not self._failed:": "if self._thread is None:"},
        ["wandb.py::test_a_run_that_goes_back_is_sent_on_unless_that_failed"],
    ),
    Mutation(
        "nothing is compiled",
        "run/assemble.py",
        {"if decide and state.cur_nimg == 0:": "if False:"},
        [CHOICES + "what_is_compiled_is_decided_after_the_first_grid"],
    ),
    Mutation(
        "no grid of what training begins with",
        "training/observers/run_files.py",
        {"        if state.cur_nimg == 0:  # what": "        if False:  # what"},
        [CHOICES + "what_is_compiled_is_decided_after_the_first_grid"],
    ),
    Mutation(
        "gradient of a kernel's sums not the adjoint",
        "models/layers.py",
        {
            "return _Box.apply(gradient, not ctx.padded), None": "return _Box.apply(gradient.flip(2), not ctx.padded), None"
        },
        [ANSWERS + "first_and_second_derivatives_of_weights_that_change_the_resolution"],
    ),
]

OPTIMIZER = [
    Mutation(
        "epsilon where PyTorch has it",
        "training/optimizer.py",
        {
            'self.state[parameter]["step"] = self._far': 'self.state[parameter]["step"] = self._t - finite.float()',
            "lr * self._lr_factor * corrections[1].sqrt() / corrections[0]": "lr",
        },
        [STEPS + "adam"],
    ),
    Mutation(
        "updates with NaN",
        "training/optimizer.py",
        {"self.found_inf = (~finite).float()": "self.found_inf = torch.zeros(())"},
        [TRAINING + "a_gradient_that_is_not_finite_leaves_the_whole_update_out"],
    ),
    Mutation(
        "a scaled loss's gradients are not scaled back",
        "training/optimizer.py",
        {"self.grad_scale = self.scale": "self.grad_scale = None"},
        [TRAINING + "gradients_too_small_for_fp16_reach_the_weights_of_a_scaled_loss"],
    ),
    Mutation(
        "the scale of a loss never falls",
        "training/optimizer.py",
        {"torch.where(finite, RISE, -FALL)": "RISE"},
        [TRAINING + "the_scale_of_a_loss_halves_where_an_update_is_left_out_and_rises_slowly_otherwise"],
    ),
    Mutation(
        "the scale of a loss is not kept in the state",
        "training/state.py",
        {"progress.loss_scales.get(part, FIRST_SCALE)": "FIRST_SCALE"},
        ["training.py::test_16_bits_and_labels_resume_exactly_too"],
    ),
    Mutation(
        "the loss is not scaled",
        "training/step.py",
        {
            "torch.autograd.backward(total(terms, scale)": "torch.autograd.backward(total(terms)",
        },
        ["numerics.py::test_gradients_of_the_fast_modes_are_near_those_in_float64"],
    ),
    Mutation(
        "random numbers wait for the GPU",
        "randomness.py",
        {"send(self._own(rows), self._device)": "self._own(rows).to(self._device)"},
        ["waiting.py::test_an_iteration_asks_nothing_of_the_device"],
    ),
    Mutation(
        "labels wait for the GPU",
        "training/feed.py",
        {"send(torch.from_numpy(rows), self._device)": "torch.from_numpy(rows).to(self._device)"},
        ["waiting.py::test_an_iteration_asks_nothing_of_the_device"],
    ),
    Mutation(
        "whether an update is left out is asked of the GPU",
        "training/optimizer.py",
        {"        self._t += finite\n": "        self._t += bool(finite)\n"},
        ["waiting.py::test_an_iteration_asks_nothing_of_the_device"],
    ),
    Mutation(
        "memory asked for in another precision than the run's",
        "run/__init__.py",
        {
            "    setup, pace = fit_into_memory(setup, ": "    other = dataclasses.replace(setup.numerics, precision='bf16')\n    setup, pace = fit_into_memory(dataclasses.replace(setup, numerics=other), ",
        },
        ["precision.py::test_memory_is_asked_for_in_the_precision_of_the_run"],
    ),
    Mutation(
        "a traced step takes reals as they lie in memory",
        "training/accelerate/traced.py",
        {
            "else _contiguous(batch.reals)": "else batch.reals",
        },
        ["compiled.py::test_what_was_built_is_never_built_again"],
    ),
    Mutation(
        "a graph of other numbers is used",
        "training/accelerate/cuda_graphs.py",
        {"    if not same:\n": "    if False:\n"},
        ["captured.py::test_a_graph_of_other_numbers_is_not_used"],
    ),
    Mutation(
        "a graph reads what lay where it was captured",
        "training/accelerate/cuda_graphs.py",
        {"mine.copy_(given)": "pass"},
        ["captured.py::test_arguments_may_lie_anywhere"],
    ),
    Mutation(
        "no memory for a graph, and training goes on as if there were",
        "training/accelerate/cuda_graphs.py",
        {
            "        if is_out_of_memory(error):\n            raise\n": "",
        },
        ["captured.py::test_that_memory_ran_out_is_said"],
    ),
    Mutation(
        "a stage's step is kept while the next one's is made",
        "training/accelerate/traced.py",
        {
            "            self._executor = None\n            for network": "            for network",
        },
        ["captured.py::test_a_step_is_gone_when_the_next_is_made"],
    ),
    Mutation(
        "gradients in the memory of the last stage's step",
        "training/accelerate/traced.py",
        {"network.zero_grad()": "pass"},
        ["captured.py::test_a_step_is_gone_when_the_next_is_made"],
    ),
    Mutation(
        "a look at all images at once",
        "training/observers/health.py",
        {
            "for part in torch.split(pixels, size)": "for part in [pixels]",
        },
        ["health.py::test_a_look_at_many_images_holds_no_more_of_them_than_a_step"],
    ),
    Mutation(
        "autograd in a thread of its own",
        "devices.py",
        {
            "    torch.autograd.set_multithreading_enabled(False)\n": "",
        },
        ["precision.py::test_whatever_looks_for_a_device_gets_exact_convolutions_that_give_the_same_bits_again"],
    ),
    Mutation(
        "thirty-two of 1024x1024 at once",
        "images.py",
        {"min(most, 32 * 256**2 // resolution**2)": "most"},
        ["images.py::test_large_images_are_made_a_few_at_a_time"],
    ),
    Mutation(
        "rows of several processes wait for the GPU",
        "devices.py",
        {"tensor.contiguous().pin_memory()": "tensor.pin_memory()"},
        ["waiting.py::test_what_is_sent_to_a_gpu_is_pinned_without_gaps"],
    ),
    Mutation(
        "one trial of a precision for all resolutions",
        "training/preflight/autotune.py",
        {"shape.channels, stage.resolution, stage.batch_size, *": "shape.channels, *"},
        ["precision.py::test_a_trial_of_something_else_is_made_again"],
    ),
    Mutation(
        "a trial that is not sure decides",
        "training/preflight/trials.py",
        {"return self.sure and self.gain > 1": "return self.gain > 1"},
        [CHOICES + "where_the_spread_is_larger_than_the_difference_the_safe_one_is_taken"],
    ),
    Mutation(
        "a trial on a busy machine remembered",
        "training/preflight/trials.py",
        {"return self.sure and (self.threads == 0 or self.waited <= BUSY)": "return self.sure"},
        [CHOICES + "threads_are_tried_once_on_a_quiet_machine_and_again_on_a_busy_one"],
    ),
    Mutation(
        "the time left by the last tick alone",
        "training/preflight/estimate.py",
        {"measured + seconds, foreseen + images": "10**6 * seconds, 10**6 * images"},
        [CHOICES + "one_tick_does_not_change_it_much"],
    ),
    Mutation(
        "a run that was asked to take so many minutes is told how to be shorter",
        "training/preflight/estimate.py",
        {"if shorten and seconds > LONG": "if seconds > LONG"},
        [CHOICES + "more_than_an_hour_is_said_with_a_way_to_a_shorter_run"],
    ),
    Mutation(
        "a continued run on as many threads as there are",
        "run/assemble.py",
        {"wished or min(recorded.threads, now.threads)": "now.threads"},
        [CHOICES + "a_run_goes_on_with_its_threads_and_says_once_where_it_cannot"],
    ),
    Mutation(
        "compiling takes no part of the minutes",
        "training/preflight/autotune.py",
        {"max(seconds - building, 0.5 * seconds)": "seconds"},
        [CHOICES + "compiling_is_part_of_the_minutes"],
    ),
    Mutation(
        "a trial before what cannot go on is refused",
        "run/__init__.py",
        {
            "            folder.begin(config, DataFacts.of(dataset), allow_change)\n            refuse_lost": "            refuse_lost",
        },
        ["precision.py::test_what_cannot_go_on_is_refused_before_any_trial"],
    ),
    Mutation(
        "whoever only draws pictures computes in TF32",
        "devices.py",
        {
            "    set_switches(tf32=False)\n    return device": "    return device",
        },
        ["precision.py::test_whatever_looks_for_a_device_gets_exact_convolutions_that_give_the_same_bits_again"],
    ),
    Mutation(
        "optimisers not reset",
        "training/loop.py",
        {"            state.g_optimizer.reset()\n": "", "            state.d_optimizer.reset()\n": ""},
        [TRAINING + "optimizers_are_reset_when_a_stage_begins"],
    ),
    Mutation(
        "reset keeps the moments",
        "training/optimizer.py",
        {"        self.state.clear()\n": ""},
        [STEPS + "adam"],
    ),
    Mutation(
        "reset comes again after going on",
        "training/state.py",
        {"progress.cur_nimg, progress.stage, progress.elapsed": "progress.cur_nimg, None, progress.elapsed"},
        [TRAINING + "a_run_cut_in_two_ends_in_the_same_bits"],
    ),
    Mutation(
        "G learns at D's rate",
        "training/step.py",
        {
            "self.state.g_optimizer, self.stage.g_lr)": "self.state.g_optimizer, self.stage.d_lr)",
        },
        [TRAINING + "steps_go_downhill_at_their_own_learning_rates"],
    ),
    Mutation(
        "D's step trains G",
        "training/step.py",
        {
            "with torch.no_grad():\n        z": "with torch.enable_grad():\n        z",
            ", inputs=list(network.parameters()))": ")",
        },
        [TRAINING + "a_d_step_changes_d_and_leaves_g_alone"],
    ),
]

IMAGE = [
    Mutation(
        "unclipped pixels",
        "images.py",
        {".round().clamp(0, 255)": ".round()"},
        [IMAGES + "pixels_are_rounded_and_clipped"],
    ),
    Mutation(
        "unrounded pixels",
        "images.py",
        {".round().clamp(0, 255)": ".clamp(0, 255)"},
        [IMAGES + "pixels_are_rounded_and_clipped"],
    ),
    Mutation(
        "pixels divided by 256",
        "images.py",
        {"(2 / 255) - 1": "(2 / 256) - 1"},
        [IMAGES + "pixels_to_images_and_back"],
    ),
    Mutation(
        "mirror threshold from the other side",
        "images.py",
        {">= 0.5": "< 0.5"},
        [STEPS + "processed_reals"],
    ),
    Mutation(
        "mirror threshold off by the half itself",
        "images.py",
        {">= 0.5": "> 0.5"},
        [IMAGES + "mirror_flips_left_to_right_from_one_half_on"],
    ),
    Mutation(
        "mirrored upside down",
        "images.py",
        {"images.flip(3)": "images.flip(2)"},
        [IMAGES + "mirror_flips_left_to_right_from_one_half_on"],
    ),
]

ORDER = [
    Mutation(
        "epoch drawn with replacement",
        "data/dataset.py",
        {".permutation(count)": ".integers(count, size=count)"},
        [TRAINING + "an_epoch_shows_each_image_once"],
    ),
    Mutation(
        "every epoch in the same order",
        "data/dataset.py",
        {"default_rng([seed, epoch])": "default_rng([seed])"},
        [TRAINING + "an_epoch_shows_each_image_once"],
    ),
    Mutation(
        "batches begin their own epochs",
        "data/dataset.py",
        {"_permutation(self.count, seed, epoch)": "_permutation(self.count, seed, start)"},
        [TRAINING + "the_order_does_not_depend_on_the_batches"],
    ),
    Mutation(
        "steps of D and G draw the same latents",
        "randomness.py",
        {'"G": 2': '"G": 1'},
        [RANDOMNESS + "rng_is_a_function_of_seed_images_and_stream"],
    ),
    Mutation(
        "nine rounds of Philox",
        "randomness.py",
        {"range(10)": "range(9)"},
        [RANDOMNESS + "philox_gives_the_known_answers_of_random123"],
    ),
    Mutation(
        "sine and cosine swapped in the latents",
        "randomness.py",
        {"radius * np.cos(angle), radius * np.sin(angle)": "radius * np.sin(angle), radius * np.cos(angle)"},
        [RANDOMNESS + "the_latent_of_a_seed_is_what_its_documentation_says"],
    ),
]

PREPARING = [
    Mutation(
        "classes that are numbers in the order of words",
        "data/sources/base.py",
        {"return (float(name) if _is_number(name) else math.inf, name)": "return (0.0, name)"},
        ["data_labels.py::test_folders_that_are_numbers"],
    ),
    Mutation(
        "identifiers taken for classes",
        "data/sources/base.py",
        {"if len(names) > max(_FEW, count // 2):": "if False:"},
        ["data_labels.py::test_as_many_values_as_images_never_become_as_many_columns"],
    ),
    Mutation(
        "any numbers taken for attributes",
        "data/sources/base.py",
        {"if values.min() < 0 or values.max() > 1:": "if False:"},
        ["data_labels.py::test_vectors_outside_0_and_1_are_no_attributes"],
    ),
    Mutation(
        "running numbers taken for names of files",
        "data/sources/labels.py",
        {"for tried in (named_whole, (_stems,), (_folded,)):": "for tried in ((_stems, *named_whole, _folded),):"},
        ["data_labels.py::test_a_running_number_beside_the_files_is_no_name"],
    ),
    Mutation(
        "a README beside folders of classes taken for a picture",
        "data/sources/folder.py",
        {"are_named if any(are_named) else [True] * len(images)": "[True] * len(images)"},
        ["data_labels.py::test_a_file_beside_the_folders_of_classes_takes_none_away"],
    ),
    Mutation(
        "runs among the images read",
        "data/sources/folder.py",
        {"if ours and above:": "if False:"},
        ["data_left_out.py::test_runs_and_datasets_among_the_images_are_left_out"],
    ),
    Mutation(
        "pickles of CIFAR run",
        "data/sources/cifar.py",
        {
            "if (module, name) not in _KNOWN:": "if True:\n            return super().find_class(module, name)\n        if False:"
        },
        ["data_containers.py::test_other_pickles_are_refused"],
    ),
    Mutation(
        "a zip's member unpacked beyond its size",
        "data/sources/archives.py",
        {"_UNZIPPERS[method]().decompress(unpacked, entry.size)": "_UNZIPPERS[method]().decompress(unpacked)"},
        ["data_containers.py::test_no_more_is_unpacked_than_a_zip_lists"],
    ),
    Mutation(
        "an npz that is a bomb unpacked",
        "data/sources/arrays.py",
        {"if info.file_size > most_unpacked(info.compress_size):": "if False:"},
        ["data_sources.py::test_npz_that_is_a_bomb"],
    ),
]

MEASURING = [
    Mutation(
        "distances below 0",
        "metrics/evaluation.py",
        {"value.within(*METRICS[name].limits)": "value"},
        [EVALUATE + "Limits::test_those_of_few_images"],
    ),
    Mutation(
        "pyramid with another border",
        "metrics/swd.py",
        {"torch.cat([x[..., 1:2], x, x[..., -1:]], -1)": "torch.cat([x[..., :1], x, x[..., -1:]], -1)"},
        [MEASURED + "pyramid", MEASURED + "distances"],
    ),
    Mutation(
        "no normalisation of contrast",
        "metrics/swd.py",
        {"chunk.div_(deviation.to(chunk)[:, None])": "pass"},
        [
            MEASURED + "descriptors",
            METRICS + "SlicedWasserstein::test_brightness_and_contrast_of_a_colour_do_not_count",
        ],
    ),
    Mutation(
        "directions of any length",
        "metrics/swd.py",
        {"torch.nn.functional.normalize(torch.from_numpy(normals))": "torch.from_numpy(normals)"},
        [METRICS + "Pieces::test_directions_are_units_pointing_everywhere"],
    ),
    Mutation(
        "reals and fakes cut at the same places",
        "metrics/swd.py",
        {"mix(self._seed, size, int(real))": "mix(self._seed, size, 0)"},
        [METRICS + "Pieces::test_corners_reach_every_place_equally_and_differ"],
    ),
    Mutation(
        "patches that never reach the border",
        "metrics/swd.py",
        {"np.uint64(size - PATCH + 1)": "np.uint64(size - PATCH)"},
        [METRICS + "Pieces::test_corners_reach_every_place_equally_and_differ"],
    ),
    Mutation(
        "patches that depend on the batch",
        "metrics/swd.py",
        {"corners(size, real, self._count[real], len(part))": "corners(size, real, 0, len(part))"},
        [METRICS + "SlicedWasserstein::test_the_result_does_not_depend_on_batches"],
    ),
    Mutation(
        "projections not sorted",
        "metrics/swd.py",
        {"list(threads.map(np.ndarray.sort, np.array_split(rows.numpy(), 4 * count)))": "pass"},
        [METRICS + "Pieces::test_in_one_dimension_it_is_the_mean_shift"],
    ),
    Mutation(
        "large levels lose their patches",
        "metrics/swd.py",
        {"return lambda: kept": "return lambda: kept.flip(2)"},
        [METRICS + "SlicedWasserstein::test_large_levels_are_kept_as_descriptors"],
    ),
    Mutation(
        "interval of a part for that of the whole",
        "metrics/base.py",
        {"float(parts.double().std()) / math.sqrt(len(parts))": "float(parts.double().std())"},
        [METRICS + "Pieces::test_interval_of_eight_parts"],
    ),
    Mutation(
        "brightness at every scale of MS-SSIM",
        "metrics/ms_ssim.py",
        {"ssim if scale == len(WEIGHTS) - 1 else contrast": "ssim"},
        [MEASURED + "similarity"],
    ),
    Mutation(
        "weights of MS-SSIM reversed",
        "metrics/ms_ssim.py",
        {"enumerate(WEIGHTS)": "enumerate(reversed(WEIGHTS))"},
        [MEASURED + "similarity"],
    ),
    Mutation(
        "the window keeps its deviation where it shrinks",
        "metrics/ms_ssim.py",
        {"(size * SIGMA / WINDOW)": "SIGMA"},
        [MEASURED + "similarity_of_other_sizes_and_of_the_same"],
    ),
    Mutation(
        "an odd image out is dropped between batches",
        "metrics/ms_ssim.py",
        {"if self._left is not None:": "if False:"},
        [METRICS + "MultiScaleSsim::test_the_result_does_not_depend_on_batches"],
    ),
    Mutation(
        "the floor compares images with themselves",
        "metrics/evaluation.py",
        {"self._reals(resolution, self.floor_num, self.floor_num)": "self._reals(resolution, 0, self.floor_num)"},
        [EVALUATE + "Yardstick::test_other_reals_measure_as_the_floor"],
    ),
    Mutation(
        "latents of two seeds overlap",
        "metrics/evaluation.py",
        {"seed, seed * self.num": "seed, seed"},
        [EVALUATE + "Yardstick::test_latents_of_two_seeds_are_others_and_those_of_one_the_same"],
    ),
    Mutation(
        "fakes with the labels of other images",
        "metrics/evaluation.py",
        {"self._dataset.labels(indices)": "self._dataset.labels(indices[::-1].copy())"},
        [EVALUATE + "Yardstick::test_labels_are_those_of_the_reals"],
    ),
    Mutation(
        "metrics of the average for those of G",
        "run/observers.py",
        {
            '("G", state.G)': '("G", state.G_ema)',
        },
        [EVALUATE + "DuringTraining::test_lines_and_tensorboard_have_numbers_of_both_and_the_floor"],
    ),
    Mutation(
        "metrics at every tick",
        "run/observers.py",
        {
            "tick.cur_nimg // self._nimg > self._last // self._nimg": "True",
        },
        [EVALUATE + "DuringTraining::test_lines_and_tensorboard_have_numbers_of_both_and_the_floor"],
    ),
    Mutation(
        "metrics that change what they measure",
        "run/observers.py",
        {
            "return torch.cat([to_pixels(images) for images in batches])": "network.dense.bias.data.add_(1e-7)\n            return torch.cat([to_pixels(images) for images in batches])",
        },
        [EVALUATE + "DuringTraining::test_the_training_is_the_same_to_the_last_bit"],
    ),
]

IMPORTING = [
    Mutation(
        "fused kernels not flipped",
        "importers/official.py",
        {"value[::-1, ::-1].transpose(2, 3, 0, 1)": "value.transpose(2, 3, 0, 1)"},
        [IMPORT + "TestImages::test_of_the_authors_file"],
    ),
    Mutation(
        "G instead of its average",
        "importers/official.py",
        {"trained, critic, average = read_networks(path)": "average, critic, trained = read_networks(path)"},
        [IMPORT + "TestImages::test_of_the_authors_file"],
    ),
    Mutation(
        "every D taken for a fused one",
        "importers/official.py",
        {'fused = "8x8/Conv1_down/weight" in network.variables': "fused = True"},
        [IMPORT + "TestTheOtherNetworks::test_scores_in_both_layouts_and_with_labels"],
    ),
    Mutation(
        "a network that grows taken for a finished one",
        "importers/official.py",
        {"return final >> math.floor(level), 1 - level % 1": "return final, 1.0"},
        [IMPORT + "TestImages::test_of_both_layouts_with_labels_and_while_growing"],
    ),
    Mutation(
        "ReLU taken for leaky ReLU",
        "importers/official.py",
        {'"leaky-relu" if _choice(network, "use_leakyrelu") else "relu"': '"leaky-relu"'},
        [IMPORT + "TestImages::test_with_relu"],
    ),
    Mutation(
        "another default width",
        "importers/official.py",
        {'"fmap_base": 8192': '"fmap_base": 4096'},
        [IMPORT + "TestWhatASnapshotSays::test_options_left_out_have_the_authors_defaults"],
    ),
    Mutation(
        "no licence",
        "importers/base.py",
        {"kind, labels, licence, progan": 'kind, labels, "", progan'},
        [IMPORT + "TestWhatASnapshotSays::test_licence_and_labels"],
    ),
    Mutation(
        "any name of a module admitted",
        "importers/pickled.py",
        {'raise Refused(f"it asks for': "return super().find_class(module, name)  #"},
        [
            IMPORT + "test_a_hostile_file_gets_one_line_and_runs_nothing",
            PORTS + "test_a_hostile_file_gets_one_line_and_runs_nothing",
        ],
    ),
    Mutation(
        "functions that a pickle may change",
        "importers/pickled.py",
        {'raise Refused("it changes a function")': "pass"},
        [IMPORT + "test_every_check_speaks_for_itself"],
    ),
    Mutation(
        "any instruction admitted",
        "importers/pickled.py",
        {"if instruction.name not in known:": "if False:"},
        [IMPORT + "test_every_check_speaks_for_itself"],
    ),
    Mutation(
        "weights that are not finite",
        "importers/base.py",
        {"if not value.isfinite().all():": "if False:"},
        [IMPORT + "test_a_hostile_file_gets_one_line_and_runs_nothing"],
    ),
    Mutation(
        "arrays in Fortran order read as C",
        "importers/pickled.py",
        {'order="F" if fortran else "C"': 'order="C"'},
        [IMPORT + "TestImages::test_arrays_in_fortran_order"],
    ),
    Mutation(
        "biases of a port not scaled",
        "importers/ports.py",
        {"bias * math.sqrt(2 / max(weight[:1].numel(), 1)) if scaled_bias else bias": "bias"},
        [PORTS + "test_networks_of_pytorch_gan_zoo"],
    ),
    Mutation(
        "alpha of a port the wrong way round",
        "importers/ports.py",
        {"        1 - fade,": "        fade,"},
        [PORTS + "test_networks_of_pytorch_gan_zoo"],
    ),
    Mutation(
        "a loaded D without its fade",
        "snapshot.py",
        {"given[i : i + size].to(self.device), self.info.alpha": "given[i : i + size].to(self.device)"},
        [LIBRARY + "TestDiscriminator::test_features_are_what_scores_are_made_of"],
    ),
    Mutation(
        "images of the last axis taken as they are",
        "snapshot.py",
        {"given = given.permute(0, 3, 1, 2)": "given = given.reshape(-1, c, r, r)"},
        [LIBRARY + "TestDiscriminator::test_any_container_of_images"],
    ),
    Mutation(
        "handlers of signals in a thread",
        "training/signals.py",
        {"if threading.current_thread() is not threading.main_thread():": "if False:"},
        [LIBRARY + "test_in_threads"],
    ),
    Mutation(
        "a console taken for granted",
        "progress.py",
        {"return sys.stderr is not None and not": "return not"},
        [LIBRARY + "test_without_a_console"],
    ),
    Mutation(
        "tensors that reach beyond their numbers",
        "importers/torch_file.py",
        {"if storage.left < 0 or (count and last >= len(storage.values)):": "if False:"},
        [PORTS + "test_a_hostile_file_gets_one_line_and_runs_nothing"],
    ),
]

FEATURES, SIGNALS = "metrics_features.py::Test", "metrics_signals.py::Test"
COUNTED, INCEPTION = "metrics_modes.py::Test", "metrics_inception.py::Test"

COMPARING = [
    Mutation(
        "a point is its own neighbour",
        "metrics/nearest.py",
        {"torch.arange(rows.start, rows.stop)] = torch.inf": "torch.arange(rows.start, rows.stop)] = 0"},
        [FEATURES + "Neighbours::test_distances_and_radii"],
    ),
    Mutation(
        "rounding between equal points counts",
        "metrics/nearest.py",
        {"squares <= _SAME * norms": "squares < 0"},
        [FEATURES + "Neighbours::test_equal_points_are_at_distance_0"],
    ),
    Mutation(
        "precision and recall swap their balls",
        "metrics/manifold.py",
        {"(squares <= of_fakes).any(1)": "(squares <= of_reals[rows, None]).any(1)"},
        [FEATURES + "PrecisionRecall::test_counted_by_hand"],
    ),
    Mutation(
        "density counts a ball once for all fakes",
        "metrics/manifold.py",
        {"balls += hits.sum(0)": "balls += hits.any(0)"},
        [FEATURES + "DensityCoverage::test_counted_by_hand"],
    ),
    Mutation(
        "jackknife without its factor",
        "metrics/base.py",
        {"(parts - 1) / parts * float": "1 / parts * float"},
        [FEATURES + "Intervals::test_jackknife_of_a_mean_is_the_interval_of_the_mean"],
    ),
    Mutation(
        "no window before the spectrum",
        "metrics/spectrum.py",
        {"torch.hann_window(size, periodic=True, dtype": "torch.ones(size, dtype"},
        [SIGNALS + "Spectrum::test_borders_that_do_not_meet_do_not_leak"],
    ),
    Mutation(
        "amplitude for power",
        "metrics/spectrum.py",
        {"abs().square().mean(1)": "abs().mean(1)"},
        [SIGNALS + "Spectrum::test_white_noise_has_its_variance_at_every_radius"],
    ),
    Mutation(
        "diagonal neighbours do not count",
        "metrics/extremes.py",
        {"if (row, column) != (1, 1)": "if (row + column) % 2 == 1"},
        [SIGNALS + "Extremes::test_a_planted_pattern"],
    ),
    Mutation(
        "clipped before the range is looked at",
        "metrics/evaluation.py",
        {"batch if batch.is_floating_point() else to_images(batch)": "to_images(forms[False])"},
        [EVALUATE + "All::test_images_reach_the_metrics_unclipped_and_pixels_as_they_are"],
    ),
    Mutation(
        "bins counted with the images they were made of",
        "metrics/modes.py",
        {"(reals[1::2], fakes)": "(reals[0::2], fakes)"},
        [COUNTED + "Modes::test_of_one_distribution_a_twentieth_of_the_bins_differ"],
    ),
    Mutation(
        "divergence the other way round",
        "metrics/base.py",
        {"np.log(found[present] / expected[present])": "np.log(expected[present] / found[present])"},
        [COUNTED + "Histograms::test_known_divergences"],
    ),
    Mutation(
        "two colours of stacked digits counted as one",
        "metrics/classes.py",
        {"[100, 10, 1]": "[100, 100, 1]"},
        [COUNTED + "Stacked::test_modes_and_divergence"],
    ),
    Mutation(
        "chance of training images forgotten",
        "metrics/neighbours.py",
        {"(x - chance) / (1 - chance)": "x"},
        [COUNTED + "Neighbours::test_counted_by_hand"],
    ),
    Mutation(
        "the floor of neighbours is of images it compares with",
        "metrics/neighbours.py",
        {"held_out[0::2], held_out[1::2]": "held_out[0::2], held_out[0::2]"},
        [COUNTED + "Neighbours::test_other_images_are_not_memorised_and_copies_are"],
    ),
    Mutation(
        "covariances taken as if they commuted",
        "metrics/fid.py",
        {"torch.linalg.eigvalsh((product + product.mT) / 2)": "product.diagonal()"},
        [INCEPTION + "Frechet::test_covariances_that_do_not_commute"],
    ),
    Mutation(
        "biased kernel distance",
        "metrics/fid.py",
        {"(kernel(x, x).sum() - kernel(x, x).trace()) / (len(x) * (len(x) - 1))": "kernel(x, x).mean()"},
        [INCEPTION + "Kernel::test_unbiased"],
    ),
    Mutation(
        "a file to import that is not there not said first",
        "cli/importing.py",
        {"if not Path(arguments.source).exists():": "if False:"},
        [CLI + "a_mistake_gets_one_line_and_exit_code_2"],
    ),
    Mutation(
        "runs in a folder not named",
        "run_folder.py",
        {"if not newest:": "if True:"},
        [CLI + "a_folder_of_runs_names_them"],
    ),
    Mutation(
        "long differences not cut",
        "run_folder.py",
        {"lines[:most]": "lines"},
        [CLI + "long_differences_are_cut"],
    ),
    Mutation(
        "truncation beyond training not said",
        "cli/base.py",
        {"if abs(value) > 1:": "if abs(value) > 100:"},
        [CLI + "truncation_beyond_training_is_said"],
    ),
    Mutation(
        "an end before the last resolution not said",
        "run/__init__.py",
        {'if (new or "total_kimg" in options) and minutes is None and (short :=': "if False and (short :="},
        [CLI + "an_end_before_the_last_resolution_is_said"],
    ),
    Mutation(
        "datasets of the first version refused",
        "data/dataset.py",
        {"VERSION = 1": "VERSION = 2"},
        [FORMATS + "the_first_version_of_a_dataset"],
    ),
    Mutation(
        "an option renamed",
        "cli/evaluate.py",
        {'"--held-out"': '"--held"'},
        [FORMATS + "no_command_or_option_of_an_earlier_version_is_gone"],
    ),
    Mutation(
        "published statistics read and not used",
        "metrics/fid.py",
        {"(self._published or reals.gaussian(part))": "reals.gaussian(part)", "real and self._published": "False"},
        [INCEPTION + "Statistics::test_those_of_the_data_give_the_same_distance"],
    ),
    Mutation(
        "statistics of another network taken",
        "metrics/fid.py",
        {"network.classes not in (0, PORTED)": "False"},
        [INCEPTION + "Statistics::test_of_another_network_they_are_refused"],
    ),
    Mutation(
        "progress that does not count the real images",
        "metrics/evaluation.py",
        {"total = self.real_num + self.num": "total = self.num"},
        [EVALUATE + "Command::test_it_says_what_it_does_and_counts_every_image"],
    ),
    Mutation(
        "half-pixel centres when resizing for Inception",
        "metrics/features.py",
        {"dtype=torch.float32) * (size / SIZE)": "dtype=torch.float32) * (size / SIZE) + 0.3"},
        [INCEPTION + "Network::test_resized_as_tensorflow_1_did"],
    ),
    Mutation(
        "normalisation folded without its mean",
        "metrics/features.py",
        {"(shift - mean * scale)": "shift"},
        [INCEPTION + "Network::test_normalisation_is_folded_into_the_convolution"],
    ),
]

FAULT = [
    Mutation(
        "no going on with what was prepared",
        "run/assemble.py",
        {"if not prepared or not Manifest.is_in(Path(prepared)):": "if True:"},
        [FAULTS + "a_run_whose_images_are_gone_goes_on_with_those_prepared"],
    ),
    Mutation(
        "files written in their place",
        "files.py",
        {"temporary = path.with_name(path.name + UNFINISHED)": "temporary = path"},
        [FILES + "a_state_half_written_is_not_taken_for_one"],
    ),
    Mutation(
        "leftovers stay",
        "run_folder.py",
        {"            remove_unfinished(self.path)\n": ""},
        [PROCESSES + "a_run_killed_while_it_writes_a_state_leaves_nothing_and_goes_on"],
    ),
    Mutation(
        "half a line stays in a log",
        "files.py",
        {"                file.truncate(size)\n": ""},
        [FILES + "a_log_keeps_what_does_not_fit_and_never_half_a_line"],
    ),
    Mutation(
        "checksums not compared",
        "tensorfile.py",
        {'if "sha256" in metadata:': "if False:"},
        [
            FORMATS + "every_single_flipped_bit_is_noticed_or_does_no_harm",
            FAULTS + "a_flipped_bit_of_a_snapshot_is_one_line",
        ],
    ),
    Mutation(
        "checksum of the numbers only",
        "tensorfile.py",
        {"digest = hashlib.sha256(header)": "digest = hashlib.sha256()"},
        [FORMATS + "every_single_flipped_bit_is_noticed_or_does_no_harm"],
    ),
    Mutation(
        "a damaged state is kept for a good one",
        "training/state.py",
        {"self._damaged.add(path)": "pass"},
        [FAULTS + "a_damaged_state_is_not_kept_in_the_place_of_a_good_one"],
    ),
    Mutation(
        "a newer version is taken for damage",
        "training/state.py",
        {'raise RunError(f"a training state': 'raise ValueError(f"a training state'},
        [FORMATS + "a_state_of_a_newer_version_is_refused_even_if_an_older_one_lies_there"],
    ),
    Mutation(
        "a full disk forgotten at the end",
        "files.py",
        {"self.unwritten[name] = reason": "pass"},
        [FAULTS + "a_disk_that_stays_full_ends_in_one_line_and_the_old_state_goes_on"],
    ),
    Mutation(
        "grids made on a full disk are lost",
        "files.py",
        {"        self._waiting[path] = content\n": "        write_whole(path, *content)\n"},
        [FAULTS + "a_disk_that_is_full_for_a_while_costs_nothing"],
    ),
    Mutation(
        "a folder that vanished is not locked again",
        "training/observers/retrying.py",
        {
            "not self._claim.holds": "False",
        },
        [FAULTS + "a_folder_that_vanishes_and_is_taken_by_another_process_ends_the_run"],
    ),
    Mutation(
        "a lock for many",
        "files.py",
        {"fcntl.LOCK_EX": "fcntl.LOCK_SH"},
        [PROCESSES + "a_second_process_is_refused_and_a_killed_one_is_gone_on_with"],
    ),
    Mutation(
        "any images will do",
        "run_folder.py",
        {"if self.fingerprint == now.fingerprint:": "if True:"},
        [FAULTS + "other_images_are_refused_with_the_difference"],
    ),
    Mutation(
        "any setting may change",
        "run_folder.py",
        {"{name: values[name] for name in (*CHANGEABLE, *INEXACT)}": "values"},
        [FAULTS + "every_option_can_change_or_cannot"],
    ),
    Mutation(
        "observers slow the training down",
        "training/meter.py",
        {"        self._since += seconds\n": ""},
        [FAULTS + "the_time_of_observers_is_not_that_of_training"],
    ),
    Mutation(
        "a snapshot made up for is that of the next moment",
        "schedule.py",
        {"return self.at(cur_nimg - images)": "return self.at(cur_nimg)"},
        [FAULTS + "a_final_snapshot_that_is_missing_is_made_up_for"],
    ),
    Mutation(
        "the second signal is one too many",
        "training/signals.py",
        {"            raise KeyboardInterrupt\n": "            pass\n"},
        [PROCESSES + "the_second_signal_stops_at_once", PROCESSES + "the_handlers_of_before_come_back"],
    ),
]

SEVERAL = [
    Mutation(
        "processes read neighbours instead of whole groups",
        "training/feed.py",
        {
            "indices = indices[self._processes.rank :: self._processes.size]": (
                "indices = np.array_split(indices, self._processes.size)[self._processes.rank]"
            )
        },
        [
            TOGETHER + "several_processes_compute_what_one_would[2]",
            TOGETHER + "processes_read_each_image_of_an_epoch_once[2]",
        ],
    ),
    Mutation(
        "processes draw the same latents",
        "randomness.py",
        {"rows[self._rank :: self._processes]": "rows[: len(rows) // self._processes]"},
        [
            TOGETHER + "several_processes_compute_what_one_would[4]",
            TOGETHER + "random_numbers_are_drawn_for_all_and_shared_out",
        ],
    ),
    Mutation(
        "gradients summed, not averaged",
        "training/parallel/processes.py",
        {"flat.div_(self.size)": "flat"},
        [TOGETHER + "several_processes_compute_what_one_would[2]"],
    ),
    Mutation(
        "G's gradients not averaged",
        "training/step.py",
        {
            '        self._update("G", self.state.g_optimizer, self.stage.g_lr)': '        self.state.count("G", descend(self.state.g_optimizer, self.stage.g_lr))',
        },
        [
            TOGETHER + "several_processes_compute_what_one_would[2]",
            TOGETHER + "all_processes_have_the_same_bits[2]",
        ],
    ),
    Mutation(
        "losses of the first process only",
        "training/loop.py",
        {"together(meter.take(), processes)": "meter.take()"},
        [TOGETHER + "several_processes_compute_what_one_would[2]"],
    ),
    Mutation(
        "a signal stops one process only",
        "training/loop.py",
        {"processes.any(stopped())": "stopped()"},
        [TOGETHER + "a_run_goes_on_with_another_number_of_processes"],
    ),
    Mutation(
        "every process writes states",
        "training/loop.py",
        {
            "if processes.first:\n                writer.write": "if True:\n                writer.write",
        },
        [TOGETHER + "only_the_first_process_writes_states"],
    ),
    Mutation(
        "buffers of networks differ between processes",
        "training/loop.py",
        {"processes.average(state.buffers())": "pass"},
        [TOGETHER + "all_processes_have_the_same_bits[2]"],
    ),
    Mutation(
        "processes started again meet the dead",
        "training/parallel/rendezvous.py",
        {"name = uuid.uuid4().hex\n    waiting": "name = 'meeting'\n    waiting"},
        [TOGETHER + "processes_started_again_meet_under_a_new_name"],
    ),
    Mutation(
        "a host that does not see the run folder trains",
        "training/parallel/rendezvous.py",
        {"while not processes.first and _digest(file) != digest:": "while False:"},
        [TOGETHER + "a_host_that_does_not_see_the_run_folder_is_refused_by_name"],
    ),
    Mutation(
        "a run folder that is another one on a host",
        "training/parallel/rendezvous.py",
        {"and _digest(file) != digest:": "and not _digest(file):"},
        [TOGETHER + "a_host_that_does_not_see_the_run_folder_is_refused_by_name"],
    ),
    Mutation(
        "every process tells of an error",
        "training/parallel/rendezvous.py",
        {'store.add("errors", 1) == 1': 'store.add("errors", 1) >= 1'},
        [TOGETHER + "torchrun_needs_out_and_one_process_says_so"],
    ),
    Mutation(
        "a split group is not noted",
        "training/parallel/sharding.py",
        {
            "config.model.groups(batch) % size": "batch % size",
        },
        [TOGETHER + "a_split_group_is_noted"],
    ),
]

REPORT, COMPARE, SWEEP = "report.py::Test", "compare.py::", "sweep.py::"

REPORTING = [
    Mutation(
        "a speed of next to no time",
        "progress.py",
        {"if seconds < MEASURABLE:": "if seconds <= 0:"},
        ["properties_bars.py::test_speeds"],
    ),
    Mutation(
        "another run at Weights & Biases each time",
        "training/observers/wandb.py",
        {"if not kept.exists():": "if True:"},
        ["wandb.py::test_a_run_that_is_stopped_and_continued_is_one_run_there"],
    ),
    Mutation(
        "normal intervals for few seeds",
        "report/results.py",
        {"half = t_quantile(len(values) - 1) *": "half = 1.96 *"},
        [REPORT + "Statistics::test_mean_of_three"],
    ),
    Mutation(
        "Student's instead of Welch's degrees of freedom",
        "report/results.py",
        {"    half = t_quantile(dof) * error\n": "    dof = len(a) + len(b) - 2\n    half = t_quantile(dof) * error\n"},
        [REPORT + "Statistics::test_welch_of_a_worked_example"],
    ),
    Mutation(
        "p-values not corrected",
        "report/results.py",
        {"p[i] * (len(known) - rank)": "p[i]"},
        [REPORT + "Statistics::test_holm"],
    ),
    Mutation(
        "lower is better",
        "report/results.py",
        {"abs(fmean(values) - floor) for name, values": "fmean(values) for name, values"},
        [REPORT + "Statistics::test_the_better_one_is_nearer_to_the_floor"],
    ),
    Mutation(
        "a young generator has collapsed",
        "report/history.py",
        {"varied = False": "varied = True"},
        [REPORT + "Collapse::test_what_is_no_collapse"],
    ),
    Mutation(
        "collapses never end",
        "report/history.py",
        {"excess > 0.5, excess < 0.25": "excess > 0.5, excess < 0"},
        [REPORT + "Collapse::test_variety_lost_and_found"],
    ),
    Mutation(
        "straight lines between latents",
        "sampling/interpolation.py",
        {"return from_a * a + from_b * b": "return (1 - t) * a + t * b"},
        [REPORT + "Pictures::test_halfway_on_the_sphere"],
    ),
    Mutation(
        "names as HTML",
        "report/html.py",
        {"return html.escape(str(value))": "return str(value)"},
        [REPORT + "Pieces::test_names_are_only_names", COMPARE + "test_page_escapes_names_and_hides_the_key"],
    ),
    Mutation(
        "measuring counts as training",
        "report/history.py",
        {'seconds += (line["cur_nimg"] - before) / line["img_per_sec"]': 'seconds = line["elapsed"]'},
        [REPORT + "Pieces::test_training_time_leaves_out_what_is_not_training"],
    ),
    Mutation(
        "stages of a budget all alike",
        "schedule.py",
        {
            "return _times(config, seconds / cost_of(config.schedule, cost))": (
                "return _times(config, seconds / sum(cost.values()) / 1000)"
            )
        },
        [COMPARE + "TestBudget::test_seconds"],
    ),
    Mutation(
        "operations of tracing count as training's",
        "comparison/runs.py",
        {"                job.executors.of(setup.schedule.at(first))\n": "                pass\n"},
        [COMPARE + "TestBudget::test_operations_are_those_of_training_alone"],
    ),
    Mutation(
        "twins with the same seeds",
        "comparison/plan.py",
        {"_again(name, plans) * config.seeds + k": "k"},
        [COMPARE + "TestContestants::test_twins_have_other_seeds"],
    ),
    Mutation(
        "pairs of seeds not used",
        "report/results.py",
        {"(paired if together else welch)(": "welch("},
        [COMPARE + "TestPairs::test_only_models_with_the_same_networks_and_seeds"],
    ),
    Mutation(
        "the same model under two names",
        "comparison/contestants.py",
        {"if dataclasses.replace(other, preset=made.preset) == made and not again:": "if False:"},
        [COMPARE + "TestContestants::test_mistakes_in_options"],
    ),
    Mutation(
        "the recipe's rates with another loss",
        "presets.py",
        {
            'if found.paper is None or (recipe != "paper" and loss in (None, config.loss.kind)):': 'if recipe != "paper":'
        },
        ["presets.py::test_the_papers_recipe_is_its_loss_and_rates"],
    ),
    Mutation(
        "--recipe on a run that goes on",
        "run/assemble.py",
        {'if options.get("recipe") is not None:': "if False:"},
        ["training.py::test_changed_settings_are_refused_with_the_difference"],
    ),
    Mutation(
        "a preset of a paper built on one with the recipe",
        "presets.py",
        {
            '"--pixel-norm none --normalize-latents false --mbstd-group 1 --loss lsgan",\n        base="mnist32-paper",': '"--pixel-norm none --normalize-latents false --mbstd-group 1 --loss lsgan",\n        base="mnist32",'
        },
        ["presets.py::test_presets_of_papers_keep_every_number"],
    ),
    Mutation(
        "rungs at images instead of seconds",
        "comparison/plan.py",
        {
            "        if left < images * each:\n": "        each = left / fraction / schedule.total_nimg\n        if left < images * each:\n"
        },
        [SWEEP + "TestLadder::test_ends_are_at_the_same_training_time"],
    ),
    Mutation(
        "a sweep drops the better",
        "comparison/sweep.py",
        {"place < keep": "place >= len(order) - keep"},
        [SWEEP + "test_a_rung_keeps_the_nearest_and_says_who_was_near"],
    ),
    Mutation(
        "no class is left out",
        "comparison/controls.py",
        {"rest, name = order[rows[:, most] == 0]": "rest, name = order"},
        [COMPARE + "TestControls::test_they_rank_as_they_must"],
    ),
    Mutation(
        "a run that diverges tried again",
        "comparison/runs.py",
        {"if member.diverged is None and not member.reached": "if not member.reached"},
        [COMPARE + "test_a_run_that_diverges_is_left_out_of_a_comparison"],
    ),
    Mutation(
        "any split taken",
        "comparison/protocol.py",
        {'(made.get("parted_from"), made.get("held_out")) == (dataset.fingerprint, held)': "True"},
        [COMPARE + "test_a_split_left_by_a_call_that_failed_is_not_taken_for_another"],
    ),
    Mutation(
        "metrics looked at after training",
        "comparison/measuring.py",
        {"        self._yardstick.require(resolution)\n": ""},
        [COMPARE + "test_metrics_are_checked_before_anything_is_trained"],
    ),
    Mutation(
        "numbers that do not vary taken for certain",
        "report/results.py",
        {"return value, value, value, 1.0": "return value, value, value, 0.0"},
        [REPORT + "Statistics::test_welch_of_a_worked_example"],
    ),
    Mutation(
        "distances to held-out images only",
        "comparison/measuring.py",
        {"nearest_images(pixels, self._train, k=1)": "nearest_images(pixels, self._held_out, k=1)"},
        [COMPARE + "TestControls::test_copies_of_training_images_are_found_out"],
    ),
    Mutation(
        "distances of pixels summed, not averaged",
        "metrics/nearest.py",
        {".square().mean(2).sqrt()": ".square().sum(2).sqrt()"},
        [REPORT + "Neighbours::test_copies_are_found"],
    ),
]

ALL_LOSSES = [
    Mutation(
        "hinge without a margin",
        "losses/hinge.py",
        {"torch.relu(1 + fake)": "torch.relu(fake)"},
        [OBJECTIVES + "terms_of_a_linear_critic"],
    ),
    Mutation(
        "the saturating loss does not saturate",
        "losses/minimax.py",
        {"return -F.softplus(fake).mean()": "return F.softplus(-fake).mean()"},
        [OBJECTIVES + "terms_of_a_linear_critic"],
    ),
    Mutation(
        "a relativistic D that prefers fakes",
        "losses/relativistic.py",
        {"F.softplus(fake - real)": "F.softplus(real - fake)"},
        [OBJECTIVES + "terms_of_a_linear_critic"],
    ),
    Mutation(
        "R2 on reals",
        "losses/relativistic.py",
        {"self.config.r2_weight, fakes": "self.config.r2_weight, reals"},
        [OBJECTIVES + "r2_is_a_penalty_on_fakes"],
    ),
    Mutation(
        "weights clipped as they are stored",
        "losses/wgan.py",
        {'getattr(module, "scale", 1.0) if name == "weight" else 1.0': "1.0"},
        [OBJECTIVES + "clipping_bounds_weights_as_layers_use_them"],
    ),
    Mutation(
        "weights not clipped",
        "training/step.py",
        {"        self.setup.loss.constrain(state.D)\n": ""},
        [OBJECTIVES + "weights_are_clipped_after_every_d_step"],
    ),
    Mutation(
        "a lazy penalty with its usual weight",
        "training/step.py",
        {"torch.full((), float(every), device": "torch.full((), 1.0, device"},
        [OBJECTIVES + "the_penalty_is_a_step_of_its_own_after_every_kth_with_k_times_its_weight"],
    ),
    Mutation(
        "a lazy penalty at every D step",
        "training/step.py",
        {" or cur_nimg // self.stage.batch_size % every != every - 1": ""},
        [OBJECTIVES + "the_penalty_is_a_step_of_its_own_after_every_kth_with_k_times_its_weight"],
    ),
    Mutation(
        "Adam's constants not adapted to a lazy penalty",
        "training/optimizer.py",
        {"config.beta2**self._lr_factor": "config.beta2"},
        [OBJECTIVES + "adams_constants_are_those_of_appendix_b"],
    ),
    Mutation(
        "a relativistic G without the reals",
        "training/step.py",
        {"reals if self.setup.loss.config.wants_reals else None": "None"},
        [OBJECTIVES + "a_run_grows_traced_with_labels_and_continues_exactly[relativistic]"],
    ),
    Mutation(
        "uniform latents that are normal",
        "models/base.py",
        {'if self.latents == "normal":': "if True:"},
        [OBJECTIVES + "uniform_latents_are_the_normal_ones_through_their_distribution_function"],
    ),
    Mutation(
        "strides without values taken for real ones",
        "training/accelerate/traced.py",
        {'graph = _trace(function, example, "real")': "raise"},
        ["compiled.py::test_where_real_tensors_have_other_strides_the_step_is_traced_on_them"],
    ),
    Mutation(
        "images of another iteration",
        "training/loop.py",
        {"start + i * stage.batch_size, stage.batch_size)": "start, stage.batch_size)"},
        ["training.py::test_16_bits_and_labels_resume_exactly_too[bf16]"],
    ),
]


COMMANDS = [
    Mutation(
        "a dry run does not open its data",
        "run/__init__.py",
        {"open_source(source, Path(scratch), wanted)": "pass"},
        [CLI + "a_dry_run_refuses_the_data_that_training_would_refuse"],
    ),
    Mutation(
        "the help of a preset has the defaults of the classes",
        "cli/train.py",
        {"            value = getattr(part, option.name)\n": "            value = option.default\n"},
        [CLI + "the_help_of_a_preset_has_its_values_and_description"],
    ),
    Mutation(
        "options of one model do not say so",
        "cli/train.py",
        {"doc=mark + option.doc": "doc=option.doc"},
        [CLI + "options_of_one_model_or_loss_say_whose_they_are"],
    ),
    Mutation(
        "options of a command show no default",
        "cli/base.py",
        {'in (None, []) else " (default: %(default)s)"': 'in (None, []) else ""'},
        [CLI + "every_command_shows_its_defaults_and_examples_that_are_right"],
    ),
    Mutation(
        "an unknown flag is refused after what is missing",
        "cli/base.py",
        {'if name.startswith("--") and': 'if name.startswith("---") and'},
        [CLI + "a_mistake_gets_one_line_and_exit_code_2"],
    ),
    Mutation(
        "misspelt names get no suggestion",
        "errors.py",
        {'if close else ""': 'if not close else ""'},
        [CLI + "a_mistyped_metric_names_the_nearest"],
    ),
    Mutation(
        "the package's generator preferred to a path of its name",
        "pretrained/__init__.py",
        {"    if path.exists():\n": "    if False:\n"},
        [PRETRAINED + "a_path_of_that_name_wins_and_is_said"],
    ),
    Mutation(
        "results written into the package",
        "cli/base.py",
        {"if is_inside(source):": "if False:"},
        [PRETRAINED + "interpolate_find_and_share_need_none_either"],
    ),
    Mutation(
        "an option between two words hides the second",
        "cli/base.py",
        {"self._sorted(args) if self.sorts else args": "args"},
        [PRETRAINED + "words_and_options_may_stand_in_any_order"],
    ),
]


AUGMENTING = [
    Mutation(
        "fakes that are not augmented in D's step",
        "training/step.py",
        {
            "reals, fakes = (augment(augmentation, images, batch, draws) for images in (reals, fakes))": (
                "reals = augment(augmentation, reals, batch, draws)"
            )
        },
        [AUGMENT + "every_loss_and_penalty_sees_augmented_images_only"],
    ),
    Mutation(
        "p that falls where it should rise",
        "training/augment.py",
        {"sign - config.ada_target)": "config.ada_target - sign)"},
        [AUGMENT + "p_rises_and_falls_with_the_sign_and_stays_in_bounds"],
    ),
    Mutation(
        "p fixed when a step is traced",
        "training/accelerate/traced.py",
        {"else alpha, p=p)": "else alpha)"},
        [AUGMENT + "a_traced_step_is_the_eager_one_for_every_p_of_one_build"],
    ),
    Mutation(
        "quarter turns the other way",
        "training/augment.py",
        {"torch.rot90(x, -1, (2, 3))": "torch.rot90(x, 1, (2, 3))"},
        [AUGMENT + "ada_turns_by_any_angle"],
    ),
    Mutation(
        "sign of D counted over the local batch",
        "training/augment.py",
        {"(fake if boundary is None": "((real.mean() + fake.mean()) / 2 if boundary is None"},
        [TOGETHER + "two_processes_compute_what_one_would_with_other_losses"],
    ),
    Mutation(
        "networks to begin with read again",
        "run/assemble.py",
        {"processes.first and not resumed:": "processes.first:"},
        [INITIAL + "a_run_killed_before_its_first_tick_needs_no_source"],
    ),
    Mutation(
        "first state of networks to begin with not written",
        "run/assemble.py",
        {"        states.write(state)\n": ""},
        [INITIAL + "a_run_killed_before_its_first_tick_needs_no_source"],
    ),
    Mutation(
        "modes of the program left as they are",
        "devices.py",
        {"modes.enter_context(torch.inference_mode(False))": "pass"},
        [LIBRARY + "test_modes_of_the_program_change_nothing"],
    ),
    Mutation(
        "settings of a preparation not looked at",
        "config.py",
        {"object.__setattr__(self, name, coerce(name, getattr(self, name), kind))": "pass"},
        [LIBRARY + "test_settings_of_a_preparation_that_are_none"],
    ),
    Mutation(
        "added images without a word in the history",
        "run_folder.py",
        {'"data" in changed or any': "any"},
        [INITIAL + "images_may_be_added"],
    ),
]

VALUES = [
    Mutation(
        "a few coloured pictures made grey",
        "data/prepare/decode.py",
        {"if target.all_grey and shows_colour(image):": "if False:"},
        ["data_prepare.py::test_a_set_with_some_colour_keeps_it"],
    ),
    Mutation(
        "a damaged dataset taken as it is",
        "data/prepare/__init__.py",
        {"        Dataset.open(out)\n": "        pass\n"},
        ["data_prepare.py::test_a_prepared_dataset_that_is_damaged_is_made_again"],
    ),
    Mutation(
        "range of values found by the first look alone",
        "data/prepare/survey.py",
        {"return decide(measure(source, config))": "return decide(found)"},
        [RANGES + "the_range_is_looked_for_in_every_picture"],
    ),
    Mutation(
        "a range taken for its tolerance alone",
        "data/prepare/ranges.py",
        {" and (width <= 2 or high >= most * _USED)": ""},
        [RANGES + "the_smallest_usual_range_that_holds_all_values"],
    ),
    Mutation(
        "floats that overshoot 0 … 1 squeezed into -1 … 1",
        "data/prepare/ranges.py",
        {"if within[1] and floats:": "if False:"},
        [RANGES + "floats_that_overshoot_a_range_are_not_squeezed_into_a_wider_one"],
    ),
    Mutation(
        "a picture of more bits among others not measured",
        "data/prepare/__init__.py",
        {"except (Unmeasured, Coloured) as unforeseen:": "except Coloured as unforeseen:"},
        [RANGES + "pictures_of_8_bits_stay_as_they_are_among_others"],
    ),
    Mutation(
        "lower bytes of 16-bit colour forgotten",
        "data/prepare/values.py",
        {"np.uint16(256) + low": "np.uint16(256)"},
        [RANGES + "png_of_16_bits_is_not_cut_to_8"],
    ),
    Mutation(
        "white that is zero taken for black",
        "data/prepare/values.py",
        {"inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO": "inverted = False"},
        [RANGES + "every_number_type_fills_0_to_255"],
    ),
    Mutation(
        "JPEGs with a profile decoded as grey",
        "data/prepare/decode.py",
        {'"RGB" if is_foreign(image) else _mode(image, target)': "_mode(image, target)"},
        [RANGES + "large_jpegs_of_a_profile_that_become_grey"],
    ),
    Mutation(
        "pages sorted as text",
        "data/sources/pictures.py",
        {"page=page) for page in numbers": "page=page) for page in sorted(numbers, key=str)"},
        [RANGES + "all_pages_of_a_tiff_are_pictures"],
    ),
]
FOUND = [
    Mutation(
        "faces in groups that depend on the number of workers",
        "data/prepare/__init__.py",
        {"        size = FEW_IMAGES\n": "        size = 8 * workers\n"},
        [FACES + "same_bytes_for_any_number_of_workers_and_after_an_interruption"],
    ),
    Mutation(
        "kernels of faces not turned",
        "data/prepare/mtcnn.py",
        {"kernel, channels = kernel.transpose(2, 3), layer.out_channels": "channels = layer.out_channels"},
        [FACES + "the_nets_compute_what_another_runtime_does"],
    ),
    Mutation(
        "weights of faces not compared with their hash",
        "data/prepare/mtcnn.py",
        {"if hashlib.sha256(content).hexdigest() != SHA256[file]:": "if not content:"},
        [FACES + "other_weights_are_refused"],
    ),
    Mutation(
        "smallest face first",
        "data/prepare/faces.py",
        {"(-face.size, face.box)": "(face.size, face.box)"},
        [FACES + "faces_come_largest_first_and_only_the_wanted_ones"],
    ),
    Mutation(
        "eyes a little too high",
        "data/prepare/faces.py",
        {"cut_y + side / 2 - top": "cut_y + side / 2 - top + 2"},
        [FACES + "eyes_where_celeba_has_them_give_what_crop_celeba_gives"],
    ),
    Mutation(
        "faces turned the wrong way",
        "data/prepare/faces.py",
        {"x1 - x0 + mouth[1], y1 - y0 - mouth[0]": "x1 - x0 - mouth[1], y1 - y0 + mouth[0]"},
        [FACES + "ffhqs_square_is_that_of_appendix_c"],
    ),
    Mutation(
        "turned faces a little darker",
        "data/prepare/faces.py",
        {"np.rint(np.asarray(band)).clip(0, 255)": "np.asarray(band).clip(0, 255)"},
        [FACES + "a_turned_square_is_cut_out_as_it_lies"],
    ),
    Mutation(
        "one file for any number of faces",
        "data/prepare/output.py",
        {"else sys.maxsize": "else len(source.entries)"},
        [FACES + "more_faces_than_a_file_may_hold"],
    ),
]
EXPORTING = [
    Mutation(
        "a graph with other pixels is written",
        "export/onnx.py",
        {"steps > _STEPS[weights]": "steps > 255"},
        ["onnx.py::test_a_graph_that_makes_other_pictures_is_refused"],
    ),
    Mutation(
        "weights exported without their scale",
        "models/layers.py",
        {"self.weight.mul_(self.scale)": "self.weight.mul_(1.0)"},
        ["onnx.py::test_a_plain_module_makes_the_same_pictures[progan]"],
    ),
    Mutation(
        "other latents in the browser",
        "app/page/latents.js",
        {"j & 1 ? Math.sin(angle) : Math.cos(angle)": "j & 1 ? Math.cos(angle) : Math.sin(angle)"},
        ["web.py::test_latents_in_javascript_are_those_of_python"],
    ),
    Mutation(
        "classes that jump in the browser's morph",
        "app/page/latents.js",
        {"value + t * (end[i] - value)": "t < 1 ? value : end[i]"},
        ["web.py::test_labels_on_the_way_in_javascript_are_those_of_python"],
    ),
    Mutation(
        "pixels of the browser not rounded as ours",
        "app/page/generator.js",
        {"Math.fround(Math.fround(images[(channels": "Math.floor(Math.fround(images[(channels"},
        ["web.py::test_rounding_in_javascript_is_that_of_python"],
    ),
    Mutation(
        "another README replaced by an export",
        "export/card.py",
        {"if MARK not in": "if False and MARK not in"},
        ["card.py::test_what_lies_in_a_folder_is_not_lost"],
    ),
    Mutation(
        "any runtime taken for the pinned one",
        "export/web.py",
        {'hashlib.sha256(found.get(name, b"")).hexdigest() != digest': "name not in found"},
        ["card.py::test_another_runtime_is_refused"],
    ),
    Mutation(
        "exports reported to the runtime's makers",
        "export/onnx.py",
        {'os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")': "pass"},
        ["onnx.py::test_nothing_is_reported_by_the_runtime"],
    ),
    Mutation(
        "an APK that newer phones refuse",
        "export/android.py",
        {'(".arsc", ".png")': '(".png",)'},
        ["android.py::test_the_apk_is_signed_aligned_and_asks_for_nothing"],
    ),
    Mutation(
        "Java of the Android app that its dex was not compiled from",
        "app/android/Pictures.java",
        {"SDK_INT >= 29": "SDK_INT >= 19"},
        ["android.py::test_the_dex_is_what_the_java_was_compiled_to"],
    ),
    Mutation(
        "files of the Android app kept a second time",
        "app/page/device.js",
        {'"caches" in self && !inApp': '"caches" in self'},
        ["android.py::test_nothing_is_kept_twice"],
    ),
]


SETS = [
    Mutation(
        "published set preferred to a path of that name",
        "data/sources/named.py",
        {"if known is None or os.path.exists(source):\n        return None": "if known is None:\n        return None"},
        [NAMED + "a_path_of_that_name_wins_and_it_is_said"],
    ),
    Mutation(
        "landmarks some pixels off",
        "data/prepare/decode.py",
        {"face = face_at(place, whole.size)": "face = face_at(place + 4, whole.size)"},
        [NAMED + "celeba_aligned_anew_by_its_landmarks[celeba-aligned]"],
    ),
    Mutation(
        "landmarks of the other CelebA",
        "data/sources/folder.py",
        {"tables.is_landmark_table(entry.name, aligned)": "tables.is_landmark_table(entry.name)"},
        [NAMED + "celeba_aligned_anew_by_its_landmarks[ffhq-wild]"],
    ),
    Mutation(
        "a missing bucket found after the work",
        "data/sources/remote.py",
        {"if not has_bucket:": "if False:"},
        ["data_containers.py::test_what_is_written_to_object_storage[npz-out.npz]"],
    ),
    Mutation(
        "CelebA cut at the centre",
        "data/sources/named.py",
        {'settings={"crop": "celeba"}': "settings={}"},
        [NAMED + "celeba_as_it_is_published[page]"],
    ),
    Mutation(
        "names of classes lost in an npz",
        "data/sources/arrays.py",
        {"names.ndim != 1 or names.dtype.kind": "True or names.dtype.kind"},
        [WRITTEN + "classes_that_no_image_has_keep_their_names"],
    ),
    Mutation(
        "any name of a class as a folder",
        "data/prepare/writers.py",
        {"if _PLAIN_NAME.fullmatch(name) and": "if"},
        [WRITTEN + "names_of_classes_that_no_folder_can_have"],
    ),
    Mutation(
        "images that look like shared ones counted as alone",
        "data/difference.py",
        {"if of_b or shared:": "if of_b:"},
        [SHOWN + "what_two_datasets_share"],
    ),
    Mutation(
        "a dataset prepared to be compared with one that is missing",
        "cli/data.py",
        {"next(identity(place))": "pass"},
        [SHOWN + "diff_on_the_command_line"],
    ),
]
SUBMITTING = [
    Mutation(
        "a job that is cancelled submits itself again",
        "submit/slurm.py",
        {"trap save TERM": "trap 'again=yes; save' TERM"},
        [SUBMIT + "a_job_that_is_cancelled_saves_and_is_not_submitted_again"],
    ),
    Mutation(
        "a signal before a job's training has started is lost",
        "submit/slurm.py",
        {'[ -z "$signalled" ] || save': ":"},
        [SUBMIT + "a_signal_before_training_has_started_is_not_lost"],
    ),
    Mutation(
        "a word that the job's shell expands",
        "submit/base.py",
        {"shlex.quote(word) for word": "word for word"},
        [SUBMIT + "a_shell_gets_awkward_words_and_expands_only_what_it_is_to"],
    ),
    Mutation(
        "progan from an index",
        "submit/azure.py",
        {"--no-index --no-deps --force-reinstall ./{wheel.name()}": "progan"},
        [SUBMIT + "nothing_of_the_name_is_taken_from_an_index"],
    ),
    Mutation(
        "a dollar that Kubernetes takes for a variable",
        "submit/kubernetes.py",
        {'word.replace("$", "$$")': "word"},
        [SUBMIT + "kubernetes_expands_nothing"],
    ),
]
PICTURES = [
    Mutation(
        "options that do nothing",
        "cli/base.py",
        {"if not (value is None or value is False or value == []):": "if False:"},
        [
            "samples.py::test_options_that_do_not_go_together_are_one_line",
            "finding.py::test_options_that_do_not_go_together_are_one_line",
        ],
    ),
    Mutation(
        "a zip that goes on with a member that is not whole",
        "sampling/archive.py",
        {"whole = len(content) == member.size and zlib.crc32(content) == member.crc": "whole = True"},
        ["samples.py::test_a_zip_does_not_go_on_with_what_it_is_not_to_have[damaged]"],
    ),
    Mutation(
        "a zip that goes on with other seeds",
        "sampling/archive.py",
        {"if not whole or member.name != name.encode():": "if not whole:"},
        ["samples.py::test_a_zip_does_not_go_on_with_what_it_is_not_to_have[seeds]"],
    ),
]
COPIES = "copies.py::test_"
COPYING = [
    Mutation(
        "a state is copied before its lines of stats.jsonl",
        "run/copies.py",
        {"for name in names:\n            self._send(": "for name in reversed(names):\n            self._send("},
        [COPIES + "wherever_sending_ends_a_run_can_go_on_from_what_is_there"],
    ),
    Mutation(
        "all is copied again each time",
        "run/copies.py",
        {"if mark == before:": "if False:"},
        [COPIES + "what_has_not_changed_is_not_sent_again"],
    ),
    Mutation(
        "a deleted run folder empties its copy",
        "run/copies.py",
        {"(gone if newest else ())": "gone"},
        [COPIES + "states_that_are_out_of_date_go_and_what_others_put_there_stays"],
    ),
    Mutation(
        "a run that went back goes on from the state it left",
        "run/copies.py",
        {"_position(newest)] if newest else []": "_position(newest)] if False else []"},
        [COPIES + "states_that_are_out_of_date_go_and_what_others_put_there_stays"],
    ),
    Mutation(
        "the end of a run does not wait for its copy",
        "run/copies.py",
        {"self._thread.join(patience)": "self._thread.join(0)"},
        [COPIES + "at_the_end_all_of_a_run_is_there_and_nothing_else"],
    ),
    Mutation(
        "a copy that fails is not tried again",
        "run/copies.py",
        {"self._wanted.set()\n                continue": "return"},
        [COPIES + "a_place_that_fails_for_a_while_gets_all_in_the_end"],
    ),
    Mutation(
        "a copy that never ends goes on for ever",
        "run/copies.py",
        {"self._given_up.set()": "pass"},
        [COPIES + "a_place_that_never_answers_neither_stops_a_run_nor_its_end[fails]"],
    ),
    Mutation(
        "a run is copied over another one",
        "run/copies.py",
        {"there.begin(*folder.read(), allow_change=True)": "pass"},
        [COPIES + "what_cannot_be_a_copy_of_the_run_is_refused_before_the_first_step"],
    ),
    Mutation(
        "a run is copied over one that is further",
        "run/copies.py",
        {"if reached > here:": "if False:"},
        [COPIES + "what_cannot_be_a_copy_of_the_run_is_refused_before_the_first_step"],
    ),
    Mutation(
        "a run that was fetched in part is taken for one",
        "run/copies.py",
        {"key=lambda name: name == folder.config.name": "key=lambda name: name != folder.config.name"},
        [COPIES + "a_fetch_that_is_cut_off_begins_again"],
    ),
    Mutation(
        "names that lead out of the run folder",
        "run/copies.py",
        {'re.fullmatch(rf"': 're.match(rf"'},
        [COPIES + "names_that_no_run_has_are_not_fetched"],
    ),
    Mutation(
        "a snapshot tells where its run is copied",
        "run/observers.py",
        {'override(config, {"copy_to": None})': "config"},
        [COPIES + "a_copy_may_be_wished_for_later_and_is_no_part_of_what_a_run_is"],
    ),
    Mutation(
        "every run of an array has the same copy",
        "submit/slurm.py",
        {"if work.copy_to is not None:": "if False:"},
        [SUBMIT + "each_run_of_an_array_has_its_copy"],
    ),
    Mutation(
        "a job lacks the packages of its copy",
        "submit/base.py",
        {'(*places, self.copy_to or "")': "places"},
        [SUBMIT + "what_writes_to_object_storage_has_its_packages"],
    ),
]
SERVED, STOPPED = "server.py::test_", "faults.py::test_the_file_that_stops_a_run_does_so_as_ctrl_c_does"
SERVER = [
    Mutation(
        "any host",
        "app/guard.py",
        {"if len(hosts) != 1 or not self._ours(hosts[0]):": "if len(hosts) != 1:"},
        [SERVED + "the_host_is_one_of_this_machine"],
    ),
    Mutation(
        "changes from other sites",
        "app/guard.py",
        {'if len(origins) != 1 or origins[0] not in (f"http://{hosts[0]}", f"https://{hosts[0]}"):': "if not origins:"},
        [SERVED + "what_changes_something_wants_token_and_origin"],
    ),
    Mutation(
        "other machines without a token",
        "app/guard.py",
        {'if not self._alone and not scope["progan.token"]:': "if False:"},
        [SERVED + "beyond_this_machine_nothing_is_shown_without_the_token"],
    ),
    Mutation(
        "bodies without a limit",
        "app/guard.py",
        {"if done > LARGEST_BODY:": "if done < 0:"},
        [SERVED + "addresses_and_bodies_have_a_limit"],
    ),
    Mutation(
        "links out of a run",
        "app/runs.py",
        {"whole is None or not whole.is_relative_to(folder.path.resolve()) or not _is_plain(path)": "whole is None"},
        [SERVED + "nothing_outside_the_runs_is_read"],
    ),
    Mutation(
        "another row of attributes",
        "app/pictures.py",
        {"snapshot.labels([label], [wish.row])": "snapshot.labels([label])"},
        [SERVED + "labels_are_those_of_sample"],
    ),
    Mutation(
        "files beside a snapshot",
        "app/runs.py",
        {"if name != printable(self.snapshot.stem):\n            raise": "if False:\n            raise"},
        [SERVED + "beside_a_snapshot_there_is_nothing"],
    ),
    Mutation(
        "a page for a snapshot that is cut",
        "app/runs.py",
        {"if not whole or": "if"},
        [SERVED + "what_is_no_snapshot_gets_one_line"],
    ),
    Mutation(
        "a film that jumps back to its beginning",
        "app/pictures.py",
        {"yield from reversed(made[1:-1])": "yield from made[1:-1]"},
        [SERVED + "a_film_goes_there_and_back"],
    ),
    Mutation(
        "classes that jump at the end of a morph",
        "app/pictures.py",
        {"labels = labels.lerp(end, wish.t)": "labels = end if wish.t == 1 else labels"},
        [SERVED + "a_morph_goes_from_label_to_label"],
    ),
    Mutation(
        "a request to stop that stays",
        "run/__init__.py",
        {"            folder.stop.unlink()\n": "            pass\n"},
        [STOPPED],
    ),
    Mutation(
        "a request to stop that nobody sees",
        "training/signals.py",
        {"if self.signal is None and self._file.is_file():": "if False:"},
        [STOPPED],
    ),
    Mutation(
        "a run that was deleted is shown for a while",
        "app/runs.py",
        {"if deleted or time": "if time"},
        ["server.py::test_a_run_that_was_deleted_is_not_shown"],
    ),
]

GOING_ON = [
    Mutation(
        "measurements counted from where a run was stopped",
        "run/observers.py",
        {"state.cur_nimg - state.tally.images  #": "state.cur_nimg  #"},
        ["training.py::test_a_run_that_is_stopped_measures_and_writes_at_the_moments_of_one_that_is_not"],
    ),
    Mutation(
        "grids counted from where a run was stopped",
        "training/observers/run_files.py",
        {'forget_later(state.cur_nimg, self._folder, "fakes")': "state.cur_nimg"},
        ["training.py::test_a_run_that_is_stopped_measures_and_writes_at_the_moments_of_one_that_is_not"],
    ),
    Mutation(
        "what a training that is gone made stays",
        "training/observers/run_files.py",
        {"elif cur_nimg > 0:": "elif False:"},
        ["divergence.py::test_what_a_training_that_is_gone_made_is_gone"],
    ),
    Mutation(
        "what a training that is gone made stays in its copy",
        "run/copies.py",
        {
            'return name.startswith("good/") or bool(named and newest and int(named[1]) > _position(newest))': 'return name.startswith("good/")'
        },
        ["copies.py::test_states_that_are_out_of_date_go_and_what_others_put_there_stays"],
    ),
    Mutation(
        "a user's files are taken for a run's",
        "training/observers/run_files.py",
        {'rf"{kind}-(\\d{{9,}})-(\\d+)x\\2\\.(?:png|safetensors)"': 'rf"{kind}-(\\d{{9,}})-.*"'},
        ["divergence.py::test_what_a_training_that_is_gone_made_is_gone"],
    ),
    Mutation(
        "a copy that a run itself sent is another's",
        "run/copies.py",
        {"if name not in sent or sent[name][1] != sizes[name]]": "]"},
        ["divergence.py::test_killed_before_its_copy_knows_that_it_went_back_a_run_goes_on"],
    ),
    Mutation(
        "a copy is forgotten with the preset",
        "run/assemble.py",
        {"changes = {**kept, **changes}": "pass"},
        [COPIES + "a_run_keeps_its_copy_when_the_command_is_repeated_without_it_and_from_elsewhere"],
    ),
    Mutation(
        "a copy where one happens to be",
        "run/assemble.py",
        {'str(Path(changes["copy_to"]).absolute())': 'str(changes["copy_to"])'},
        [COPIES + "a_run_keeps_its_copy_when_the_command_is_repeated_without_it_and_from_elsewhere"],
    ),
    Mutation(
        "a copy around the runs",
        "run/copies.py",
        {"if around or (": "if ("},
        [COPIES + "a_copy_around_the_runs_is_refused_before_there_is_one"],
    ),
    Mutation(
        "a profile ends a run",
        "run/__init__.py",
        {'RetryingObserver("profile", Profile(folder.path, log), job.pending, folder)': "Profile(folder.path, log)"},
        ["profiling.py::test_nobody_reading_the_summary_and_a_disk_that_is_full_end_no_run"],
    ),
    Mutation(
        "the length of a run with --rescue",
        "config.py",
        {" or config.health.rescue": ""},
        [FAULTS + "the_length_of_a_run_that_looks_at_ticks_is_part_of_what_it_learns"],
    ),
    Mutation(
        "a request to stop is lost at the start",
        "training/signals.py",
        {
            "    request = StopRequest(until, file)\n": "    if file is not None:\n        file.unlink(missing_ok=True)\n    request = StopRequest(until, file)\n"
        },
        [FAULTS + "a_request_to_stop_that_comes_while_a_run_starts_is_obeyed"],
    ),
    Mutation(
        "several D steps as one in a plan",
        "training/preflight/estimate.py",
        {"(batch * config.schedule.d_steps)": "batch"},
        [CLI + "iterations_and_space_of_a_plan"],
    ),
    Mutation(
        "minutes planned for a run that has its length",
        "run/__init__.py",
        {"if minutes is not None and begun:": "if False:"},
        [CLI + "a_dry_run_of_a_run_says_what_the_command_would_do"],
    ),
    Mutation(
        "R1 with a root",
        "losses/base.py",
        {"squared_gradient_norms(critic, images).mean()": "gradient_norms(critic, images).square().mean()"},
        [OBJECTIVES + "a_gradient_of_zero_leaves_a_gradient"],
    ),
    Mutation(
        "a loss of another name",
        "options.py",
        {'if getattr(cls, "kind", None) != name:': "if False:"},
        ["plugins.py::test_what_is_wrong_with_a_package_is_one_line"],
    ),
    Mutation(
        "an option that is an argument of train",
        "options.py",
        {'if option.name in (*OF_TRAIN, "recipe", "help", "for"):': "if False:"},
        ["plugins.py::test_options_that_cannot_be_are_refused"],
    ),
    Mutation(
        "a resolution twice",
        "per_resolution.py",
        {
            "return cls(tuple(sorted((int(key), float(number)) for key, number in pairs)))": "value = {int(key): float(number) for key, number in pairs}"
        },
        ["options.py::test_an_entry_holds_from_its_resolution_upwards"],
    ),
]

TOLD = [
    Mutation(
        "a picture that is not there is saved",
        "app/page/main.js",
        {"    if (!whole) throw": "    if (false) throw"},
        [PAGE + "a_picture_that_is_not_there_yet_is_not_saved"],
    ),
    Mutation(
        "pictures that were given up are asked for",
        "app/page/main.js",
        {"const picture = last.then(() => draw(wish, turn));": "const picture = draw(wish, turn);"},
        [PAGE + "what_was_given_up_is_not_asked_for"],
    ),
    Mutation(
        "an address names what every object has",
        "app/page/main.js",
        {"Object.keys(panels).includes(name)": "name in panels"},
        [PAGE + "an_address_names_panels_only"],
    ),
    Mutation(
        "a token among other cookies",
        "app/guard.py",
        {"if name.strip() == self._cookie(scope):": "if name == self._cookie(scope):"},
        [SERVED + "the_token_is_found_among_the_cookies_of_other_programs"],
    ),
    Mutation(
        "pages with training images in spite of --no-reals",
        "app/server.py",
        {
            '        if not desk.reals:\n            raise ConfigError("pages': '        if False:\n            raise ConfigError("pages'
        },
        [SERVED + "training_images_are_shown_only_where_that_is_wanted"],
    ),
    Mutation(
        "measurements that are thinned away",
        "app/server.py",
        {'name == "notices" or name.startswith("metrics/")': "False"},
        [SERVED + "of_many_lines_some_are_sent_the_last_among_them"],
    ),
    Mutation(
        "a number of a process that is another's by now",
        "app/runs.py",
        {"fcntl.LOCK_SH | fcntl.LOCK_NB": "fcntl.LOCK_UN"},
        [SERVED + "a_training_that_goes_on_is_asked_to_stop"],
    ),
    Mutation(
        "losses of labels among the others",
        "report/history.py",
        {"if name not in LABEL_LOSSES]": "]"},
        ["report.py::TestPieces::test_losses_of_labels_have_a_chart_of_their_own"],
    ),
    Mutation(
        "numbers of a command that are not text",
        "cli/base.py",
        {'if str(value).startswith("-") else [name, str(value)]': 'if value.startswith("-") else [name, value]'},
        [SUBMIT + "the_words_of_a_command_line_say_what_it_said"],
    ),
    Mutation(
        "a file of models stays behind",
        "cli/submit.py",
        {"        inner.models = models\n": "        pass\n"},
        [SUBMIT + "models_of_a_file_go_along"],
    ),
    Mutation(
        "torchrun kills what saves",
        "submit/slurm.py",
        {"for line in (patience, config.setup) if line": "for line in (config.setup,) if line"},
        [SUBMIT + "what_torchrun_started_has_as_long_to_save_as_the_job"],
    ),
    Mutation(
        "exit codes that torchrun does not have",
        "submit/kubernetes.py",
        {"if config.processes == 1:": "if True:"},
        [SUBMIT + "only_the_exit_codes_of_progan_itself_end_a_job_of_kubernetes"],
    ),
    Mutation(
        "a bucket without its account",
        "submit/skypilot.py",
        {'2 if protocol in ("https", "cos") else 1': "1"},
        [SUBMIT + "a_bucket_is_mounted_whole"],
    ),
    Mutation(
        "a command that a shell takes apart",
        "files.py",
        {"return shlex.quote(str(path))": "return str(path)"},
        [CLI + "what_is_to_be_copied_is_quoted"],
    ),
    Mutation(
        "a new run for a mistyped one without a word",
        "run/__init__.py",
        {"not folder.exists and bare:": "not folder.exists and False:"},
        [CLI + "a_name_that_may_be_mistyped_is_said_to_be_new"],
    ),
]

# What readers found who saw the code for the first time.
READ = [
    Mutation(
        "states in the order of their names",
        "run/copies.py",
        {", key=_position)": ")"},
        [COPIES + "the_newest_state_is_that_of_most_images_whatever_the_length_of_its_name"],
    ),
    Mutation(
        "a copy of a state under another name taken for one",
        "training/state.py",
        {"if _NAME.fullmatch(path.name))": "if path.name)"},
        ["faults.py::test_a_copy_of_a_state_under_another_name_is_none_of_the_run"],
    ),
    Mutation(
        "a run whose states are gone begins anew",
        "run/__init__.py",
        {"if ticks > 1 or (": "if False and ("},
        ["training.py::test_a_run_whose_states_are_gone_does_not_begin_anew_over_what_it_made"],
    ),
    Mutation(
        "a run that was killed before its first state taken for one whose states are gone",
        "run/__init__.py",
        {"if ticks > 1 or (": "if ticks > 0 or ("},
        ["training.py::test_a_run_killed_in_its_first_tick_begins_anew"],
    ),
    Mutation(
        "a grid however large it is",
        "sampling/pictures.py",
        {"if width * height > MOST_PIXELS:": "if False:"},
        ["samples.py::test_options_that_do_not_go_together_are_one_line"],
    ),
    Mutation(
        "who waits for another process does not say so",
        "files.py",
        {'log_line(f"waiting until {holder}': '(f"waiting until {holder}'},
        ["data_prepare.py::test_who_waits_for_another_process_says_so"],
    ),
    Mutation(
        "a last resolution without images not noticed",
        "schedule.py",
        {"if config.total_kimg is None:": "if False:"},
        ["choices.py::test_a_total_that_ends_before_the_last_resolution_is_said_and_no_preset_has_one"],
    ),
    Mutation(
        "a split that was stopped leaves half of its files",
        "data/split.py",
        {"path.unlink(missing_ok=True)": "pass"},
        ["data_inspection.py::test_a_split_that_was_stopped_leaves_nothing_and_can_be_repeated"],
    ),
    Mutation(
        "links that lead nowhere lost in silence",
        "data/sources/folder.py",
        {"if child.is_symlink() and not os.path.exists(child.path):": "if False:"},
        ["data_sources.py::test_links_that_lead_nowhere_are_counted_and_named"],
    ),
    Mutation(
        "NaN in a column taken for a class",
        "data/sources/labels.py",
        {" or cell != cell)": ")"},
        ["data_containers.py::test_what_is_no_number_in_a_column_of_parquet_is_no_label"],
    ),
    Mutation(
        "labels that are Python objects called damaged",
        "data/sources/arrays.py",
        {'if "object" not in str(error).lower():': "if True:"},
        ["data_sources.py::test_labels_that_are_objects_or_no_numbers"],
    ),
    Mutation(
        "room for labels forgotten",
        "data/prepare/__init__.py",
        {"names = opened.labels.names if opened.labels else ()": "names = ()"},
        ["data_prepare.py::test_labels_take_room_too"],
    ),
    Mutation(
        "statistics of another network refused only once",
        "metrics/fid.py",
        {
            '        network = setting.networks["inception"]\n': '        network = setting.networks["inception"]\n'
            '        setting.networks["statistics"] = _read_statistics(path)\n'
        },
        ["metrics_inception.py::TestStatistics::test_of_another_network_they_are_refused"],
    ),
    Mutation(
        "pictures of NaN measured as black without a word",
        "metrics/evaluation.py",
        {"if broken:": "if False:"},
        ["evaluate.py::TestAll::test_images_of_no_numbers_are_said"],
    ),
    Mutation(
        "pictures of an earlier call taken for one's own",
        "sampling/pictures.py",
        {"if name(i) in there:": "if False:"},
        ["samples.py::test_what_an_earlier_call_left_is_not_taken_for_files_of_an_interrupted_one"],
    ),
    Mutation(
        "a class named twice, once by its number",
        "cli/sample.py",
        {'if info.label_kind == "class":  # by': "if False:  # by"},
        ["samples.py::test_a_class_is_named_once_however_it_is_named"],
    ),
    Mutation(
        "a file taken for that of another resolution",
        "sampling/pictures.py",
        {"if resolution not in (None, found.resolution):": "if False:"},
        ["snapshot.py::test_a_file_is_not_taken_for_that_of_another_resolution"],
    ),
    Mutation(
        "another licence leaves networks out",
        "export/source.py",
        {
            "licensed = copy.copy(snapshot)": "licensed = Snapshot(snapshot.G, snapshot.mean, snapshot.info, snapshot.digest, snapshot.label_rows)"
        },
        ["card.py::test_another_licence_leaves_no_network_out"],
    ),
    Mutation(
        "a favourite that cannot be kept called kept",
        "app/page/favourites.js",
        {"      return false;\n": "      return true;\n"},
        ["web.py::test_a_favourite_that_cannot_be_kept_is_not_called_kept"],
    ),
]

MUTATIONS = [
    *SERVER,
    *PICTURES,
    *ALL_LOSSES,
    *GROWING,
    *SUBMITTING,
    *COPYING,
    *AVERAGE,
    *LOSS,
    *WEIGHTS,
    *LAYER,
    *OPTIMIZER,
    *IMAGE,
    *ORDER,
    *PREPARING,
    *VALUES,
    *FOUND,
    *SETS,
    *MEASURING,
    *COMPARING,
    *IMPORTING,
    *FAULT,
    *SEVERAL,
    *REPORTING,
    *COMMANDS,
    *AUGMENTING,
    *EXPORTING,
    *GOING_ON,
    *TOLD,
    *READ,
]


def node(test: str) -> str:
    """`rescue.py::test_x` as pytest takes it: tests/training/test_rescue.py::test_x."""
    file, _, name = test.partition("::")
    (path,) = (ROOT / "tests").rglob(f"test_{file}")
    return f"{path}::{name}"


def passes(source: Path, tests: list[str], timeout: float | None = TIMEOUT) -> bool:
    """Whether the tests pass with the package in that folder."""
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    nodes = [node(test) for test in tests]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-n",
        "0",
        "-m",
        "",
        "-p",
        "no:cacheprovider",
        *nodes,
    ]  # slow ones too
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return False  # noticed, too
    if done.returncode not in (0, 1):  # 1: a test failed; others: it was not found, or not even begun
        sys.exit(f"pytest could not run {' '.join(nodes)}:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def result(mutation: Mutation) -> str:
    """`killed`, or what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src" / "progan", source / "progan", ignore=shutil.ignore_patterns("__pycache__"))
        path = source / "progan" / mutation.file
        text = path.read_text(encoding="utf-8")
        for old, new in mutation.edits.items():
            if old not in text:
                return f"STALE: {old!r} is not in {mutation.file}"
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
        survivors = [test for test in mutation.tests if passes(source, [test])]
    return f"SURVIVED {' '.join(survivors)}" if survivors else "killed"


def main() -> int:
    """Print a line for each breakage."""
    parser = argparse.ArgumentParser(description="Break the code in one place at a time; the tests must notice.")
    parser.add_argument("words", nargs="*", help="only breakages with one of these in their names")
    parser.add_argument("--jobs", type=int, default=2, help="at the same time")
    args = parser.parse_args()
    chosen = [m for m in MUTATIONS if not args.words or any(word in m.name for word in args.words)]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "src" / "progan", Path(folder) / "progan")
        where = subprocess.run(
            [sys.executable, "-c", "import progan; print(progan.__file__)"],
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
            check=True,
        )
        assert where.stdout.startswith(folder), "the copy would not be the one that is tested"
        if not passes(Path(folder), sorted({test for mutation in chosen for test in mutation.tests}), timeout=None):
            print("The tests are red without any breakage. Mend that first.")
            return 1
    with ThreadPoolExecutor(args.jobs) as pool:
        results = []
        for mutation, outcome in zip(chosen, pool.map(result, chosen), strict=True):
            results.append(outcome)
            print(f"{mutation.name:58} {mutation.file:24} {outcome}", flush=True)
    killed = results.count("killed")
    print(f"{killed} of {len(chosen)} breakages noticed")
    return 0 if killed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
