"""Headgate's parts and processes as tests start them, and fakes of what surrounds them."""
