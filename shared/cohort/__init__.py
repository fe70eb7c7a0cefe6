"""The cases of a site: table, labels and their rules, splits by patient, and the checks before images are read."""
