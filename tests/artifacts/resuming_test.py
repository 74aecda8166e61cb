"""Which settings a run may go on with, and which not."""

import dataclasses

import pytest

from hyperjax import adapters, optimizers
from hyperjax.artifacts import config_json, resuming, run_record
from hyperjax.artifacts.run_record import BackboneRef, TaskShare
from tests import testing
from tests.artifacts.run_record_test import PROBLEM, RECORD


def _problem(**changes):
  own = config_json.problem_record(dataclasses.replace(PROBLEM, **changes))
  return dataclasses.replace(RECORD, problem=own)


def _data(**changes):
  own = dataclasses.replace(RECORD.data, **changes)
  return dataclasses.replace(RECORD, data=own)


def _reads(**changes):
  own = dataclasses.replace(RECORD.reads, **changes)
  return dataclasses.replace(RECORD, reads=own)


def _training(**changes):
  own = dataclasses.replace(RECORD.training, **changes)
  return dataclasses.replace(RECORD, training=own)


def _lengths(**changes):
  return _reads(lengths={**RECORD.reads.lengths, **changes})


SCHEDULE = optimizers.LinearDecay(2e-3, 10)
ADAMW = optimizers.AdamW(SCHEDULE)
TASKS = RECORD.data.tasks
FASTER = dataclasses.replace(
  testing.CONFIG, dtype="bfloat16", remat="full", scan_unroll=2
)

TOLD = {
  "steps": (_training(steps=20), "training.steps  10  20"),
  "batch size": (_training(batch_size=32), "training.batch_size  16  32"),
  "microbatches": (_training(num_microbatches=1), "num_microbatches  2  1"),
  "learning rate": (
    _training(optimizer=config_json.tagged(ADAMW)),
    "training.optimizer.learning_rate.peak  0.001  0.002",
  ),
  "arithmetic": (
    _problem(backbone=FASTER),
    "backbone.dtype  float32  bfloat16",
  ),
  "remat": (_problem(backbone=FASTER), "problem.backbone.remat  none  full"),
  "z loss": (_problem(z_loss=1e-4), "problem.z_loss  0.0  0.0001"),
  "input length": (_lengths(inputs=9), "reads.lengths.inputs  8  9"),
  "version": (
    dataclasses.replace(RECORD, versions={"hyperjax": "1.1", "jax": "2.0"}),
    "versions.hyperjax  1.0  1.1",
  ),
}
REFUSED = {
  "adapters": (
    _problem(adapters=adapters.PrefixSpec(2)),
    "problem.adapters.kind  LoraSpec  PrefixSpec  its arrays would mean",
  ),
  "slots": (
    _problem(
      hypermodel=dataclasses.replace(
        PROBLEM.hypermodel, bidirectional_slots=True
      )
    ),
    "hypermodel.bidirectional_slots  False  True  its arrays would mean",
  ),
  "optimizer": (
    _training(optimizer=config_json.tagged(optimizers.Adafactor(SCHEDULE))),
    "training.optimizer.kind  AdamW  Adafactor  the optimizer's state would",
  ),
  "seed": (_data(seed=4), "data.seed  3  4  its contexts would be others"),
  "mixture": (_data(mixture="x"), "data.mixture  copies  x  its contexts"),
  "split": (_data(split="x"), "data.split  train  x  its contexts"),
  "kind of data": (_data(kind="X"), "data.kind  FewShotEpisodes  X  its cont"),
  "window": (_data(window=9), "data.window  -  9  its contexts"),
  "rate": (
    _data(tasks=(TASKS[0], TaskShare("other", 0.7, 10))),
    "data.tasks  other 0.5 10  other 0.7 10  its contexts",
  ),
  "rows": (
    _data(tasks=(TASKS[0], TaskShare("other", 0.5, 11))),
    "data.tasks  other 0.5 10  other 0.5 11  its contexts",
  ),
  "text beside": (
    _data(unrelated=(TaskShare("text", 1.0, 17),)),
    "data.unrelated  -  text 1.0 17  its contexts",
  ),
  "order": (_data(tasks=TASKS[::-1]), "data.tasks  2 in another order"),
  "demonstrations": (
    _data(settings={"num_demonstrations": (1, 4), "demonstrations": None}),
    "data.settings.num_demonstrations  [1, 3]  [1, 4]  its contexts",
  ),
  "rows of a context": (_data(rows_per_context=1), "per_context  2  1  its"),
  "room": (_lengths(demonstrations=30), "demonstrations  36  30  its contexts"),
  "readers": (
    _reads(instruction_readers=()),
    "reads.instruction_readers  ['backbone']  []  its contexts",
  ),
  "tokenizer": (
    _reads(
      tokenizer=dataclasses.replace(RECORD.reads.tokenizer, identity="ef" * 32)
    ),
    "its ids would stand for other text",
  ),
}


