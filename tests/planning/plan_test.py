"""A plan's numbers against arithmetic by hand, on devices of the host."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import gin
import jax
import numpy as np
import pytest

from hyperjax import main, trees
from hyperjax.evaluation import rank
from hyperjax.memory import sheets
from hyperjax.models import decoding
from hyperjax.planning import (
  answering,
  estimate,
  jobs,
  needed,
  of_run,
  plan,
  targets,
  text,
)

pytestmark = pytest.mark.usefixtures("no_configuration")


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
  """What a plan sets before JAX starts is as it was, after it."""
  for name in ("XLA_FLAGS", "JAX_PLATFORMS"):
    monkeypatch.setenv(name, os.environ[name])
  for name in targets.SET:
    monkeypatch.delenv(name, raising=False)


SIZES = """
t5_layers.T5Config.vocab_size = 64
t5_layers.T5Config.emb_dim = 16
t5_layers.T5Config.num_heads = 2
t5_layers.T5Config.head_dim = 8
t5_layers.T5Config.mlp_dim = 32
t5_layers.T5Config.num_encoder_layers = 1
t5_layers.T5Config.num_decoder_layers = 1
t5_layers.T5Config.dtype = "float32"
t5_layers.T5Config.remat = "none"
backbone/t5_layers.T5Config.param_dtype = "float32"
hypermodel.HyperT5Config.head_hidden_dim = 16
adapters.PrefixSpec.length = 4
"""
LENGTHS = "{'demonstrations': 12, 'inputs': 6, 'targets': 5}"
TRAIN = [
  "plan",
  "--gin_file=adapters/prefix.gin",
  "--gin_file=runs/mtf_sni.gin",
  "--gin_file=models/t5_1_1_tiny.gin",
  f"--gin_bindings={SIZES}",
  f"--gin.TASK_FEATURE_LENGTHS={LENGTHS}",
  "--gin.BATCH_SIZE=16",
  "--gin.TRAIN_STEPS=36",
]
# Of a T5 1.1 of these sizes: embedding and logits 64 x 16 each, relative biases of 32
# buckets and 2 heads in both stacks; a layer's attention has 4 matrices of 16 x 16,
# its feed-forward 3 of 16 x 32; the encoder has 1 attention and 2 norms, the decoder
# 2 and 3, and a norm of 16 ends either.
T5 = 2 * 64 * 16 + 2 * 64 + 3 * 4 * 16 * 16 + 2 * 3 * 16 * 32 + (2 + 3 + 2) * 16
# The same without logits, with 4 slots, a head's hidden layer, and its outputs for keys
# and values at three sites: all of 16, and all but the slots with a bias.
HYPERMODEL = T5 - 64 * 16 + 4 * 16 + (1 + 3 * 2) * (16 * 16 + 16)


def _run(*options):
  run, _ = main.build_parsed(*main.parse([*TRAIN, "--devices=8", *options]))
  return run.run


@pytest.fixture(scope="module")
def host():
  return targets.Target("8 devices", jax.devices()[:8], None, None, True)


@pytest.fixture(scope="module")
def planned(host):
  """The plan of the run on 8 devices, compiled once."""
  gin.clear_config(clear_constants=True)
  made = plan.made(host, [jobs.of_training(_run(), host.devices)])
  gin.clear_config(clear_constants=True)
  return made


def test_parameters_are_those_of_the_models(planned):
  assert planned.frozen == T5
  assert planned.trained == HYPERMODEL


def test_every_device_has_all_of_what_no_axis_splits(planned):
  parts = planned.programs[0].bytes_per_device()
  assert parts["weights_frozen"] == 4 * T5
  trained = 4 * planned.trained
  assert parts["weights_trained"] == parts["gradients"] == trained
  # Adam's two moments, and its count and the schedule's.
  assert parts["moments"] == 2 * trained + 8
  # 2 contexts of 12 tokens; 2 rows of 6, and 3 arrays of 5: all 4 bytes.
  assert parts["batch"] == 2 * 4 * (12 + 6 + 3 * 5)


def test_the_compiler_counts_the_same_arguments(planned):
  parts = planned.programs[0].bytes_per_device()
  kinds = ("weights_trained", "weights_frozen", "moments", "batch")
  by_hand = sum(parts[kind] for kind in kinds)
  # Beside these the number of the step and the key.
  assert by_hand < parts["arguments"] <= by_hand + 64
  assert parts["total"] == (
    parts["arguments"] + parts["outputs"] + parts["temporaries"]
  )


def test_flops_are_shared_out_evenly(planned):
  (only,) = planned.programs
  assert only.content()["flops_per_device"] * 8 == only.compiled.flops


def test_a_gradient_is_summed_once_over_devices_that_share_nothing(planned):
  needed = planned.programs[0].needed
  # A ring sends a sum of n bytes as 2 n (8 - 1) / 8.
  assert needed == {"all-reduce": round(2 * 7 / 8 * 4 * planned.trained)}


def test_a_plan_needs_neither_data_nor_a_checkpoint_nor_a_folder(planned):
  run = _run()
  assert run.model_dir == "unused"
  assert run.initial_checkpoint is None
  assert planned.programs[0].job.batch.demonstrations.shape == (16, 12)


def test_the_bound_is_what_takes_longest(planned):
  only = planned.programs[0]
  slow = sheets.Sheet(
    "slow", False, 1, bfloat16=1.0, float32=10.0, bandwidth=1e9, network=1e9,
    source="", kind="",
  )  # fmt: skip
  found = estimate.of(only.job, only.compiled, slow)
  assert found.bound == "compute"
  assert found.step == only.compiled.flops / 8 / 10.0


def test_hours_are_those_of_all_steps(host):
  """By a chip that takes a second for a step."""
  job = jobs.of_training(_run(), host.devices)
  compiled = plan.compiling.Compiled(
    flops=8 * 10**6, seconds=0.0, takes=plan.compiling.Takes(100, 0, 0)
  )
  sheet = sheets.Sheet("even", False, 100, 1e6, 1e6, 1e6, 1e6, "", "")
  target = targets.Target("8 even", host.devices, sheet, 100, False)
  made = plan.Planned(job, target, compiled, {}, 0, {})
  content = made.content()
  assert content["estimated_step_s"] == 1.0
  assert content["targets_per_second"] == 16
  assert content["tokens_per_second"] == 16 * (12 + 6 + 5)
  assert content["hours"] == 36 / 3600
  assert content["device_hours"] == 8 * 36 / 3600
  assert content["fits"]
  printed = text.of_plan(plan.Plan(target, [made]))
  assert "36 steps            at least 0.01 hours, 0.08 device-hours" in printed


@pytest.mark.parametrize(("memory", "fits"), [(100, True), (99, False)])
def test_it_fits_if_there_is_as_much_as_it_takes(host, memory, fits):
  job = jobs.of_training(_run(), host.devices)
  takes = plan.compiling.Takes(arguments=40, outputs=10, temporaries=50)
  compiled = plan.compiling.Compiled(1, 0.0, takes)
  target = targets.Target("8 devices", host.devices, None, memory, True)
  assert plan.Planned(job, target, compiled, {}, 0, {}).fits is fits


def _answering(*options, **changes):
  """Programs of an evaluation: answers, with demonstrations before, adapters."""
  given = [x for x in TRAIN if "mtf" not in x and "STEPS" not in x]
  given = [x for x in given if "BATCH" not in x]
  given.insert(2, "--gin_file=runs/eval_sni.gin")
  run, _ = main.build_parsed(*main.parse([*given, "--devices=8", *options]))
  evaluations = [dataclasses.replace(x, **changes) for x in run.run.evaluations]
  asked = dataclasses.replace(run.run, evaluations=evaluations)
  return answering.of_evaluation(asked, jax.devices()[:8])


def test_what_lies_beside_a_program_takes_memory_too():
  """An evaluation's hypermodel stays where it is while its T5 answers."""
  answers, in_input, writing = _answering()
  trained = trees.count(answers.held["weights_trained"])
  # Adapters of 16 contexts are kept: 4 positions of 16 at six places.
  assert trees.count(answers.beside) == trained + 16 * 6 * 4 * 16
  assert trees.count(in_input.beside) == trained
  # Far fewer tokens than it may: 32 blocks of 4 rows on each of 8 devices.
  assert answers.targets == in_input.targets == 8 * 32 * 4
  assert trees.count(writing.beside) == T5
  assert in_input.batch.encoder_input_tokens.shape[1] == 12 + 6
  assert writing.tokens == writing.targets * 12
  assert (answers.rows_are, writing.rows_are) == ("targets", "contexts")


