"""Several processes that run one command together."""

import argparse


def join(known: argparse.Namespace) -> None:
  """Makes this process one of several, where the options say so."""
  given = (known.coordinator_address, known.process_count, known.process_index)
  is_named = [value is not None for value in given]
  if any(is_named) and not all(is_named):
    raise ValueError(
      "--coordinator_address, --process_count and --process_index go together"
    )
  if not any(is_named) and not known.distributed:
    return
  if any(is_named) and known.process_index >= known.process_count:
    raise ValueError(
      "--process_index must be below --process_count, which is "
      f"{known.process_count}; got {known.process_index}"
    )
  import jax

  jax.distributed.initialize(*given)
