"""Intervals and tests: numbers in, numbers out. Knows neither models nor what a good answer is."""
