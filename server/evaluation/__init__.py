"""What the models are worth: external validation, rows of results, comparisons, saliency."""
