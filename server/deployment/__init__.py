"""Serving a consortium: Flower's SuperLink on loopback, nginx in front, revocation, and runs submitted to it."""