@pytest.mark.parametrize("tokens", [100, 2**20])
def test_all_rows_of_a_task_are_planned_as_many_are(tokens):
  """However many these are: a batch holds no more of them."""
  found = [
    _answering(max_targets=most, tokens_per_batch=tokens)[0].targets
    for most in (None, 10**6, 2000)
  ]
  assert found == [found[0]] * 3


def test_as_many_contexts_are_read_as_devices_divide_like_in_the_evaluation():
  """Rounded up: of 12 for 8 devices each reads two."""
  writing = _answering(contexts_per_batch=12)[-1]
  assert writing.targets == 16


def test_a_backbone_that_is_trained_too_lies_beside_nothing_of_its_own():
  joint = "--gin_file=stages/joint.gin"
  answers, in_input, writing = _answering(joint, f"--gin_bindings={SIZES}")
  assert trees.count(answers.held["weights_trained"]) == T5 + HYPERMODEL
  assert trees.count(in_input.beside) == HYPERMODEL
  assert trees.count(writing.beside) == T5


def test_a_program_gathers_the_weights_that_it_reads_and_no_others():
  answers, _, writing = _answering("--gin.MESH={'fsdp': 8}")
  own = SPLIT - TRAINED
  assert needed.collectives(answers) == {"all-gather": own * 4 * 7 // 8}
  assert needed.collectives(writing) == {"all-gather": TRAINED * 4 * 7 // 8}


def test_a_program_sums_what_its_own_layers_make():
  """Where widths are split; each of two devices sends a sum of n bytes as n."""
  answers, _, writing = _answering("--gin.MESH={'tensor': 2}")
  rows, width = answers.targets // 4, 16 * 4
  sums = rows * width * (2 * 6 + 3 * 5)
  assert needed.collectives(answers) == {"all-reduce": sums}
  sums = writing.targets // 4 * width * (2 * 12 + 3 * 4)
  assert needed.collectives(writing) == {"all-reduce": sums}


def test_tokens_of_all_choices_count():
  answers, _, _ = _answering(decoder=rank.Rank())
  assert answers.tokens == answers.targets * (6 + 4 * 5)


def test_beams_and_a_memory_take_the_room_of_rows_like_in_the_evaluation():
  """Of 6 + 3 * 5 tokens and 12 memories four rows a device, without these six."""
  changes = {"decoder": decoding.Beam(num_beams=3), "tokens_per_batch": 140}
  length = f"--gin_bindings={SIZES}adapters.MemorySpec.length = 12"
  memory = "--gin_file=adapters/memory.gin"
  assert _answering(memory, length, **changes)[0].targets == 4 * 8
  assert _answering(**changes)[0].targets == 6 * 8


def test_what_fits_is_said_with_its_parameters(planned):
  printed = text.of_plan(planned)
  assert f"{T5:,} frozen" in printed
  assert printed.splitlines()[-1].startswith("It fits: ")
  assert "estimate" in printed.splitlines()[0]


def test_an_evaluation_that_does_not_fit_says_what_may():
  """Which no search does."""
  (answers, *_), devices = _answering(), jax.devices()[:8]
  target = targets.Target("8 devices", devices, None, 9, True)
  takes = plan.compiling.Takes(10, 0, 0)
  named = [("float32[5,2] dot_general", 40)]
  compiled = plan.compiling.Compiled(1, 0.0, takes, largest=named)
  made = plan.Planned(answers, target, compiled, {}, 0, {})
  said = text.verdict(plan.Plan(target, [made])).splitlines()
  assert said[1].strip() == "3.7e-08 GiB  float32[5,2] dot_general"
  assert said[2].startswith("Fewer EVAL_TOKENS_PER_BATCH")


def test_a_plan_without_a_text_says_what_is_not_known(planned):
  (only,) = planned.programs
  compiled = dataclasses.replace(only.compiled, collectives=None, moved=None)
  sheet = sheets.SHEETS["v5p"]
  target = dataclasses.replace(planned.target, sheet=sheet)
  without = dataclasses.replace(only, compiled=compiled, target=target)
  said = text.of_plan(plan.Plan(target, [without]))
  assert said.count("not known") == 2
  assert "GB sent, needed" in said and "It fits" in said
  content = without.content()
  assert content["bytes_moved_per_device"] is None
  assert content["collective_bytes"]["compiled"] is None
  # 2 n (8 - 1) / 8 bytes of gradients, over the sheet's network.
  sent = 2 * 7 / 8 * 4 * planned.trained
  seconds = content["seconds_by_bound"]
  assert seconds["network"] == pytest.approx(sent / sheet.network)
  assert set(seconds) == {"compute", "network"}


def test_the_command_answers_what_does_not_fit(capsys, monkeypatch, tmp_path):
  """A card too small: exit status 3, and a file that says all that is known."""
  tiny = sheets.Sheet("dot", False, 1000, 1.0, 1.0, 1.0, 1.0, "", "")
  monkeypatch.setitem(sheets.SHEETS, "dot", tiny)
  monkeypatch.setattr(sheets, "GPUS", (*sheets.GPUS, "dot"))
  out = tmp_path / "plan.json"
  given = [*TRAIN, "--gpu=dot", "--devices=8", f"--json={out}"]
  assert main.main(given) == 3
  printed = capsys.readouterr().out
  assert "It does not fit: a training step takes" in printed
  assert "the host's" in printed  # compiler
  *arrays, last = printed.splitlines()[-7:]
  assert all(re.fullmatch(r" +[\d.e-]+ GiB  \w+\[.*\] .+", x) for x in arrays)
  assert last == "--search tries settings that may."
  content = json.loads(out.read_text())
  assert {
    "trained",
    "frozen",
    "bytes_per_device",
    "flops_per_device",
    "collective_bytes",
    "estimated_step_s",
    "bound",
  } <= content.keys()
  assert content["fits"] is False
  assert content["frozen"] == T5 and content["devices"] == 8
  assert content["bytes_per_device"]["available"] == 750  # JAX's share
  sizes = [size for _, size in content["largest"]]
  assert len(sizes) > 6 and sizes == sorted(sizes, reverse=True)
  assert set(content["collective_bytes"]) == {"compiled", "needed"}


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ([], "one of --topology=v5e:4x4, --gpu=h100 or --devices=8 is needed"),
    (["--topology=v9:2x2"], "v4, v5e, v5p, v6e"),
    (["--topology=v5e:4x4x4"], "a slice of v5e has 2 extents"),
    (["--topology=v5e:4x4", "--devices=2"], "--topology stands alone"),
    (["--gpu=h10"], "did you mean h100?"),
    (["--devices=8", "--json=/"], "--json / is a folder"),
    (["--devices=8", "--json=/nowhere/x.json"], "there is no folder /nowhere"),
    (["--devices=8", "--gin.BATCH_SIZE=12"], "does not divide"),
  ],
)
def test_a_target_that_cannot_be_is_a_sentence(capsys, options, message):
  assert main.main([*TRAIN, *options]) == 1
  said = capsys.readouterr().err
  assert message in said and said.count("\n") <= 2


