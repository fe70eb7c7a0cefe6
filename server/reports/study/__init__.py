"""The report of a cross-centre study: its page, the checklists it answers, its model card."""
