"""The page of `fedbreast check`: a thumbnail of each case, and what is told of it."""
