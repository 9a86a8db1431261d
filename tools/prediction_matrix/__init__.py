"""Prediction against reality: what edgepack says of a model without running it, and what the engines make of it."""
