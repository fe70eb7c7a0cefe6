"""What runs inside a hospital: it answers the coordinator's messages with training on the site's own cases."""
