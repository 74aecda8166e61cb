"""Weights of other programs in, adapters out."""
