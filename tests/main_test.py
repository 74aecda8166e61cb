"""The command line: what it builds, and how it refuses."""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import gin
import pytest

from hyperjax import adapters, main, runs
from hyperjax.commands import arguments
from hyperjax.models import problems
from hyperjax.paths import stores
from tests import conftest, runs_example, t5_outline

pytestmark = pytest.mark.usefixtures("no_configuration")

RUNS = sorted(
  path.relative_to(conftest.ROOT / "gin")
  for path in (conftest.ROOT / "gin" / "runs").glob("*.gin")
)


@pytest.fixture(scope="session")
def required(tmp_path_factory):
  """A value for every macro that a run file may ask for."""
  t5 = t5_outline.write(tmp_path_factory.mktemp("t5") / "large", "large")
  return {
    "MODEL_DIR": "/nowhere/run",
    "INITIAL_CHECKPOINT_PATH": str(t5),
    "CHECKPOINT_PATH": str(t5),
    "DATA_DIR": "/nowhere/data",
    "VOCABULARY": "/nowhere/spiece.model",
    "MIXTURE_OR_TASK_NAME": "some_task",
  }


def _given(required, text):
  """Settings of what a run file, with all that it includes, asks for."""
  whole = _all_text(text)
  asked = re.findall(r"^(\w+) = %gin.REQUIRED$", whole, re.M)
  named = re.findall(r"^(\w+) = (?!%gin.REQUIRED)", whole, re.M)
  return [
    f"--gin.{name}={required[name]}" for name in asked if name not in named
  ]


def _command(path):
  text = (conftest.ROOT / "gin" / path).read_text()
  return re.search(r"^#   hyperjax (\w+) ", text, re.M)[1], text


@pytest.mark.parametrize("adapter", ["prefix", "lora", "ia3"])
@pytest.mark.parametrize("path", RUNS, ids=str)
def test_every_run_file_builds_and_its_configuration_reads_back(
  path, adapter, required
):
  command, text = _command(path)
  files = [str(path)]
  if "adapters.PrefixSpec" in text or "adapters/prefix.gin" in text:
    files.insert(0, f"adapters/{adapter}.gin")
  given = _given(required, text)
  run, config = main.build(command, files, overrides=given)
  if isinstance(run, runs.Train):
    assert run.model_dir == "/nowhere/run"
  if command == "eval":
    assert run.problem is None  # its record says it
  elif "adapters" in files[0]:
    assert type(run.problem.adapters).__name__.lower() == f"{adapter}spec"

  gin.clear_config(clear_constants=True)
  gin.parse_config(config)
  kind = getattr(runs, {"eval": "Evaluate"}.get(command, command.capitalize()))
  assert gin.get_configurable(kind)() == run


@pytest.mark.parametrize("kind", ["memory", "both"])
@pytest.mark.parametrize(
  "run",
  [
    "demo_hyperpretrain",
    "demo_multitask",
    "demo_bytes_multitask",
    "study_records_multitask",
    "study_sni_multitask",
    "mtf_sni",
  ],
)
def test_other_kinds_fit_the_lengths_that_runs_read(kind, run, required):
  path = pathlib.Path("runs") / f"{run}.gin"
  _, text = _command(path)
  built, _ = main.build(
    "train",
    [f"adapters/{kind}.gin", str(path)],
    overrides=_given(required, text),
  )
  assert isinstance(built, runs.Train)
  own = built.problem.adapters  # pyright: ignore[reportAttributeAccessIssue]: it is one of hypertuning
  if kind == "memory":
    assert own.length >= built.data.feature_lengths["demonstrations"]
  else:
    assert [type(part) for part in own.parts] == [
      adapters.LoraSpec,
      adapters.PrefixSpec,
    ]


def test_a_memory_shorter_than_what_a_run_reads_is_refused(required):
  path = pathlib.Path("runs/demo_multitask.gin")
  with pytest.raises(main.UsageError, match=r"MemorySpec\.length to 56 or"):
    main.build(
      "train",
      ["adapters/memory.gin", str(path)],
      overrides=[
        *_given(required, _command(path)[1]),
        "--gin.adapters.MemorySpec.length=55",
      ],
    )


