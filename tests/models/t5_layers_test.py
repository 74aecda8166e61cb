import pytest

from hyperjax.models.t5_layers import T5Config
from tests import testing


@pytest.mark.parametrize(
  "field, value",
  [
    ("num_heads", 0),
    ("emb_dim", "64"),
    ("remat", "some"),
    ("mlp_activations", ("tanh",)),
    ("mlp_activations", "relu"),
    ("dropout_rate", 1.0),
    # T5's formula divides by zero, or leaves the table, below these.
    ("relpos_buckets", 3),
    ("relpos_buckets", "32"),
    ("relpos_max_distance", 16),
    ("relpos_max_distance", None),
  ],
)
def test_a_bad_size_is_refused_by_name(field, value):
  sizes = {
    name: getattr(testing.CONFIG, name)
    for name in testing.CONFIG.__dataclass_fields__
  }
  with pytest.raises(ValueError, match=f"T5Config.{field}"):
    T5Config(**(sizes | {field: value}))
