"""What commands say where memory lacks: one sentence, and nothing half-written."""

import json
import math
import re
import shutil
import struct
import subprocess
import sys

import pytest

from hyperjax import main
from hyperjax.interop import hf, hf_arrays, weights
from hyperjax.memory import capacity
from hyperjax.models.t5_layers import T5Config
from tests import conftest, runs_example, served_example

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_configuration")]

# What is asked for, what there is, and what to set.
SENTENCE = r"hyperjax {}: .* takes [\d,.]+ GiB of memory, [\d,.]+ GiB are free for it: {}"
HUGE = 1 << 16  # tokens: attention between those of 8 rows takes 256 GiB


def _refused(capsys, advice, command, *given):
  """The advice as a match; all that is shown is one sentence."""
  capsys.readouterr()
  assert main.main([command, *map(str, given)]) == 1
  shown = capsys.readouterr().err.splitlines()
  said = [line for line in shown if line.startswith("hyperjax ")]
  assert len(said) == 1 and "Traceback" not in "".join(shown), shown
  found = re.fullmatch(SENTENCE.format(command, advice), said[0])
  assert found, said[0]
  return found


@pytest.fixture
def tokens(tmp_path):
  runs_example.write_tasks(tmp_path / "tokens")
  (tmp_path / "run.gin").write_text(
    runs_example.GIN
    + f"mixtures.StoredTasks.cache_dir = '{tmp_path / 'tokens'}'\n"
  )
  return tmp_path


def _train(folder, *given):
  return (
    f"--gin_file={folder / 'run.gin'}",
    "--gin.TRAIN_STEPS=1",
    "--gin.INITIAL_CHECKPOINT_PATH=None",
    f"--gin.MODEL_DIR={folder / 'run'}",
    *given,
  )


def test_train_names_microbatches_and_begins_no_folder(tokens, capsys):
  given = _train(tokens, f"--gin.BATCH_SIZE={1 << 25}")
  found = _refused(capsys, r"set NUM_MICROBATCHES=(\d+)", "train", *given)
  assert (1 << 25) % int(found[1]) == 0
  assert not (tokens / "run").exists()


# Of this process, and of what its programs take.
LIMITED = """
import re, resource, sys
import jax
from hyperjax import loop, main, runs, trainer
jax.numpy.ones(3).block_until_ready()
taken = re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]
most = int(taken) * 1024 + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (most, most))
sys.exit(main.main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")
def test_what_is_named_trains_where_what_was_asked_for_did_not(tokens):
  """In a process whose memory is limited, by what is named under that limit."""
  flags = {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": str(conftest.ROOT),
    "PATH": "/usr/bin:/bin",
  }

  def run(*given):
    return subprocess.run(
      [
        sys.executable,
        "-c",
        LIMITED,
        str(3 << 30),
        "train",
        *_train(tokens),
        *given,
      ],
      capture_output=True,
      text=True,
      env=flags,
      check=False,
    )

  # Few rows, which are long: the rest of the process stays small.
  lengths = runs_example.LENGTHS | {"inputs": 2048}
  long = f"--gin.sources.FewShotEpisodes.feature_lengths={lengths}"
  batch = "--gin.BATCH_SIZE=64"
  refused = run(batch, long)
  assert refused.returncode == 1, refused.stderr
  found = re.search(
    SENTENCE.format("train", r"set NUM_MICROBATCHES=(\d+)"), refused.stderr
  )
  assert found and "Traceback" not in refused.stderr, refused.stderr
  assert not (tokens / "run").exists()
  trained = run(batch, long, f"--gin.NUM_MICROBATCHES={found[1]}")
  assert trained.returncode == 0, trained.stderr
  assert "step 1/1" in trained.stdout


EVAL = """
from __gin__ import dynamic_registration
from hyperjax.data.store import mixtures
from hyperjax.evaluation import few_shot

include "stages/evaluate.gin"