@pytest.mark.parametrize("body", ["copy", "shared", "frozen_encoder"])
@pytest.mark.parametrize("head", ["mlp", "factorised", "shared"])
def test_bodies_and_heads_are_files_beside_a_run(body, head):
  """In any order with it, by the names that they have in the configuration."""
  files = [f"hypermodels/{body}.gin", f"heads/{head}.gin"]
  run = "runs/demo_multitask.gin"
  for order in ([*files, run], [run, *files]):
    built, _ = main.build(
      "train",
      ["adapters/lora.gin", *order],
      overrides=[
        "--gin.MODEL_DIR=/nowhere/run",
        "--gin.INITIAL_CHECKPOINT_PATH=/nowhere/t5",
        "--gin.HYPERMODEL_CHECKPOINT=/nowhere/other",
      ],
    )
    assert isinstance(built, runs.Train)
    own = built.problem.hypermodel  # pyright: ignore[reportAttributeAccessIssue]: it is one of hypertuning
    assert (own.body, own.head) == (body, head)
    assert built.hypermodel_checkpoint == "/nowhere/other"
    gin.clear_config(clear_constants=True)


BASELINES = {
  "full_finetuning": (problems.FullFineTuning, False),
  "in_context": (problems.FullFineTuning, True),
  "shared_adapter": (problems.AdapterFineTuning, False),
  "joint": (problems.HyperTuning, True),
}
COMPARED = [
  path
  for path in RUNS
  if path.stem.startswith(("mtf_", "eval_"))
  or (
    path.stem.startswith(("demo_", "study_"))
    and path.stem.endswith(("_multitask", "_eval"))
  )
]


@pytest.mark.parametrize("stage", BASELINES)
@pytest.mark.parametrize("path", COMPARED, ids=str)
def test_every_baseline_is_a_stage_after_a_run_of_hypertuning(
  path, stage, required
):
  """Data, trainer and evaluation stay; what is frozen may be in bfloat16.

  An evaluation takes what its run trained; a stage still says what is asked.
  """
  command, text = _command(path)
  kind, reads = BASELINES[stage]
  given = _given(required, text)
  run, _ = main.build(
    command,
    ["adapters/lora.gin", str(path)],
    overrides=given,
  )
  gin.clear_config(clear_constants=True)
  files = [str(path), f"stages/{stage}.gin"]
  if stage in ("shared_adapter", "joint"):
    files.insert(0, "adapters/lora.gin")
  other, _ = main.build(command, files, overrides=given)
  assert other.evaluations == run.evaluations
  if command == "eval":
    assert run.problem is None
    run = dataclasses.replace(run, problem=other.problem)
    if stage == "joint":
      assert other.problem is None
      return
  assert type(other.problem) is kind
  assert other.problem.reads_demonstrations == reads
  is_frozen = stage == "shared_adapter"
  if stage == "joint":
    assert other.problem.train_backbone
    assert other.problem.adapters == run.problem.adapters
  if not is_frozen:
    assert other.problem.backbone.param_dtype == "float32"
  else:
    assert other.problem.backbone == run.problem.backbone
    assert other.problem.adapters == run.problem.adapters
  if command == "train":
    assert other.data == run.data and other.batch_size == run.batch_size
    faster = dataclasses.replace(
      run.optimizer.learning_rate, peak=other.optimizer.learning_rate.peak
    )
    assert other.optimizer.learning_rate == faster


def test_fine_tuning_shares_a_batch_between_as_many_tasks_as_asked():
  given = ["--gin.NUM_TASKS=5", "--gin.BATCH_SIZE=20", "--gin.MODEL_DIR=/x"]
  given += ["--gin.INITIAL_CHECKPOINT_PATH=/x"]
  files = ["adapters/lora.gin", "runs/demo_peft.gin"]
  run, _ = main.build("train", files, overrides=given)
  assert run.problem.num_tasks == run.data.num_tasks == 5
  assert run.data.rows_per_context == 4
  (curves,) = run.evaluations
  assert curves.data == run.data
  assert (curves.targets.split, run.data.tasks.split) == ("validation", "train")