def test_sizes_that_nobody_says_are_asked_for(capsys):
  given = [x for x in TRAIN if "tiny" not in x and "bindings" not in x]
  assert main.main([*given, "--devices=8"]) == 1
  assert "give --gin_file=models/" in capsys.readouterr().err


def test_an_evaluation_of_nothing_says_what_to_give(capsys):
  given = ["plan", "--gin_file=runs/eval_sni.gin", "--devices=8"]
  assert main.main([*given, "--gin_file=models/t5_1_1_tiny.gin"]) == 1
  assert "give --gin.CHECKPOINT_PATH=RUN" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_named(capsys, tmp_path):
  given = ["plan", "--gin_file=runs/eval_sni.gin", "--devices=8"]
  assert main.main([*given, f"--gin.CHECKPOINT_PATH={tmp_path}"]) == 1
  assert f"CHECKPOINT_PATH {tmp_path} is no run" in capsys.readouterr().err


def test_sheets_are_of_chips_that_there_can_be():
  for name, sheet in sheets.SHEETS.items():
    assert sheet.name == name
    assert 8 * 2**30 <= sheet.memory <= 300 * 2**30, name
    # Operations for a byte: a few hundred, on every chip of its time.
    assert 100 <= sheet.bfloat16 / sheet.bandwidth <= 700, name
    assert sheet.network < sheet.bandwidth, name
    assert sheet.source.startswith("https://")
    assert (sheet.dimensions > 0) == sheet.is_tpu
    assert sheet.peak("float32") <= sheet.peak("bfloat16") == sheet.bfloat16


