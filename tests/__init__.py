"""Tests, in folders by concept; nothing here is imported by the product."""
