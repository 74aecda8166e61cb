"""Every number from outside has a declared rule, and is held to it.

Options are found by walking the parsers, fields by walking the modules that gin
files import: a new one is here by itself, and fails until it is declared.
"""

import argparse
import dataclasses
import importlib
import inspect
import math
import pathlib
import re
import subprocess
import sys
import typing

import gin
import jax
import numpy as np
import pytest

from hyperjax import adapters, checks, main, optimizers, paths, sharding
from hyperjax.artifacts import t5_sizes
from hyperjax.checks import declared
from hyperjax.commands import arguments
from hyperjax.data import sources
from hyperjax.data.store import seqio_store
from hyperjax.models import hypermodel, problems, t5_layers
from hyperjax.tasks import metaicl, superni
from tests import conftest

GIN = conftest.ROOT / "hyperjax" / "gin"
INT32, UINT32 = 2147483647, 4294967295

# ---------------------------------------------------------------- what there is

# What gin files may name, besides what they do: described in the documentation,
# or made of what is asked for on the command line.
FURTHER_MODULES = (
  "hyperjax.batch",
  "hyperjax.commands.inspect",
  "hyperjax.data.episodes",
  "hyperjax.data.pairs",
  "hyperjax.data.store.mixtures",
  "hyperjax.data.vocabulary",
  "hyperjax.models.decoding",
  "hyperjax.serving.answering_t5",
)
# Dataclasses of the same modules that are made by HyperJAX alone.
MADE_HERE = {
  "Answers",
  "Asked",  # the base of FewShotEvaluation
  "Context",
  "Curve",
  "Dataset",
  "Episode",
  "Facts",
  "Leaf",
  "Maker",
}


def _imports():
  """Modules that the package's gin files import; t5x's own need t5x."""
  found = set()
  for path in GIN.rglob("*.gin"):
    for package, name in re.findall(
      r"^from (hyperjax[\w.]*) import (\w+)$", path.read_text(), re.M
    ):
      found.add(f"{package}.{name}")
  return sorted(found - {"hyperjax.interop.t5x_model"})


def _classes():
  """Dataclasses that a gin file can make."""
  found = []
  for name in sorted({*_imports(), *FURTHER_MODULES}):
    module = importlib.import_module(name)
    for kind in vars(module).values():
      is_own = getattr(kind, "__module__", "").startswith(name)
      if (
        isinstance(kind, type)
        and is_own
        and dataclasses.is_dataclass(kind)
        and not kind.__name__.startswith("_")
        and not hasattr(kind, "_flax_dataclass")  # arrays
        and not hasattr(kind, "apply")  # a module of linen
        and kind.__name__ not in MADE_HERE
      ):
        found.append(kind)
  return found


CLASSES = _classes()
FUNCTIONS = (t5_sizes.of_checkpoint, metaicl.mixture_name)


def _has_number(hint):
  return hint in (int, float) or any(map(_has_number, typing.get_args(hint)))


NUMBERS = [
  (kind, name)
  for kind in CLASSES
  for name, hint in typing.get_type_hints(kind).items()
  if _has_number(hint) and name in {x.name for x in dataclasses.fields(kind)}
]


def _parsers(parser, path=()):
  """Every command with its parser, those of commands of commands too."""
  yield path, parser
  for action in parser._actions:
    if isinstance(action, argparse._SubParsersAction):
      for name, inner in action.choices.items():
        yield from _parsers(inner, (*path, name))


OPTIONS = [
  (path, parser, action, action.type.name)
  for path, parser in _parsers(arguments.parser())
  for action in parser._actions
  if isinstance(action.type, checks.Option)
]


def test_every_class_and_function_that_a_gin_file_names_is_looked_at():
  named = set()
  for path in GIN.rglob("*.gin"):
    text = path.read_text()
    named |= set(re.findall(r"@(?:\w+/)*(\w+\.\w+)", text))
    named |= set(re.findall(r"^(?:\w+/)*(\w+\.\w+)\.\w+ =", text, re.M))
  known = {f"{name.rpartition('.')[2]}" for name in _imports()}
  ours = {name for name in named if name.partition(".")[0] in known}
  seen = {kind.__name__ for kind in CLASSES}
  seen |= {function.__name__ for function in FUNCTIONS}
  # t5x's have the names of two of our modules.
  theirs = {"decoding.temperature_sample"}
  assert {x for x in ours - theirs if x.partition(".")[2] not in seen} == set()
  assert len(NUMBERS) > 80


