"""A run's configuration: strict TOML and its sections."""