EVALUATIONS = (@few_shot.FewShotEvaluation(),)
few_shot.FewShotEvaluation.name = "rules"
few_shot.FewShotEvaluation.targets = @held/mixtures.StoredTasks()
few_shot.FewShotEvaluation.demonstrations = @mixtures.StoredTasks()
few_shot.FewShotEvaluation.num_demonstrations = 3
few_shot.FewShotEvaluation.least_length = 65536
few_shot.FewShotEvaluation.max_targets = 8
few_shot.FewShotEvaluation.controls = ("right",)
mixtures.StoredTasks.mixture_or_task = "rules"
mixtures.StoredTasks.keep_records = True
held/mixtures.StoredTasks.split = "validation"
"""


def test_eval_names_lengths_where_no_row_fits(served, tmp_path, capsys):
  """Of rows that are padded to as many tokens as inputs may have."""
  (tmp_path / "eval.gin").write_text(
    EVAL + f"mixtures.StoredTasks.cache_dir = '{served / 'tokens'}'\n"
  )
  lengths = served_example.LENGTHS | {"inputs": HUGE}
  found = _refused(
    capsys,
    r"set TASK_FEATURE_LENGTHS\['inputs'\]=(\d+)",
    "eval",
    f"--gin_file={tmp_path / 'eval.gin'}",
    f"--gin.CHECKPOINT_PATH={served / 'lora'}",
    f"--gin.EVAL_OUTPUT_DIR={tmp_path / 'out'}",
    f"--gin.TASK_FEATURE_LENGTHS={lengths}",
  )
  assert 16 <= int(found[1]) < HUGE
  assert not (tmp_path / "out").exists()


def test_predict_names_a_length_and_leaves_what_was_answered(
  served, tmp_path, capsys
):
  asked, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
  short = served_example.questions()[0]
  asked.write_text(f"{short}\n" + "red " * HUGE + "\n")
  given = ("--model", served / "backbone", "--inputs", asked, "--out", out)
  given += ("--batch_size", 1, "--input_length", HUGE)
  found = _refused(
    capsys,
    r"set --batch_size to \d+ and --input_length to (\d+)",
    "predict",
    *given,
  )
  assert 16 <= int(found[1]) < HUGE
  lines = out.read_text().splitlines()
  assert [json.loads(line)["input"] for line in lines] == [short]


def test_a_million_rows_are_as_few_as_there_are_inputs(served, tmp_path):
  asked = tmp_path / "in.txt"
  asked.write_text("".join(f"{x}\n" for x in served_example.questions()[:6]))
  for size in (2, 1_000_000):
    out = tmp_path / f"{size}.jsonl"
    given = ("--model", served / "backbone", "--inputs", asked, "--out", out)
    assert (
      main.main(["predict", *map(str, given), "--batch_size", str(size)]) == 0
    )
  few, many = [(tmp_path / f"{n}.jsonl").read_text() for n in (2, 1_000_000)]
  assert few == many and len(few.splitlines()) == 6


def _longer(run, folder):
  """A copy of a run that reads demonstrations of a huge length."""
  shutil.copytree(run, folder)
  record = json.loads((folder / "run.json").read_text())
  record["reads"]["lengths"]["demonstrations"] = HUGE
  (folder / "run.json").write_text(json.dumps(record))
  return folder


def test_adapt_and_update_say_which_length_fits(served, tmp_path, capsys):
  examples = tmp_path / "e.jsonl"
  examples.write_text(
    "".join(
      json.dumps({"input": x, "output": y}) + "\n"
      for x, y in served_example.pairs(7)
    )
  )
  model = ("--examples", examples, "--model")
  old, out = tmp_path / "old", tmp_path / "out"
  assert not main.main(
    ["adapt", *map(str, (*model, served / "lora", "--out", old))]
  )
  huge = _longer(served / "lora", tmp_path / "huge")
  advice = (
    r"it needs a hypermodel .* TASK_FEATURE_LENGTHS\['demonstrations'\] (\d+)"
  )
  for more in ((), ("--update", old)):
    found = _refused(capsys, advice, "adapt", *model, huge, "--out", out, *more)
    assert 1 <= int(found[1]) < HUGE
    assert not out.exists()


def _huge_t5(folder, config):
  """A T5 as Hugging Face has it, whose two largest arrays are holes in a file."""
  folder.mkdir()
  names = hf.array_names(config, hf.EMBEDDINGS[0])
  shapes = {}
  for path, shape in weights.parameter_shapes(config).items():
    for name, is_stacked in weights._unscanned(path, shape):
      own = shape[1:] if is_stacked else shape
      shapes[names[name]] = own[::-1] if hf.is_transposed(name) else own
  header, end = {}, 0
  for name, shape in shapes.items():
    begin, end = end, end + 4 * math.prod(shape)
    header[name] = {
      "dtype": "F32",
      "shape": list(shape),
      "data_offsets": [begin, end],
    }
  text = json.dumps(header).encode()
  with open(folder / hf_arrays.SINGLE, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    file.truncate(8 + len(text) + end)
  facts = {
    "model_type": "t5",
    "vocab_size": config.vocab_size,
    "d_model": config.emb_dim,
    "d_kv": config.head_dim,
    "d_ff": config.mlp_dim,
    "num_heads": config.num_heads,
    "num_layers": config.num_encoder_layers,
    "num_decoder_layers": config.num_decoder_layers,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
  }
  (folder / hf.CONFIG).write_text(json.dumps(facts))
  return folder


def test_import_and_export_of_what_is_too_large(served, tmp_path, capsys):
  # Two arrays of 1 TiB each.
  huge = served_example.CONFIG
  huge = T5Config(
    vocab_size=1 << 24,
    emb_dim=1 << 14,
    num_heads=huge.num_heads,
    head_dim=huge.head_dim,
    mlp_dim=huge.mlp_dim,
    num_encoder_layers=huge.num_encoder_layers,
    num_decoder_layers=huge.num_decoder_layers,
  )
  assert capacity.host() < 1 << 40
  folder, out = _huge_t5(tmp_path / "huge", huge), tmp_path / "out"
  nothing = "arrays are read one by one, so that nothing but more memory helps"
  _refused(capsys, nothing, "import", "--from", folder, "--to", out)
  examples = tmp_path / "e.csv"
  examples.write_text("".join(f"{x},{y}\n" for x, y in served_example.pairs(7)))
  adapter = tmp_path / "adapter"
  model = ("--model", served / "lora", "--examples", examples, "--out", adapter)
  assert not main.main(["adapt", *map(str, model)])
  given = ("--adapter", adapter, "--to", "orbax", "--out", out)
  _refused(capsys, nothing, "export", *given, "--backbone", folder)
  assert not out.exists()
  assert list(tmp_path.glob("*out*")) == []
  given = ("--model", folder, "--inputs", examples.with_suffix(".txt"))
  examples.with_suffix(".txt").write_text("x\n")
  given += (
    "--input_length",
    8,
    "--max_length",
    8,
    "--out",
    out,
    "--vocabulary",
  )
  vocabulary = next((served / "lora" / "vocabulary").glob("*.model"))
  _refused(capsys, nothing, "predict", *given, vocabulary)
  assert not out.exists()
