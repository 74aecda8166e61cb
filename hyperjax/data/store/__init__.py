"""Stored tokens: each task once, made side by side, read by index."""