def _all_text(text):
  """A run file with all that it includes."""
  included = [
    line.split('"')[1] for line in text.splitlines() if line[:7] == "include"
  ]
  return text + "".join(
    _all_text((conftest.ROOT / "gin" / path).read_text()) for path in included
  )


@pytest.mark.parametrize(
  "path",
  [
    path
    for path in sorted((conftest.ROOT / "gin" / "models").glob("*.gin"))
    if path.stem != "from_checkpoint"
  ],
  ids=lambda path: path.stem,
)
def test_every_model_file_is_a_t5(path):
  """Sizes by their published parameter counts, to 3% (embeddings counted)."""
  from hyperjax.interop import weights
  from hyperjax.models.t5_layers import T5Config

  gin.parse_config_file(str(path))
  config = gin.get_configurable(T5Config)()
  shapes = weights.parameter_shapes(config).values()
  count = 0
  for shape in shapes:
    size = 1
    for extent in shape:
      size *= extent
    count += size
  published = {
    "t5_1_0_small": 60.5e6,
    "t5_1_0_base": 222.9e6,
    "t5_1_0_large": 737.7e6,
    "t5_1_0_3b": 2.85e9,
    "t5_1_0_11b": 11.3e9,
    "t5_1_1_small": 77e6,
    "t5_1_1_base": 247.6e6,
    "t5_1_1_large": 783.2e6,
    "t5_1_1_xl": 2.85e9,
    "t5_1_1_xxl": 11.1e9,
  }
  if path.stem in published:
    assert count == pytest.approx(published[path.stem], rel=0.03)
  is_gated = len(config.mlp_activations) == 2
  if path.stem.startswith("t5_"):
    assert is_gated == path.stem.startswith("t5_1_1")
    assert config.logits_via_embedding != is_gated
    assert config.vocab_size == 32128


def _refusal(capsys, *given):
  status = main.main(list(given))
  shown = capsys.readouterr().err.strip()
  assert status == 1 and len(shown.splitlines()) == 1, shown
  return shown


DEMO = "--gin_file=runs/demo_pretrain.gin"


