"""The loop of a federation: sites found, asked, checked, averaged."""
