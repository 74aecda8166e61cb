"""What values from outside may be, stated once, where a field or an option is.

  steps: Annotated[int, checks.Whole(1)]

A dataclass that gin configures calls `checks.fields(self)` when it is made, a
function that it configures is decorated with `checks.arguments`, and an option of
the command line is added with `checks.add_option`. Each refuses what its declaration
does not allow in one sentence: the name, the rule, and what came.
"""

from typing import Annotated

from hyperjax.checks.declared import arguments, fields, rule_of
from hyperjax.checks.options import Option, add_option
from hyperjax.checks.rules import (
  Entries,
  Number,
  OneOf,
  Rule,
  Some,
  Span,
  Whole,
)

__all__ = [
  "DTYPES",
  "MAX_LENGTH",
  "QUANTIZATIONS",
  "Count",
  "Entries",
  "ExtraIds",
  "Length",
  "MaxDistance",
  "NumBeams",
  "NumProcesses",
  "Number",
  "OneOf",
  "Option",
  "Position",
  "Positive",
  "Rule",
  "Seed",
  "Share",
  "Size",
  "Some",
  "Span",
  "Temperature",
  "TopK",
  "TopP",
  "Weight",
  "Whole",
  "add_option",
  "arguments",
  "fields",
  "rule_of",
]

# What means the same wherever it stands.
Count = Annotated[int, Whole(1)]
NumProcesses = Annotated[int, Whole(1, 2**20)]
# Of jax's random keys, which would take 2**32 for 0.
Seed = Annotated[int, Whole(0, 2**32 - 1)]
# Of contexts in endless data.
Position = Annotated[int, Whole(0, 2**53)]
# Tokens of a row; of more, the attention of one head alone would take 16 GiB.
MAX_LENGTH = 2**16
Length = Annotated[int, Whole(1, MAX_LENGTH)]
# From which on a T5 tells distances no longer apart.
MaxDistance = Annotated[int, Whole(3, 2**24)]
# Of T5's sentinels, on top of a vocabulary.
ExtraIds = Annotated[int, Whole(0, 2**16)]
# Widths, ranks and numbers of layers: far above any T5's.
Size = Annotated[int, Whole(1, 2**24)]
# Logits divided by less leave float32; 0 itself is greedy.
Temperature = Annotated[float, Number(least=1e-6, most=1e6, or_zero=True)]
TopK = Annotated[int, Whole(0)]
TopP = Annotated[float, Number(above=0, most=1)]
NumBeams = Annotated[int, Whole(1, 1024)]
Share = Annotated[float, Number(least=0, most=1)]
Weight = Annotated[float, Number(least=0)]
Positive = Annotated[float, Number(above=0)]
DTYPES = ("float32", "bfloat16", "float16")
# How a T5's projections are held, as `models.quantizing` says.
QUANTIZATIONS = ("none", "int8", "int8_wo")