@pytest.mark.parametrize(
  "given, message",
  [
    (
      ("train", DEMO, "--gin.MODEL_DR=/x"),
      "--gin.MODEL_DR=/x: no gin file declares MODEL_DR; did you mean "
      "MODEL_DIR?",
    ),
    (
      ("train", DEMO, "--gin_bindings=TRAIN_STEP = 3"),
      "no gin file declares TRAIN_STEP; did you mean TRAIN_STEPS?",
    ),
    (
      ("train", DEMO, "--gin.MODEL_PARALLEL=2"),
      "--gin.MODEL_PARALLEL=2: no gin file declares MODEL_PARALLEL: it is now "
      "MESH={'tensor': ...}",
    ),
    (
      ("train", DEMO, "--gin.MODEL_DIR=/x", "--gin.MESH={'fdsp': 2}"),
      "MeshSpec.axes has 'fdsp'; it may have replica, data, fsdp, tensor "
      "(--gin.MESH)",
    ),
    (("train", DEMO), "these must be set: --gin.MODEL_DIR=..."),
    (("train", DEMO, "--steps=3"), "unknown option --steps=3"),
    (
      ("train", DEMO, "--gin.MODEL_DIR"),
      "--gin.MODEL_DIR needs a value: --gin.MODEL_DIR=VALUE",
    ),
    (("train",), "--gin_file is needed"),
    (
      (
        "train",
        "--gin_file=adapters/lora.gin",
        "--gin_file=runs/mtf_sni.gin",
        "--gin.DATA_DIR=/data",
        "--gin.MODEL_DIR=/run",
        "--gin.INITIAL_CHECKPOINT_PATH=/nowhere",
      ),
      "INITIAL_CHECKPOINT_PATH /nowhere: there is no such folder",
    ),
    (
      ("train", "--gin_file=stages/multitask.gin"),
      "it is now stages/hypertuning.gin",
    ),
    (
      ("train", "--gin_file=runs/demo_pretrian.gin"),
      "nearest in the package: runs/demo_pretrain.gin",
    ),
    (
      ("eval", DEMO, "--gin.MODEL_DIR=/x"),
      "bind nothing of runs.Evaluate, which `hyperjax eval` needs",
    ),
    (
      ("train", "--gin_file=runs/demo_multitask.gin"),
      "these must be set: --gin.INITIAL_CHECKPOINT_PATH=..., --gin.MODEL_DIR",
    ),
    (
      (
        "train",
        "--gin_file=runs/demo_multitask.gin",
        "--gin.MODEL_DIR=/x",
        "--gin.INITIAL_CHECKPOINT_PATH=/x",
      ),
      "no gin file says what ADAPTERS is: add --gin_file=adapters/both.gin or "
      "adapters/ia3.gin or adapters/lora.gin or adapters/memory.gin or "
      "adapters/prefix.gin before",
    ),
    (
      ("train", DEMO, "--gin.MODEL_DIR=/x", "--gin.USE_CACHED_TASKS=false"),
      "false is neither True, False, None nor a number",
    ),
    (
      ("train", DEMO, "--gin.MODEL_DIR=/x", "--gin.TRAIN_STEPS=many"),
      "--gin.TRAIN_STEPS=many: many is neither",
    ),
    (
      ("train", DEMO, "--gin.MODEL_DIR=/x", "--coordinator_address=a:1"),
      "--process_count and --process_index go together",
    ),
    (
      ("inspect",),
      "--gin_file is needed, such as --gin_file=runs/mtf_sni.gin, or the name "
      "of a task",
    ),
    (
      ("inspect", "--gin_file=runs/demo_eval.gin"),
      "bind nothing of runs.Train, which `hyperjax inspect` needs, or the name",
    ),
    (
      ("inspect", DEMO, "--lengths=inputs=4"),
      "--lengths is for `hyperjax inspect TASK`",
    ),
    (
      ("tasks", "--gin_file=tasks/superni.gin"),
      "these must be set: --gin.DATA_DIR=...",
    ),
    (
      ("train", DEMO, "--gin_bindings=A = ="),
      "--gin_bindings=A = =: Unable to parse value. Line 1",
    ),
  ],
)
def test_a_mistake_on_the_command_line_gets_one_line(capsys, given, message):
  assert message in _refusal(capsys, *given)


def test_a_setting_may_hold_blanks(capsys, tmp_path):
  """argparse would take it for the name of a task."""
  folder = tmp_path / "with a blank"
  status = main.main(
    ["inspect", f"--gin.CACHE_DIR={folder}", "records_rule_007"]
  )
  assert status == 0 and folder.is_dir()
  assert "records_rule_007, split train" in capsys.readouterr().out


def test_a_parameter_that_does_not_exist_is_refused(capsys):
  status = main.main(
    ["train", DEMO, "--gin.MODEL_DIR=/x", "--gin.loop.Periods.sav=3"]
  )
  assert status == 1
  assert "doesn't have a parameter named 'sav'" in capsys.readouterr().err


@pytest.mark.parametrize(
  "value, message",
  [
    (
      "gs://bucket/run",
      "MODEL_DIR is gs://bucket/run: gs:// needs the package "
      "gcsfs: pip install 'hyperjax[gcs]'",
    ),
    (
      "az://bucket/run",
      "MODEL_DIR: az://bucket/run is of no known store; those "
      "are gs:// and s3://",
    ),
    ("gs://", "MODEL_DIR: gs:// must be a bucket and names in it"),
    ("2024", "MODEL_DIR must be a path in quotes, got 2024"),
    ("None", "MODEL_DIR must be a path in quotes, got None"),
  ],
)
def test_a_run_folder_is_a_path_or_in_a_known_store(
  capsys, monkeypatch, value, message
):
  monkeypatch.setitem(sys.modules, "gcsfs", None)
  stores.filesystem.cache_clear()
  assert main.main(["train", DEMO, f"--gin.MODEL_DIR={value}"]) == 1
  assert message in capsys.readouterr().err


