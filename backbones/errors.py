"""What a user may have got wrong. Standard library only."""

from __future__ import annotations


class UnknownBackbone(ValueError):
    """A name that the registry does not have; the message names the nearest one."""


class PlugInError(ValueError):
    """A package that offers backbones cannot be used; the message names it and the entry point."""


class WeightsError(ValueError):
    """Weights were found but cannot be used: damaged, of another shape, refused; the message says what would work."""


class WeightsMissing(WeightsError):
    """No weights where they were looked for; the message says how to get them."""


class Interrupted(WeightsMissing):
    """A server could not be reached, or broke off too often. What has come is kept: the next try goes on from there."""
