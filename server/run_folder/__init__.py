"""What lies on disk of a run or a study, read and written in one place."""
