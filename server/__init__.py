"""What the coordinator runs: the round loop, the gate, the journal, external validation, reports, the command line."""
