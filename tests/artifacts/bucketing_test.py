"""Which problems take buckets."""

import dataclasses

import pytest

from hyperjax.data.buckets import Buckets
from hyperjax.models.teaching import Teacher
from tests import runs_example


def test_a_teachers_answers_do_not_end_where_a_bucket_does(tmp_path):
  """A bucket's room for targets would decide what is learnt."""
  run = runs_example.multitask(tmp_path, tmp_path / "run", None)

  def taught(buckets, **teacher):
    problem = dataclasses.replace(run.problem, teacher=Teacher(**teacher))
    return dataclasses.replace(run, problem=problem, buckets=buckets)

  with pytest.raises(ValueError, match=r"ANSWER_LENGTH. is None and"):
    taught(Buckets(), targets="teacher")
  assert taught(Buckets(), targets="teacher", answer_length=4)
  assert taught(None, targets="teacher")
  assert taught(Buckets())
