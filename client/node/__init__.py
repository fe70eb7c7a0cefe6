"""The SuperNode of a hospital and what keeps it running."""
