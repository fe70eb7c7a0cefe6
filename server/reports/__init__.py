"""The self-contained HTML report: page, figures, pictures."""
