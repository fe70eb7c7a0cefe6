"""Statistics of a study over centres and seeds."""
