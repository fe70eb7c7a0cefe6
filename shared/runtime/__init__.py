"""Processes, logs, progress, the audit log, and Flower's private names behind one guard: of both sides."""
