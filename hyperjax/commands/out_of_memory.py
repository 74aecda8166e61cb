"""What a command says where memory lacks; imports nothing heavy."""

from hyperjax.memory import answer, capacity

# What to lower where nobody knows more: what decides how much a command takes.
_ADVICE = {
  "train": "raise NUM_MICROBATCHES, or lower BATCH_SIZE or TASK_FEATURE_LENGTHS",
  "eval": "lower EVAL_TOKENS_PER_BATCH",
  "cache": "lower SeqioTasks.num_processes",
  "predict": "lower --batch_size",
  "adapt": "give fewer --examples at a time",
  "adapter": "give fewer folders at a time",
  "export": "take --no-verify, or a machine with more memory",
  "import": "leave out --check, or take a machine with more memory",
}


def found(command: str, error: BaseException) -> answer.OutOfMemory | None:
  """The answer, if an error or one that it came from says that memory lacks."""
  lacking = answer.found(error)
  if lacking is None:
    return None
  if not isinstance(lacking, answer.OutOfMemory):
    lacking = answer.OutOfMemory(
      f"`hyperjax {command}`", answer.asked_for(lacking), capacity.of(lacking)
    )
  return (
    lacking if lacking.advice else lacking.advised(_ADVICE.get(command, ""))
  )
