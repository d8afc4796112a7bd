"""Tests, in rooms as the package has them; `support` holds what they share."""
