"""Processes, logs, progress and the audit log of both sides."""
