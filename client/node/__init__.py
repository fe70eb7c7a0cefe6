"""A hospital's SuperNode and the processes beside it."""
