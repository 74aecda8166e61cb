"""Stored tokens, few-shot episodes and text windows; seqio at the edge."""