def test_the_tokens_of_any_run_can_be_stored_ahead():
  """With the run's own options; where its results go does not matter."""
  files = ["adapters/prefix.gin", "runs/mtf_sni.gin"]
  run, _ = main.build("cache", files, overrides=["--gin.DATA_DIR=/data"])
  names = [(x.mixture_or_task, x.split) for x in run.task_sets]
  assert set(names) == {("sni_train", "train")}
  gin.clear_config(clear_constants=True)
  files = ["runs/eval_sni.gin"]
  run, _ = main.build("cache", files, overrides=["--gin.DATA_DIR=/data"])
  names = [(x.mixture_or_task, x.split) for x in run.task_sets]
  assert names == [("sni_test", "test"), ("sni_test", "positive")]


def test_demonstrations_and_instructions_are_chosen_on_the_command_line(
  required,
):
  """Positive Examples as demonstrations, the Definition for the hypermodel."""
  files = ["adapters/prefix.gin", "runs/mtf_sni.gin"]
  options = [
    "--gin.DATA_DIR=/data",
    "--gin.MODEL_DIR=/run",
    f"--gin.INITIAL_CHECKPOINT_PATH={required['INITIAL_CHECKPOINT_PATH']}",
    "--gin.DEMONSTRATIONS=@positive/seqio_store.SeqioTasks()",
    '--gin.INSTRUCTION_READERS=("hypermodel",)',
    "--gin.NUM_DEMONSTRATIONS=(0, 2)",
  ]
  run, config = main.build("train", files, overrides=options)
  names = {(x.mixture_or_task, x.split) for x in run.task_sets}
  assert names == {("sni_train", "train"), ("sni_train", "positive")}
  assert run.data.instruction_readers == ("hypermodel",)
  assert run.data.num_demonstrations == (0, 2)
  # The evaluation while training reads the same.
  assert run.evaluations[0].data == run.data
  assert "instruction_readers" in config


def test_one_macro_names_metaicls_setting_and_its_mixture():
  run, _ = main.build(
    "cache",
    ["adapters/prefix.gin", "runs/mtf_metaicl.gin"],
    overrides=["--gin.DATA_DIR=/data", "--gin.METAICL_SETTING=qa_to_qa"],
  )
  names = {(x.mixture_or_task, x.split) for x in run.task_sets}
  assert names == {("metaicl_qa_to_qa_train", "train")}
  assert {x.providers[0].setting for x in run.task_sets} == {"qa_to_qa"}


@pytest.mark.parametrize(
  "path",
  [path for path in RUNS if _command(path)[0] == "train"],
  ids=str,
)
def test_the_data_of_any_training_run_can_be_inspected(path, required):
  """Neither a T5, nor where its results go, nor its adapters are needed."""
  options = arguments.parser().parse_args(["inspect", "--num=2", "--start=7"])
  text = _command(path)[1]
  places = ("MODEL_DIR", "INITIAL_CHECKPOINT_PATH")
  own = _given(required, text)
  given = ["--gin.RANDOM_SEED=3"]
  given += [x for x in own if x.split("=")[0][6:] not in places]
  inspect, _ = main.build(
    "inspect", [str(path)], overrides=given, options=options
  )
  assert (inspect.seed, inspect.start, inspect.num) == (3, 7, 2)
  gin.clear_config(clear_constants=True)
  files = ["adapters/lora.gin", str(path)]
  run, _ = main.build("train", files, overrides=[*given, *own])
  assert inspect.data == run.data


HEAD = "from __gin__ import dynamic_registration\n"