@pytest.mark.parametrize(
  "made",
  [*CLASSES, *FUNCTIONS],
  ids=lambda made: f"{made.__module__}.{made.__qualname__}",
)
def test_every_number_of_a_configured_thing_is_declared(made):
  declared.rules_of(inspect.unwrap(made))


def test_a_number_without_a_declaration_is_an_error_of_whoever_wrote_it():
  @dataclasses.dataclass
  class Forgetful:
    known: checks.Count
    steps: tuple[int, ...] | None = None

    def __post_init__(self):
      checks.fields(self)

  with pytest.raises(TypeError, match=r"Forgetful.steps: int without a rule"):
    Forgetful(1)


def test_what_t5x_configures_takes_no_undeclared_number():
  """Read, since t5x is not there to import it."""
  path = conftest.ROOT / "hyperjax" / "interop" / "t5x_model.py"
  text = path.read_text()
  configured = re.findall(
    r"\n(def hypermodel_only\(.*?\)) ->|(  def __init__\(.*?\n  \)):",
    text,
    re.S,
  )
  signatures = ["".join(found) for found in configured]
  assert len(signatures) == 2
  assert not re.search(r":[^=,]*\b(int|float)\b", "".join(signatures))


@pytest.mark.parametrize(
  "path, parser",
  list(_parsers(arguments.parser())),
  ids=lambda x: " ".join(x) if isinstance(x, tuple) else "",
)
def test_every_option_is_a_text_a_path_or_declared(path, parser):
  for action in parser._actions:
    is_declared = isinstance(action.type, checks.Option)
    others = (None, pathlib.Path, paths.argument)
    assert action.type in others or is_declared, action
    if is_declared:
      assert action.type.name in action.option_strings
      assert action.type.rule.words in action.help
      if action.default is not None:
        action.type.rule.check("its default", action.default)


# ------------------------------------------------------------------- the fields

# One of everything that fields hold. The first that a rule allows is taken.
EXAMPLES = (
  8,
  0.5,
  True,
  "float32",
  "test",
  (1, 2),
  {"inputs": 8, "targets": 8},
  (("test", 0.5),),
)


def _examples():
  t5 = t5_layers.T5Config(8, 8, 8, 8, 8, 8, 8)
  tasks = seqio_store.SeqioTasks("some_task")
  return (
    *EXAMPLES,
    t5,
    tasks,
    sources.FewShotEpisodes(tasks, EXAMPLES[6]),
    sources.TasksSideBySide(tasks, EXAMPLES[6], 8, 8),
    adapters.LoraSpec(8),
    problems.LanguageModel(t5),
    hypermodel.HyperT5Config(t5, 8),
    optimizers.Constant(0.5),
    optimizers.AdamW(optimizers.Constant(0.5)),
    metaicl.MetaICL("/nowhere"),
    superni.SuperNaturalInstructions("/nowhere"),
    (),
  )


def _made(kind, **given):
  """One of a class, all that it needs and that is not given an example."""
  rules = declared.rules_of(kind)
  for field in dataclasses.fields(kind):
    is_needed = (
      field.default is dataclasses.MISSING
      and field.default_factory is dataclasses.MISSING
    )
    if is_needed and field.name not in given:
      rule, _ = rules[field.name]
      given[field.name] = next(x for x in _examples() if rule.allows(x))
  return kind(**given)


def _wrapped(hint, value, names=()):
  """What a field of a type is given, with a value for each number in it.

  Of a mapping the first of its names has it.
  """
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if hint in (int, float):
    return value
  if origin is typing.Union or origin is type(int | None):
    return _wrapped(next(x for x in inner if _has_number(x)), value, names)
  if origin is tuple:
    return tuple(
      _wrapped(x, value) if _has_number(x) else "test" for x in inner
    )
  if issubclass(origin, typing.Mapping):
    own = {name: _wrapped(inner[1], 8) for name in names}
    return own | {names[0]: _wrapped(inner[1], value)}
  # Where there are two, they are the ends of a span.
  return (_wrapped(inner[0], value),) * (2 if inner[0] is int else 1)


