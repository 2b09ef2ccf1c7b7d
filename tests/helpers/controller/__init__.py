"""Headgate's parts and processes as tests start them, and the fakes that stand around them."""
