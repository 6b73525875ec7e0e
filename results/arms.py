"""Which trials are of one arm, and what people read as its name. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable

from results.record import TrialSpec, arm_label, share_label

#: backbone, control, layer, fraction: trials that agree in these are of one arm.
Arm = tuple[str, str, int | None, float]


def arm_key(spec: TrialSpec) -> Arm:
    """The arm that a trial is of."""
    return (spec.backbone, spec.control, spec.layer, spec.fraction)


def arm_names(specs: Iterable[TrialSpec]) -> dict[Arm, str]:
    """Arm → the name that people read. Layer and fraction are named only where arms differ in them."""
    arms = {arm_key(spec) for spec in specs}
    fractions = {arm[3] for arm in arms}
    names = {}
    for backbone, control, layer, fraction in arms:
        layers = {arm[2] for arm in arms if arm[:2] == (backbone, control)}
        name = arm_label(f"{backbone}@{layer}" if len(layers) > 1 else backbone, control)
        names[backbone, control, layer, fraction] = f"{name}, {share_label(fraction)}" if len(fractions) > 1 else name
    return names