def _names(kind, name):
  """Of a field that is a mapping, what it must have, or may."""
  if name == "axes":
    return sharding.MESH_AXES
  if name == "ranks":
    return adapters.lora.PLACES[:2]
  return ("inputs", "targets")


def _number_of(hint):
  """int or float, whichever is in a type."""
  if hint in (int, float):
    return hint
  return next(filter(None, map(_number_of, typing.get_args(hint))), None)


def _refusal(kind, name, value):
  """What is said against a value by the field's own rule; None if nothing is."""
  hint = typing.get_type_hints(kind)[name]
  names = _names(kind, name)
  given = _wrapped(hint, value, names) if value is not None else None
  if isinstance(given, tuple) and "seeds" in name:
    given = given[:1]
  try:
    _made(kind, **{name: given})
  except ValueError as error:
    of_field = re.match(
      rf"{kind.__name__}\.{name}(\['[\w.]+'\])? must be", str(error)
    )
    # Another sentence is about how fields go together.
    return str(error) if of_field else None
  return None


EDGES = (
  math.nan,
  math.inf,
  -math.inf,
  -1,
  0,
  10**9,
  1e9,
  1.5,
  True,
  "x",
  [],
  None,
)


@pytest.mark.parametrize(
  "kind, name", NUMBERS, ids=lambda x: x if isinstance(x, str) else x.__name__
)
def test_a_field_is_held_to_its_rule(kind, name):
  hint = typing.get_type_hints(kind)[name]
  number = _number_of(hint)
  # Compared as texts: 10**9 equals 1e9, and no NaN itself.
  never = ["nan", "inf", "-inf", "True", "'x'", "[]"]
  never += ["1.5", "1000000000.0"] if number is int else []
  for value in EDGES:
    refusal = _refusal(kind, name, value)
    if value is None:
      may_be_none = type(None) in typing.get_args(hint)
      field = kind.__dataclass_fields__[name]
      assert (refusal is None) == (may_be_none or field.default is None)
    elif repr(value) in never:
      assert refusal is not None, f"{value} was taken"
    if refusal is not None:
      assert repr(value) in refusal, refusal
    elif value is not None:
      rule, _ = declared.rules_of(kind)[name]
      assert rule.allows(_wrapped(hint, value, _names(kind, name)))


# ------------------------------------------------------------------- the bounds