def test_batches_are_those_that_data_would_make(host):
  separate = (
    "--gin.TASK_FEATURE_LENGTHS={'demonstrations': 12, 'inputs': 6, "
    "'targets': 5, 'num_demonstrations': 3}"
  )
  found = jobs.of_training(_run(separate), host.devices).batch
  assert found.demonstrations.shape == (16, 3, 12)
  assert found.encoder_input_tokens.shape == (16, 6)
  assert found.decoder_loss_weights.dtype == np.float32


def _needed(*options):
  job = jobs.of_training(_run(*options), jax.devices()[:8])
  return needed.collectives(job)


# What "fsdp" splits: all but biases, those of heads and of buckets, and norms.
NORMS = (2 + 3 + 2) * 16
TRAINED = HYPERMODEL - 2 * 64 - 7 * 16 - NORMS
SPLIT = TRAINED + T5 - 2 * 64 - NORMS


def test_split_weights_are_gathered_for_each_use_and_gradients_summed_once():
  # Forward and backward; of float32, of which 7 parts are elsewhere.
  assert _needed("--gin.MESH={'fsdp': 8}") == {
    "all-gather": 2 * SPLIT * 4 * 7 // 8,
    "reduce-scatter": TRAINED * 4 * 7 // 8,
    "all-reduce": 2 * (HYPERMODEL - TRAINED) * 4 * 7 // 8,
  }