def _spaced(text):
  """A table with two blanks between cells."""
  lines = [
    "  ".join(cell.strip() for cell in line.split("  ") if cell.strip())
    for line in text.splitlines()
  ]
  return "\n".join(lines)


@pytest.mark.parametrize("now, row", TOLD.values(), ids=TOLD)
def test_what_changes_neither_arrays_nor_data_is_told(now, row):
  found = resuming.changes(RECORD, now, "run")
  assert not any(change.refusal for change in found)
  assert row in _spaced(resuming.table(found))


@pytest.mark.parametrize("now, row", REFUSED.values(), ids=REFUSED)
def test_what_changes_arrays_or_data_is_refused_with_a_reason(now, row):
  now = dataclasses.replace(
    now, training=dataclasses.replace(now.training, steps=20)
  )
  with pytest.raises(ValueError, match="run was made with other settings") as e:
    resuming.changes(RECORD, now, "run")
  shown = _spaced(str(e.value))
  assert row in shown
  # What else has changed is in the same table.
  assert "training.steps  10  20" in shown


@pytest.mark.parametrize("relabel, is_refused", ((0.5, True), (0.0, False)))
def test_room_for_new_labels_stays_where_labels_are_replaced(
  relabel, is_refused
):
  """Which episodes have new ones depends on it."""
  settings = {**RECORD.data.settings, "relabel": relabel}
  before, now = (
    dataclasses.replace(own, data=_data(settings=settings).data)
    for own in (RECORD, _lengths(targets=3))
  )
  if is_refused:
    with pytest.raises(ValueError, match=r"targets +6 +3 +other labels would"):
      resuming.changes(before, now, "run")
  else:
    (found,) = resuming.changes(before, now, "run")
    assert found.name == "reads.lengths.targets" and found.refusal is None


def test_nothing_is_said_where_nothing_has_changed():
  assert resuming.changes(RECORD, RECORD, "run") == []


def test_what_a_run_began_with_stays():
  """Found elsewhere or not at all now; that another is asked for is told."""
  now = dataclasses.replace(
    RECORD,
    backbone=BackboneRef("ef" * 32, "/other"),
    initial_checkpoint=None,
    assignment_map=None,
    initial_values=None,
    folder="/moved",
  )
  found = resuming.changes(RECORD, now, "run")
  told = ["assignment_map", "folder", "initial_checkpoint"]
  assert [change.name for change in found] == told
  assert resuming.resumed(RECORD, now) == dataclasses.replace(
    RECORD, folder="/moved"
  )


def test_a_setting_that_an_earlier_version_lacked_had_its_default():
  fields = dict(RECORD.problem.fields)
  del fields["z_loss"]
  own = run_record.ProblemRecord(RECORD.problem.kind, fields)
  before = dataclasses.replace(RECORD, problem=own)
  assert resuming.changes(before, RECORD, "run") == []


def test_a_setting_that_is_only_named_is_the_same_in_every_process():
  """Of a function `repr` tells where it lies in memory."""
  found = [config_json.plain({"cut": lambda ids: ids}) for _ in range(2)]
  assert found[0] == found[1] and "0x" not in found[0]["cut"]


def test_text_that_an_earlier_version_did_not_speak_of_is_not_compared():
  """What it did say of text must be as it was."""
  read = RECORD.reads
  short = {x: n for x, n in read.lengths.items() if x != "num_demonstrations"}
  said = dataclasses.replace(read, lengths=short, instructions=None)
  before = dataclasses.replace(RECORD, versions={}, reads=said)
  told = dataclasses.replace(
    read,
    lengths={**short, "num_demonstrations": 0},
    instructions={"a": (5, 6)},
  )
  now = dataclasses.replace(RECORD, reads=told)
  assert resuming.changes(before, now, "run") == []
  own = dataclasses.replace(read.tokenizer, identity="ab" * 32)
  other = dataclasses.replace(
    now, reads=dataclasses.replace(told, tokenizer=own)
  )
  with pytest.raises(ValueError, match=r"reads.tokenizer.identity"):
    resuming.changes(before, other, "run")


def test_settings_that_nothing_uses_do_not_count():
  """With another body or head than theirs."""
  unused = dataclasses.replace(
    PROBLEM.hypermodel, body_rank=5, head_latent_dim=7
  )
  problem = dataclasses.replace(PROBLEM, hypermodel=unused)
  resuming.check_problem(RECORD.problem, problem, "/run")
  light = dataclasses.replace(PROBLEM.hypermodel, body="shared")
  problem = dataclasses.replace(PROBLEM, hypermodel=light)
  with pytest.raises(ValueError, match=r"hypermodel.body +copy +shared"):
    resuming.check_problem(RECORD.problem, problem, "/run")
  record = config_json.problem_record(problem)
  other = dataclasses.replace(light, body_rank=5)
  problem = dataclasses.replace(PROBLEM, hypermodel=other)
  with pytest.raises(ValueError, match=r"hypermodel.body_rank +16 +5"):
    resuming.check_problem(record, problem, "/run")