# By hand: what is least and most, so that no bound moves unseen. Of whole numbers
# (least, most); of others the interval, without an end where there is none.
BOUNDS = {
  "AdamW.b1": "[0, 1)",
  "AdamW.b2": "[0, 1)",
  "AdamW.clip_norm": "(0,",
  "AdamW.eps": "(0,",
  "AdamW.weight_decay": "[0,",
  "Adafactor.clip_norm": "(0,",
  "Adafactor.clipping_threshold": "(0,",
  "Adafactor.decay_rate": "(0, 1]",
  "Adafactor.min_dim_size_to_factor": (1, INT32),
  "Adafactor.momentum": "[0, 1)",
  "AdapterFineTuning.label_smoothing": "[0, 1)",
  "AdapterFineTuning.num_tasks": (1, INT32),
  "AdapterFineTuning.z_loss": "[0,",
  "Beam.length_penalty": "[-7, 7]",
  "Beam.num_beams": (1, 1024),
  "Buckets.most_shapes": (1, 12),
  "CaclmLengths.after": (0, 65536),
  "CaclmLengths.before": (0, 65536),
  "CaclmLengths.continuation": (1, 65536),
  "CaclmLengths.prompt": (1, 65536),
  "CaclmWindows.min_length": (1, INT32),
  "Constant.value": "[0,",
  "Constant.warmup_steps": (0, INT32),
  "CosineDecay.decay_steps": (1, INT32),
  "CosineDecay.final": "[0,",
  "CosineDecay.peak": "[0,",
  "FewShotEpisodes.num_targets": (1, INT32),
  "FewShotEvaluation.contexts_per_batch": (1, INT32),
  "FewShotEvaluation.draws": (1, INT32),
  "FewShotEvaluation.least_length": (1, 65536),
  "FewShotEvaluation.max_targets": (1, INT32),
  "FewShotEvaluation.max_tasks": (1, INT32),
  "FewShotEvaluation.num_demonstrations": (0, 65536),
  "FewShotEvaluation.rows_per_context": (1, INT32),
  "FewShotEvaluation.seed": (0, UINT32),
  "FewShotEvaluation.tokens_per_batch": (1, INT32),
  "HyperT5Config.body_rank": (1, 16777216),
  "HyperT5Config.decoder_layers": (1, 1024),
  "HyperT5Config.head_hidden_dim": (1, 16777216),
  "HyperT5Config.head_latent_dim": (1, 16777216),
  "Ia3Spec.slots": (1, 65536),
  "Inspect.num": (1, INT32),
  "Inspect.start": (0, 9007199254740992),
  "InverseSquareRoot.flat_steps": (1, INT32),
  "InverseSquareRoot.scale": "[0,",
  "JsonLinesText.extra_ids": (0, 65536),
  "Lengths.demonstrations": (0, 65536),
  "Lengths.inputs": (1, 65536),
  "Lengths.num_demonstrations": (0, 65536),
  "Lengths.targets": (1, 65536),
  "LinearDecay.decay_steps": (1, INT32),
  "LinearDecay.final": "[0,",
  "LinearDecay.peak": "[0,",
  "LinearDecay.warmup_steps": (0, INT32),
  "LoraSpec.alpha": "(0,",
  "LoraSpec.rank": (1, 16777216),
  "Kept.every": (1, INT32),
  "Kept.last": (1, INT32),
  "LossEvaluation.batch_size": (1, INT32),
  "LossEvaluation.num_batches": (1, INT32),
  "LossEvaluation.seed": (0, UINT32),
  "MeshSpec.axes": (1, INT32),
  "Options.batch_size": (1, INT32),
  "Options.max_length": (1, 65536),
  "Options.seed": (0, UINT32),
  "Periods.evaluate": (1, INT32),
  "Periods.log": (1, INT32),
  "Periods.profile": (0, INT32),
  "Periods.save": (1, INT32),
  "Periods.save_minutes": "(0,",
  "PrefixLmWindows.min_length": (2, INT32),
  "PrefixSpec.key_stddev": "[0,",
  "PrefixSpec.length": (1, 65536),
  "PrefixSpec.value_stddev": "[0,",
  "Sampling.temperature": "[1e-06, 1e+06]",
  "Sampling.top_k": (0, INT32),
  "Sampling.top_p": "(0, 1]",
  "SeqioTasks.num_processes": (1, 1048576),
  "T5Config.dropout_rate": "[0, 1)",
  "T5Config.emb_dim": (1, 16777216),
  "T5Config.head_dim": (1, 16777216),
  "T5Config.layer_norm_epsilon": "(0, 1]",
  "T5Config.mlp_dim": (1, 16777216),
  "T5Config.num_decoder_layers": (1, 1024),
  "T5Config.num_encoder_layers": (1, 1024),
  "T5Config.num_heads": (1, 16777216),
  "T5Config.relpos_buckets": (4, 65536),
  "T5Config.relpos_max_distance": (3, 16777216),
  "T5Config.scan_unroll": (1, 1024),
  "T5Config.vocab_size": (1, 16777216),
  "TaskCurves.least_length": (1, 65536),
  "TaskCurves.max_rows": (1, INT32),
  "TaskCurves.rows_per_task": (1, INT32),
  "TaskCurves.tokens_per_batch": (1, INT32),
  "TasksSideBySide.batch_size": (1, INT32),
  "TasksSideBySide.max_rows": (1, INT32),
  "TasksSideBySide.num_demonstrations": (1, INT32),
  "TasksSideBySide.num_tasks": (1, INT32),
  "Train.batch_size": (1, INT32),
  "Train.max_skipped": (1, INT32),
  "Train.num_microbatches": (1, INT32),
  "Train.tokens_per_microbatch": (1, INT32),
  "Train.seed": (0, UINT32),
  "Train.steps": (1, INT32),
}


