"""Helpers of tests that look at the page in a real browser."""
