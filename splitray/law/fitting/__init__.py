"""Fitting: regression, the choice of a form by what it foretells, the bootstrap, warnings about the data."""
