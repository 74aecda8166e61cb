"""Flax linen modules: T5, the hypermodel, their heads, problems, decoding."""