@pytest.mark.parametrize(
  "old, message",
  [
    (
      "from hyperjax.data import seqio_store\n",
      "it is now hyperjax.data.store.seqio_store",
    ),
    (
      "from hyperjax.data import store\nA = @store.StoredTasks()\n",
      "it is now hyperjax.data.store.mixtures.StoredTasks",
    ),
    (
      "from hyperjax import runs\nruns.Train.max_to_keep = 2\n",
      "it is now checkpoints.Kept.last",
    ),
    (
      'include "stages/multitask.gin"\n',
      "it is now stages/hypertuning.gin",
    ),
    (
      'include "stages/hyperpretrain.gin"\n',
      "it is now stages/hypertuning.gin with stages/caclm.gin",
    ),
    ("MODEL_PARALLEL = 4\n", "MODEL_PARALLEL is now MESH={'tensor': ...}"),
    (
      "from hyperjax import sharding\nsharding.MeshSpec.model_parallel = 2\n",
      "it is now MeshSpec.axes (MESH={'tensor': ...})",
    ),
    (
      'include "runs/paper/xl_lora_mtf_p3.gin"\n',
      "it is now a row of docs/paper.md",
    ),
  ],
)
def test_a_gin_file_of_an_earlier_version_is_told_where_things_are_now(
  capsys, tmp_path, old, message
):
  (tmp_path / "old.gin").write_text(HEAD + old)
  assert main.main(["cache", f"--gin_file={tmp_path / 'old.gin'}"]) == 1
  error = capsys.readouterr().err
  assert message in error, error


def test_inspect_prints_what_the_run_would_be_fed(capsys, tmp_path):
  """Every row of copy_1 and copy_3 ends its input with the word it copies."""
  runs_example.write_tasks(tmp_path / "tokens")
  (tmp_path / "run.gin").write_text(runs_example.GIN)
  status = main.main(
    [
      "inspect",
      f"--gin_file={tmp_path / 'run.gin'}",
      f"--gin.mixtures.StoredTasks.cache_dir={tmp_path / 'tokens'}",
      "--num=4",
    ]
  )
  lines = capsys.readouterr().out.splitlines()
  assert status == 0 and "\033" not in "".join(lines)
  titles = [line for line in lines if line.startswith("context ")]
  assert [title.split(":")[0] for title in titles] == [
    f"context {i}" for i in range(4)
  ]
  times = 0
  for line in lines:
    if line.startswith("context "):
      times = int(line.split("copy_")[1].split(",")[0])
    if " -> " in line:
      given, answer = (part.split()[:-1] for part in line.split(" -> "))
      assert answer == given[-1:] * times


def test_values_are_gin_syntax_or_plain_strings():
  run, _ = main.build(
    "train",
    ["runs/demo_pretrain.gin"],
    overrides=[
      "--gin.MODEL_DIR=/tmp/a-b c",
      "--gin.TRAIN_STEPS=12",
      "--gin.TASK_FEATURE_LENGTHS={'inputs': 3, 'targets': 4}",
      "--gin.optimizers.AdamW.weight_decay=0.5",
    ],
  )
  assert run.model_dir == "/tmp/a-b c"
  assert run.steps == 12
  assert run.optimizer.weight_decay == 0.5
  assert run.data.feature_lengths == {"inputs": 3, "targets": 4}
  assert isinstance(run.problem, problems.LanguageModel)


def test_later_settings_win_and_own_folders_come_first(tmp_path):
  own = tmp_path / "runs"
  own.mkdir()
  (own / "mine.gin").write_text(
    'include "runs/demo_pretrain.gin"\nTRAIN_STEPS = 5\nBATCH_SIZE = 8\n'
  )
  run, _ = main.build(
    "train",
    ["runs/mine.gin"],
    ["BATCH_SIZE = 24"],
    str(tmp_path),
    ["--gin.MODEL_DIR=/x", "--gin.BATCH_SIZE=40"],
  )
  assert (run.steps, run.batch_size) == (5, 40)


def test_a_folder_of_results_named_runs_is_no_obstacle(tmp_path, monkeypatch):
  """gin by itself takes it for a Python package that lacks the file."""
  (tmp_path / "runs").mkdir()
  monkeypatch.syspath_prepend(str(tmp_path))
  run, _ = main.build(
    "train", ["runs/demo_pretrain.gin"], overrides=["--gin.MODEL_DIR=/x"]
  )
  assert run.model_dir == "/x"


