"""From a study to what a network reads: bias field, breast crop, resampling, intensity, cache, fingerprint."""
