"""Mammography: CC and MLO of one breast, each a 2D image in 0..1 with the chest wall at the left."""
