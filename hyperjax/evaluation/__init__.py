"""Predictions, scores and reports."""
