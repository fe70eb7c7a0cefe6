"""A modality a folder: all that the system knows of one kind of images."""
