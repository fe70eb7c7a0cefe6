"""Monitoring of a run: a snapshot of its folder, served over gRPC and shown on a local web page; MLflow tracking."""
