"""Evaluation: mergeable counts, overlap and surface metrics, agreement, intervals."""