def test_each_microbatch_gathers_weights_again():
  given = ("--gin.MESH={'fsdp': 8}", "--gin.NUM_MICROBATCHES=2")
  assert _needed(*given)["all-gather"] == 2 * 2 * SPLIT * 4 * 7 // 8
  assert _needed(*given)["reduce-scatter"] == TRAINED * 4 * 7 // 8


def test_rematerialisation_gathers_layers_again_and_nothing_else():
  """Embeddings and heads are computed once."""
  given = ("--gin.MESH={'fsdp': 8}", "--gin.t5_layers.T5Config.remat=full")
  layer = 3 * 4 * 16 * 16 + 2 * 3 * 16 * 32
  assert _needed(*given)["all-gather"] == (2 * SPLIT + 2 * layer) * 4 * 7 // 8


# Of the frozen T5 what "fsdp" splits: 7 parts of float32 are elsewhere.
OWN = (SPLIT - TRAINED) * 4 * 7 // 8
TEACHER = "--gin_file=stages/teacher.gin"
ANSWERS = ("--gin.TEACHER_TARGETS=teacher", "--gin.TEACHER_ANSWER_LENGTH=3")


@pytest.mark.parametrize(
  ("given", "further"),
  [
    ((TEACHER,), 1),
    ((TEACHER, *ANSWERS), 2),
    ((TEACHER, "--gin_file=stages/teacher_run.gin"), 1),
    # Without adapters; with them forward and backward.
    (("--gin_file=stages/do_no_harm.gin",), 1 + 2),
  ],
  ids=str,
)
def test_every_further_pass_of_a_t5_gathers_its_weights_again(given, further):
  once = 2 * SPLIT * 4 * 7 // 8
  found = _needed("--gin.MESH={'fsdp': 8}", *given, f"--gin_bindings={SIZES}")
  assert found["all-gather"] == once + further * OWN
  assert found["reduce-scatter"] == TRAINED * 4 * 7 // 8