def _ends(bounds):
  """Values just within and just outside of bounds, by hand or of float32."""
  if isinstance(bounds, tuple):
    least, most = bounds
    return [least, most], [least - 1, most + 1]
  low, high = bounds[1:-1].split(", ") if ", " in bounds else (bounds[1:-1], "")
  inside, outside = [], []
  for end, is_within, outward in (
    (low, bounds[0] == "[", -np.inf),
    (high, bounds[-1] == "]", np.inf),
  ):
    if not end:
      # Beyond it float32 has no numbers.
      inside.append(3.4e38)
      outside.append(3.5e38)
      continue
    end = float(end)
    if is_within:
      inside.append(end)
      outside.append(float(np.nextafter(end, outward)))
    else:
      held = np.float32(end)
      near = np.nextafter(held, np.float32(-outward))
      # What is nearer to 0 than this, devices take for 0.
      inside.append(float(near) if end else float(np.finfo(np.float32).tiny))
      outside += [end, float(np.nextafter(end, -outward))]
  return inside, outside


@pytest.mark.parametrize("path", BOUNDS)
def test_a_field_is_allowed_up_to_its_bounds_and_refused_beyond(path):
  class_name, name = path.split(".")
  (kind,) = (own for own in CLASSES if own.__name__ == class_name)
  inside, outside = _ends(BOUNDS[path])
  for value in inside:
    assert _refusal(kind, name, value) is None
  for value in outside:
    assert _refusal(kind, name, value) is not None, value


def test_float32_itself_decides_where_an_end_is_not_allowed():
  """In float32 0.99999999 is 1, and the moments of an AdamW never move."""
  with pytest.raises(
    ValueError, match=r"got 0.99999999, which is 1 in float32"
  ):
    optimizers.AdamW(optimizers.Constant(0.5), b2=0.99999999)
  with pytest.raises(
    ValueError, match=r"got 1e\+39, which float32 does not hold"
  ):
    optimizers.Constant(1e39)


def test_every_seed_that_is_allowed_has_a_key_of_its_own():
  """The one after the last would have that of 0."""
  keys = [jax.random.key_data(jax.random.key(x)) for x in (0, UINT32, 2**32)]
  assert (keys[0] != keys[1]).any()
  assert (keys[0] == keys[2]).all()


# ------------------------------------------------------------------ the options

# By hand, as for fields.
OPTION_BOUNDS = {
  "adapt --learning_rate": "(0,",
  "adapt --require": "[0, 1]",
  "adapt --steps": (1, INT32),
  "adapter average --weights": "[0,",
  "adapter interpolate --weight": "[0, 1]",
  "adapter save --step": (0, INT32),
  "eval --process_count": (1, 1048576),
  "eval --process_index": (0, INT32),
  "eval --start_timeout": "[1, 86400]",
  "import --relpos_max_distance": (3, 16777216),
  "inspect --lengths": (1, 65536),
  "inspect --num": (1, INT32),
  "inspect --num_demonstrations": (1, 65536),
  "inspect --start": (0, 9007199254740992),
  "plan --devices": (1, 1024),
  "plan --search_minutes": (1, INT32),
  "predict --batch_size": (1, INT32),
  "predict --input_length": (1, 65536),
  "predict --max_length": (1, 65536),
  "predict --num_beams": (1, 1024),
  "predict --seed": (0, UINT32),
  "predict --temperature": "[1e-06, 1e+06]",
  "predict --top_k": (0, INT32),
  "predict --top_p": "(0, 1]",
  "serve --adapters_in_memory": (1, 1048576),
  "serve --batch_size": (1, 1024),
  "serve --max_adapters": (1, INT32),
  "serve --max_body_kib": (1, 1048576),
  "serve --max_queue": (1, INT32),
  "serve --max_requests": (1, INT32),
  "serve --max_wait_ms": "[0, 10000]",
  "serve --port": (0, 65535),
  "serve --timeout": "(0, 86400]",
  "train --process_count": (1, 1048576),
  "train --process_index": (0, INT32),
  "train --profile": (1, INT32),
  "train --start_timeout": "[1, 86400]",
  "train --restarts": (0, 1000),
}