@pytest.fixture
def scored(tmp_path):
  """Predictions with their references: one of two right."""
  rows = [
    {
      "id": f"i{i}",
      "prediction": text,
      "references": ["b"],
      "task_id": "task1",
      "task_category": "Word Analogy",
    }
    for i, text in enumerate("ab")
  ]
  path = tmp_path / "x.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_scores_are_printed_as_a_table_and_written_as_json(
  capsys, scored, tmp_path
):
  out = tmp_path / "scores.json"
  assert main.main(["score", "sni", str(scored), f"--json={out}"]) == 0
  table = capsys.readouterr().out.splitlines()
  assert table[0].split() == ["sni", "exact_match", "rougeL", "instances"]
  assert table[1].split() == ["all", "50.0000", "50.0000", "2"]
  assert table[4].split()[0] == "word_analogy"
  assert json.loads(out.read_text())["tasks"]["task1"]["rougeL"] == 50
  assert main.main(["score", "sni", str(scored), "--json", "-"]) == 0
  assert capsys.readouterr().out == out.read_text()


def test_what_cannot_be_scored_gets_one_line(capsys, scored):
  name = str(scored)
  scored.write_text(scored.read_text() + "oops\n")
  assert "x.jsonl, line 3: not JSON" in _refusal(capsys, "score", "sni", name)
  assert "x.jsonl, line 1" in _refusal(capsys, "score", "metaicl", name)
  assert "x.jsonl, line 1" in _refusal(capsys, "score", "p3", name)
  message = _refusal(capsys, "score", "p3", name, "--data_dir=/nowhere")
  assert "--data_dir: there is no folder /nowhere" in message
  message = _refusal(capsys, "score", "p3", name, "--setting=x")
  assert "unknown option --setting=x" in message
  message = _refusal(capsys, "score", "sni", name, "--json=/nowhere/x.json")
  assert "--json: there is no folder /nowhere" in message
  folder = pathlib.Path(name).parent
  message = _refusal(capsys, "score", "sni", name, f"--json={folder}")
  assert "--json must name a file, " in message
  message = _refusal(capsys, "score", "sni", "/nowhere.jsonl")
  assert "/nowhere.jsonl: there is no such file of predictions" in message


def test_help_imports_nothing_heavy():
  """So it answers in about a second."""
  program = """
import sys
from hyperjax import main
try:
  main.main(["--help"])
except SystemExit:
  pass
for name in ("jax", "numpy", "gin", "seqio", "tensorflow", "flax"):
  assert name not in sys.modules, name
"""
  subprocess.run([sys.executable, "-c", program], check=True, cwd=conftest.ROOT)


@pytest.mark.slow
@pytest.mark.seqio
def test_unknown_tasks_and_missing_data_are_refused_by_name(capsys, tmp_path):
  pytest.importorskip("seqio")
  start = ["train", "--gin_file=runs/demo_pretrain.gin"]
  start += [f"--gin.MODEL_DIR={tmp_path / 'run'}"]
  message = _refusal(capsys, *start, "--gin.MIXTURE_OR_TASK_NAME=records_statd")
  assert "'records_statd'" in message and "records_stated" in message
  gin.clear_config(clear_constants=True)
  message = _refusal(
    capsys,
    "train",
    "--gin_file=runs/pretrain_c4.gin",
    "--gin_file=models/t5_1_1_tiny.gin",
    f"--gin.MODEL_DIR={tmp_path / 'run'}",
    "--gin.DATA_DIR=/nowhere",
  )
  assert "DATA_DIR: there is no folder /nowhere/text" in message
  assert not pathlib.Path(tmp_path / "run").exists()


def test_a_kind_of_adapters_given_to_an_evaluation_is_held_against_its_run():
  given = ["--gin.DATA_DIR=/data", "--gin.CHECKPOINT_PATH=/run"]
  for files, kind in (
    (["adapters/lora.gin", "runs/eval_sni.gin"], adapters.LoraSpec),
    (["runs/eval_sni.gin"], type(None)),
  ):
    gin.clear_config(clear_constants=True)
    run, _ = main.build("eval", files, overrides=given)
    assert run.problem is None and type(run.adapters) is kind
