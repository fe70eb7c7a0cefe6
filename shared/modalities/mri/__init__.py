"""Dynamic contrast-enhanced MRI of the breast."""