def test_every_declared_option_has_its_bounds_here():
  found = {" ".join((*path, name)) for path, _, _, name in OPTIONS}
  assert found == set(OPTION_BOUNDS)


def _given(capsys, command, text):
  """What an option is taken for, or what is said against it."""
  *path, option = command.split()
  ((parser, action),) = (
    (parser, action)
    for own, parser, action, name in OPTIONS
    if own == tuple(path) and name == option
  )
  others = []
  for other in parser._actions:
    if other.required and other is not action:
      count = other.nargs if isinstance(other.nargs, int) else 1
      others += [*other.option_strings[:1], *["text"] * count]
  if option == "--lengths":
    text = f"inputs={text}"
  if option == "--profile":
    text = f"0:{text}"
  try:
    known, _ = main.parse([*path, *others, f"{option}={text}"])
  except SystemExit as ended:
    assert ended.code == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    return None, shown.splitlines()[-1]
  found = getattr(known, action.dest)
  if option == "--lengths":
    found = found["inputs"]
  if option == "--profile":
    found = found[-1]
  return found[0] if isinstance(found, list | tuple) else found, None


@pytest.mark.parametrize("command", OPTION_BOUNDS)
def test_an_option_is_held_to_its_rule(capsys, command):
  bounds = OPTION_BOUNDS[command]
  option = command.split()[-1]
  never = ["nan", "inf", "-inf", "True", "x", "None", "", "1e999", "9" * 5000]
  never += ["1.5", "1e9"] if isinstance(bounds, tuple) else []
  inside, outside = _ends(bounds)
  for text in [*never, *map(repr, outside)]:
    value, refusal = _given(capsys, command, text)
    assert refusal is not None, f"{text} was taken for {value}"
    sentence = rf"hyperjax .*: error: {option}(\['inputs'\])? must be .*, got "
    assert re.match(sentence, refusal), refusal
    assert text in refusal
  for expected in inside:
    value, refusal = _given(capsys, command, repr(expected))
    assert refusal is None and value == expected


# ------------------------------------------------------------- the command line


def _run(*given):
  done = subprocess.run(
    [sys.executable, "-m", "hyperjax.main", *given],
    capture_output=True,
    text=True,
    cwd=conftest.ROOT,
  )
  assert "Traceback" not in done.stderr
  return done.returncode, done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
  "option, message",
  [
    ("--temperature=nan", "--temperature must be 0, or a finite number from"),
    (
      "--num_beams=100000",
      "--num_beams must be a whole number from 1 to 1,024",
    ),
    (
      "--max_length=100000",
      "--max_length must be a whole number from 1 to 65,536",
    ),
  ],
)
def test_predict_refuses_what_it_cannot_mean_before_anything_is_read(
  option, message
):
  given = ["predict", "--model=/nowhere", "--inputs=/nowhere", "--out=/nowhere"]
  status, shown = _run(*given, option)
  assert status == 2
  assert shown.startswith(f"hyperjax predict: error: {message}")
  assert shown.endswith(f"got {option.partition('=')[2]!r}")


MULTITASK = (
  "train",
  "--gin_file=adapters/prefix.gin",
  "--gin_file=runs/demo_multitask.gin",
  "--gin.MODEL_DIR=/nowhere/run",
  "--gin.INITIAL_CHECKPOINT_PATH=/nowhere/t5",
)