@pytest.mark.parametrize(
  ("given", "parts"),
  [
    ((), 1),
    ((TEACHER,), 2),
    (("--gin_file=stages/in_context.gin", f"--gin_bindings={SIZES}"), 2),
  ],
  ids=["written", "taught", "in the input"],
)
def test_demonstrations_before_each_input_count_in_microbatches(given, parts):
  """Of each device two contexts of 12 + 4 * 11 tokens, or of 4 * (12 + 11)."""
  options = (
    "--gin.BATCH_SIZE=64",
    "--gin.sources.FewShotEpisodes.num_targets=4",
  )
  most = "--gin.runs.Train.tokens_per_microbatch=112"
  run = _run(*options, most, *given)
  assert jobs.of_training(run, jax.devices()[:8]).num_microbatches == parts


def test_a_teachers_layers_make_sums_too_of_demonstrations_and_input_together():
  """Forward alone: 4 rows a device of 12 + 6 tokens and 5 targets."""
  tensor = "--gin.MESH={'tensor': 2}"
  without = _needed(tensor)["all-reduce"]
  more = _needed(tensor, TEACHER)["all-reduce"] - without
  assert more == 4 * 16 * 4 * (2 * (12 + 6) + 3 * 5)


def test_an_encoder_that_no_adapter_is_in_has_no_backward_pass():
  """A memory is read by the decoder: an encoder layer is gathered once."""
  given = ("--gin_file=adapters/memory.gin", f"--gin_bindings={SIZES}")
  length = "--gin_bindings=adapters.MemorySpec.length = 12"
  job = jobs.of_training(
    _run("--gin.MESH={'fsdp': 8}", *given, length), jax.devices()[:8]
  )
  alone = dataclasses.replace(job, held={**job.held, "weights_trained": {}})
  layer = 4 * 16 * 16 + 3 * 16 * 32
  assert needed.collectives(alone) == {
    "all-gather": 2 * OWN - layer * 4 * 7 // 8
  }


def test_what_is_before_an_input_is_read_by_the_t5_that_learns_in_context():
  """It makes sums of 12 + 6 tokens and 5 targets, forward and backward."""
  given = ("--gin.MESH={'tensor': 2}", f"--gin_bindings={SIZES}")
  without = _needed("--gin_file=stages/full_finetuning.gin", *given)
  found = _needed("--gin_file=stages/in_context.gin", *given)
  assert found["all-reduce"] - without["all-reduce"] == 2 * 4 * 16 * 4 * 2 * 12


