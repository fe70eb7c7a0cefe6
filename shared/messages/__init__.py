"""Instructions and replies, and the records they travel in."""
