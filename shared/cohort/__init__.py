"""Who is in: the table of cases, labels and their rules, splits by patient, the preflight of a site folder."""
