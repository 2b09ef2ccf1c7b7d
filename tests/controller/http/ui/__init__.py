"""Tests of `controller.http.ui`: its requests, and the page in a real browser."""
