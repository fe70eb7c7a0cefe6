"""Metrics: their declarations, sums that add up over sites, and the statistics behind them."""
