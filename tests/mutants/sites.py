"""Where the core can be changed, and the changed source.

The operators are cosmic-ray's, and two of our own. Its own way of running them
takes every test for every fault; `reach` takes those that can notice.
"""

import ast
import dataclasses
import difflib
import pathlib
import random
import re
from collections.abc import Sequence
from typing import Any

import parso
from cosmic_ray import mutating, plugins
from cosmic_ray.ast import Visitor
from cosmic_ray.operators.operator import Operator

ROOT = pathlib.Path(__file__).parent.parent.parent
# What trains, writes, decodes, orders, scores, keeps and converts.
CORE = (
  "adapters/*.py",
  "batch.py",
  "artifacts/assignment.py",
  "artifacts/lease.py",
  "checkpoints/*.py",
  "data/episodes.py",
  "data/feed.py",
  "data/instructions.py",
  "data/joining.py",
  "data/order.py",
  "data/pairs.py",
  "data/sources.py",
  "data/store/mixtures.py",
  "data/store/row_arrays.py",
  "data/store/row_writer.py",
  "data/store/store.py",
  "data/text.py",
  "evaluation/*.py",
  "interop/*.py",
  "loop.py",
  "metrics.py",
  "models/*.py",
  "optimizers.py",
  "scores/*.py",
  "serving/*.py",
  "sharding.py",
  "train_state.py",
  "trainer.py",
  "trees.py",
  "watching/*.py",
)
# They need t5x, or torch and transformers, which `make test` does without.
LEFT_OUT = ("interop/t5x_model.py", "interop/logits.py")

SWAPPED = (
  *("ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add"),
  *("ReplaceBinaryOperator_Mul_Div", "ReplaceBinaryOperator_Div_Mul"),
  *("ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_Mod_Add"),
  *("ReplaceBinaryOperator_Pow_Mul", "ReplaceBinaryOperator_BitAnd_BitOr"),
  *("ReplaceBinaryOperator_BitOr_BitAnd",),
  *("ReplaceComparisonOperator_Eq_NotEq", "ReplaceComparisonOperator_NotEq_Eq"),
  *("ReplaceComparisonOperator_Lt_LtE", "ReplaceComparisonOperator_Lt_GtE"),
  *("ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_LtE_Gt"),
  *("ReplaceComparisonOperator_Gt_GtE", "ReplaceComparisonOperator_Gt_LtE"),
  *("ReplaceComparisonOperator_GtE_Gt", "ReplaceComparisonOperator_GtE_Lt"),
  *("ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is"),
  *("ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Not"),
  *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue"),
  *("ReplaceAndWithOr", "ReplaceOrWithAnd"),
  *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
  *("AddNot", "NumberReplacer", "ZeroIterationForLoop"),
)


class _Own(Operator):
  @classmethod
  def examples(cls) -> Any:
    return ()


class DropCall(_Own):
  """A statement that only calls something does nothing."""

  def mutation_positions(self, node) -> Any:
    if node.type == "simple_stmt" and node.children[0].type == "atom_expr":
      yield node.start_pos, node.end_pos

  def mutate(self, node, index):
    del index
    called = node.children[0]
    node.children[0] = parso.parse(called.get_first_leaf().prefix + "pass")
    return node


class DropArgument(_Own):
  """A call goes without one of its named arguments."""

  def mutation_positions(self, node) -> Any:
    named = node.type == "argument" and node.children[1] == "="
    if named and node.parent.type in ("arglist", "trailer"):
      yield node.start_pos, node.end_pos

  def mutate(self, node, index):
    del index
    # `**{}` stands wherever a named argument may.
    return parso.parse(node.get_first_leaf().prefix + "**{}")


class ScaleNumber(_Own):
  """A fraction is half as large again: adding one may change it too much."""

  def mutation_positions(self, node) -> Any:
    if node.type == "number" and re.search(r"[.e]", node.value):
      yield node.start_pos, node.end_pos

  def mutate(self, node, index):
    del index
    node.value = repr(1.5 * float(node.value))
    return node


OPERATORS: dict[str, Any] = {
  name: plugins.get_operator(f"core/{name}")() for name in SWAPPED
} | {kind.__name__: kind() for kind in (DropCall, DropArgument, ScaleNumber)}


@dataclasses.dataclass(frozen=True)
class Mutant:
  path: str  # from the root
  line: int
  operator: str
  occurrence: int  # of the operator in the file

  def source(self) -> str | None:
    """The file with this fault; None where it would be another or no Python."""
    text = (ROOT / self.path).read_text()
    changed = mutating.mutate_code(
      text, OPERATORS[self.operator], self.occurrence
    )
    try:
      same = ast.dump(ast.parse(changed or "")) == ast.dump(ast.parse(text))
    except SyntaxError:
      return None
    return None if same else changed

  def diff(self) -> list[str]:
    """The lines that change, before and after."""
    lines = difflib.unified_diff(
      (ROOT / self.path).read_text().splitlines(),
      (self.source() or "").splitlines(),
      n=0,
      lineterm="",
    )
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


_SIGNATURES = ("parameters", "lambdef", "typedargslist")


class _Positions(Visitor):
  def __init__(self, operator: Any):
    self.operator = operator
    self.lines: list[int] = []

  def visit(self, node):
    for start, _ in self.operator.mutation_positions(node):
      # A lone `*` of a signature keeps its place in the count, and is no product.
      is_mark = node.type == "operator" and node.parent.type in _SIGNATURES
      self.lines.append(0 if is_mark else start[0])
    return node


def paths(patterns: Sequence[str] = CORE) -> list[str]:
  found = {
    str(path.relative_to(ROOT))
    for pattern in patterns
    for path in (ROOT / "hyperjax").glob(pattern)
  }
  return sorted(found - {f"hyperjax/{name}" for name in LEFT_OUT})


def _told(tree: ast.AST) -> set[int]:
  """Lines of annotations, of what errors say, of how dataclasses are made.

  No program's result depends on them; the type checker reads the last.
  """
  parts: list[ast.AST | None] = []
  for node in ast.walk(tree):
    match node:
      case ast.FunctionDef():
        parts.append(node.returns)
      case ast.arg():
        parts.append(node.annotation)
      case ast.AnnAssign(value=None) | ast.Raise():
        parts.append(node)
      case ast.ClassDef():
        parts += node.decorator_list
  return {
    line
    for part in parts
    if part is not None
    for line in range(part.lineno, (part.end_lineno or 0) + 1)
  }


def of_file(path: str) -> list[Mutant]:
  """All that can be changed in one file, in the order of operators and lines."""
  text = (ROOT / path).read_text()
  told = _told(ast.parse(text))
  found = []
  for name, operator in OPERATORS.items():
    positions = _Positions(operator)
    positions.walk(parso.parse(text))
    found += [
      Mutant(path, line, name, occurrence)
      for occurrence, line in enumerate(positions.lines)
      if line and line not in told
    ]
  return found


def draw(seed: int, count: int, patterns: Sequence[str] = CORE) -> list[Mutant]:
  """`count` faults at different lines, the same for the same source and seed.

  A line is drawn first and one of its faults then, since some lines have many.
  """
  lines: dict[tuple[str, int], list[Mutant]] = {}
  for path in paths(patterns):
    for mutant in of_file(path):
      lines.setdefault((mutant.path, mutant.line), []).append(mutant)
  generator = random.Random(seed)
  chosen = []
  for place in generator.sample(sorted(lines), len(lines)):
    mutant = generator.choice(lines[place])
    if len(chosen) == count:
      break
    if mutant.source() is not None:
      chosen.append(mutant)
  return chosen
