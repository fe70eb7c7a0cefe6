"""What the preprocessing of every modality uses: resampling, histograms, and the cache of prepared cases."""