def test_layers_split_over_widths_sum_what_they_make():
  found = _needed("--gin.MESH={'tensor': 2}")
  # 4 devices with the same weights sum halves of gradients; of what is not split by
  # width (norms, slots, the hidden layer's input) the whole. Each of 2 sends a sum of
  # n bytes as n; 4 rows a device, 2 sums an encoder layer and 3 a decoder's, forward
  # and backward.
  sums = 2 * 4 * 16 * 4 * ((2 * 12 + 3 * 4) + (2 * 6 + 3 * 5))
  assert found["all-reduce"] > sums
  assert set(found) == {"all-reduce"}


@pytest.mark.parametrize(
  ("name", "rows", "tokens"),
  [
    ("mtf_sni+full_finetuning", 256, 256 * (1024 + 128)),  # reads none either
    ("hyperpretrain_c4", 256, 256 * (354 + 32 + 128)),
    ("mtf_p3", 256, 256 * (1024 + 1024 + 256)),
    ("peft_sni", 224, 224 * (1024 + 128)),  # which reads no demonstrations
    ("pretrain_c4", 256, 256 * 512),
  ],
)
def test_a_documented_run_is_planned_at_its_own_sizes(name, rows, tokens):
  name, *stages = name.split("+")
  given = ["plan", "--gin_file=adapters/lora.gin"]
  given.append(f"--gin_file=runs/{name}.gin")
  given += [f"--gin_file=stages/{stage}.gin" for stage in stages]
  given += ["--gin_file=models/t5_1_1_tiny.gin", "--devices=8"]
  run, _ = main.build_parsed(*main.parse(given))
  (job,) = of_run.programs(run.run, jax.devices()[:8])
  assert (job.targets, job.tokens) == (rows, tokens)
  assert job.steps == run.run.steps


@pytest.mark.slow
def test_a_v4_is_one_device_as_jax_has_it():
  """Its two cores are joined where programs run."""
  pytest.importorskip("libtpu", reason="needs hyperjax[plan]")
  code = """
from hyperjax.planning import targets
targets.prepare("v4:2x2x1", None, None)
found = targets.of("v4:2x2x1", None, None)
print(found.name, found.memory)
"""
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == f"4 TPU v4 chips, v4:2x2x1 {int(30.75 * 2**30)}"


@pytest.mark.slow
@pytest.mark.parametrize(
  ("topology", "memory", "sizes"),
  [
    ("v5e:2x4", 15.75, ()),
    # Wide enough that rows of embeddings are taken in the background, which JAX
    # cannot read of libtpu 0.0.52.
    (
      "v5p:2x2x2",
      95.7,
      (
        "--gin.t5_layers.T5Config.vocab_size=32128",
        "--gin.t5_layers.T5Config.emb_dim=512",
        "--gin.TASK_FEATURE_LENGTHS="
        "{'demonstrations': 1024, 'inputs': 1024, 'targets': 128}",
      ),
    ),
  ],
)
def test_the_tpu_compiler_plans_a_slice(
  capfd, tmp_path, topology, memory, sizes
):
  pytest.importorskip("libtpu", reason="needs hyperjax[plan]")
  out = tmp_path / "plan.json"
  command = [sys.executable, "-m", "hyperjax.main", *TRAIN]
  given = [f"--topology={topology}", "--gin.MESH={'fsdp': 8}", f"--json={out}"]
  given += sizes
  environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  done = subprocess.run([*command, *given], env=environment, check=False)
  assert done.returncode == 0, capfd.readouterr().err
  content = json.loads(out.read_text())
  assert content["topology"] == topology and content["devices"] == 8
  assert content["mesh"]["fsdp"] == 8
  assert content["compiled_for_target"]
  parts = content["bytes_per_device"]
  assert parts["available"] == pytest.approx(memory * 2**30)
  assert 0 < parts["temporaries"] < parts["total"]
  assert content["bound"] in ("compute", "memory", "network")
  assert content["hours"] == content["estimated_step_s"] * 36 / 3600
  assert sum(content["collective_bytes"]["compiled"].values()) > 0
