"""Deployment of a consortium's server: SuperLink on loopback, nginx in front, members, and runs submitted to it."""
