"""Figures. Every function gives a free-standing matplotlib Figure, or None where there is nothing to draw."""
