"""Seeing a run while it goes on: its folder as a snapshot, told over gRPC, shown on a local page."""
