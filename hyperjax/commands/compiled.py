"""Compiled programs are kept, so that a command starts quickly next time."""

import os

from hyperjax import paths

SETTING = "HYPERJAX_COMPILED"


def keep() -> None:
  """Keeps programs in the user's cache folder.

  `HYPERJAX_COMPILED` names another folder, or is "off". JAX's own
  `JAX_COMPILATION_CACHE_DIR` comes before it. Of several processes of a run all read
  it, and the first writes.
  """
  import jax  # not for --help

  chosen = os.environ.get(SETTING)
  if chosen == "off" or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    return
  try:
    folder = chosen or str(paths.user_cache() / "compiled")
  except RuntimeError:  # there is no home
    return
  jax.config.update("jax_compilation_cache_dir", folder)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