@pytest.mark.usefixtures("no_configuration")
@pytest.mark.parametrize(
  "given, message",
  [
    (
      "--gin.TRAIN_STEPS=-1",
      "LinearDecay.decay_steps must be a whole number from 1 to 2**31 - 1, got "
      "-1 (--gin.TRAIN_STEPS)",
    ),
    (
      "--gin.BATCH_SIZE=0",
      "Train.batch_size must be a whole number from 1 to 2**31 - 1, got 0 "
      "(--gin.BATCH_SIZE)",
    ),
    (
      "--gin.optimizers.LinearDecay.peak=nan",
      "LinearDecay.peak must be a finite number from 0, got 'nan'",
    ),
    (
      "--gin.optimizers.LinearDecay.peak=1e999",
      "LinearDecay.peak must be a finite number from 0, got inf",
    ),
    (
      "--gin.NUM_DEMONSTRATIONS=(4, 0)",
      "FewShotEpisodes.num_demonstrations must be LOW,HIGH with LOW <= HIGH, "
      "each a whole number from 0 to 65,536, or 'any_number', got (4, 0) "
      "(--gin.NUM_DEMONSTRATIONS)",
    ),
    (
      "--gin.TASK_FEATURE_LENGTHS={'inputs': 0, 'targets': 8}",
      "FewShotEpisodes.feature_lengths['inputs'] must be a whole number from 1 "
      "to 65,536, got 0 (--gin.TASK_FEATURE_LENGTHS)",
    ),
    (
      "--gin.TASK_FEATURE_LENGTHS={'inputs': 8, 'targets': 8, 'target': 8}",
      "FewShotEpisodes.feature_lengths has 'target'; it may have inputs, "
      "targets, demonstrations, num_demonstrations (--gin.TASK_FEATURE_LENGTHS)",
    ),
    (
      "--gin.ADAPTERS=prefix",
      "HyperTuning.adapters must be a Spec (ComposedSpec, Ia3Spec, LoraSpec, "
      "MemorySpec, PlacedLoraSpec, PrefixSpec), got "
      "'prefix' (--gin.ADAPTERS)",
    ),
    (
      "--gin.t5_layers.T5Config.dtype=float23",
      "T5Config.dtype must be one of float32, bfloat16, float16, got 'float23'",
    ),
    (
      "--gin_bindings=TRAIN_STEPS = [",
      "--gin_bindings=TRAIN_STEPS = [: a bracket or a quote is not closed",
    ),
    (
      "--gin.DATA=@sources.FewShotEpisodes",
      "Train.data must be a Data of hyperjax.data.sources, got <class "
      "'hyperjax.data.sources.FewShotEpisodes'> (--gin.DATA)",
    ),
    (
      "--gin.seqio_store.SeqioTasks.split=@seqio_store.SeqioTasks()",
      "the gin files do not describe this: something is a part of itself",
    ),
  ],
)
def test_train_refuses_a_setting_in_a_sentence(capsys, given, message):
  assert main.main([*MULTITASK, given]) == 1
  assert capsys.readouterr().err == f"hyperjax train: {message}\n"


@pytest.mark.usefixtures("no_configuration")
@pytest.mark.parametrize(
  "value", ["5", "1.5", "x", "(1,)", "{}", "None", "True", "@nothing()", "[1"]
)
def test_whatever_a_macro_is_set_to_there_is_no_traceback(capsys, value):
  macros = ["ADAPTERS", "DATA", "DEMONSTRATIONS", "EVALUATIONS", "EVAL_PERIOD"]
  macros += ["INSTRUCTION_READERS", "MIXTURE_OR_TASK_NAME", "MESH"]
  macros += ["NUM_DEMONSTRATIONS", "PROBLEM", "RANDOM_SEED", "USE_CACHED_TASKS"]
  for macro in macros:
    gin.clear_config(clear_constants=True)
    try:
      main.build_parsed(*main.parse([*MULTITASK, f"--gin.{macro}={value}"]))
    except main.UsageError as error:
      assert "\n" not in str(error) and value.strip("@()'") in str(error)


@pytest.mark.parametrize("index", ["2", "5"])
def test_a_process_is_one_of_those_that_there_are(capsys, index):
  given = ["--coordinator_address=a:1", "--process_count=2"]
  assert main.main([*MULTITASK, *given, f"--process_index={index}"]) == 1
  assert capsys.readouterr().err.endswith(
    f"--process_index must be below --process_count, which is 2; got {index}\n"
  )
