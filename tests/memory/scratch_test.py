"""What lies inside library calls of a program's text, counted by hand."""

from hyperjax.memory import scratch

# Scores of 10 by 10, what is subtracted, and their exponential; a sum of rows.
ATTENTION = """
%inside (a: f32[10,4], b: f32[10,4]) -> f32[10,4] {
  %a = f32[10,4]{1,0} parameter(0)
  %b = f32[10,4]{1,0} parameter(1)
  %scores = f32[10,10]{1,0} dot(%a, %b), lhs_contracting_dims={1}
  %least = f32[] constant(-inf)
  %top = f32[10]{0} reduce(%scores, %least), dimensions={1}, to_apply=%max
  %wide = f32[10,10]{1,0} broadcast(%top), dimensions={0}
  %less = f32[10,10]{1,0} subtract(%scores, %wide)
  %exp = f32[10,10]{1,0} exponential(%less)
  ROOT %out = f32[10,4]{1,0} dot(%exp, %b), lhs_contracting_dims={1}
}
"""
MASK = """
%mask (a: s32[7]) -> pred[7] {
  %a = s32[7]{0} parameter(0)
  %one = pred[7]{0} compare(%a, %a), direction=EQ
  ROOT %not = pred[7]{0} not(%one)
}
"""


def _program(*calls):
  lines = [
    f"  %x.{i} = f32[10,4]{{1,0}} fusion(%p), kind=kCustom, calls={name}, "
    f'backend_config={{"fusion_config":{{"kind":"{kind}"}}}}'
    for i, (name, kind) in enumerate(calls)
  ]
  whole = "\n".join(["ENTRY %main (p: f32[10,4]) -> f32[10,4] {", *lines, "}"])
  return ATTENTION + MASK + whole + "\n"


def test_the_most_that_is_alive_at_once_counts():
  # Scores, what is subtracted and the difference; no argument and no result.
  found = scratch.largest(_program(("%inside", "__ynn_fusion")))
  assert found == 3 * 10 * 10 * 4


def test_the_largest_of_several_counts_and_a_truth_value_takes_a_byte():
  both = (("%inside", "__ynn_fusion"), ("%mask", "__ynn_fusion"))
  assert scratch.largest(_program(*both)) == 1200
  assert scratch.largest(_program(both[1])) == 7


def test_what_is_compiled_into_loops_holds_nothing():
  assert scratch.largest(_program(("%inside", "kLoop"))) == 0
  assert scratch.largest("") == 0
