"""Leave-one-centre-out studies: design, runner, arms."""
