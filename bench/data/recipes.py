"""What each phantom task looks like, as data. `bench/data/phantom.py` draws it.

Positions and radii are shares of the half field of view: -1 to 1 from left to right, posterior to anterior, inferior
to superior. Values are Hounsfield units for CT and parts of a scale to 100 for MRI, one a channel. They are chosen so
that what is wanted overlaps with what is not: a threshold alone finds none of the labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Shape:
    """One structure; a later shape is painted over an earlier one, and shapes of one name form one host.

    kind `ellipsoid` has a centre (None: anywhere in its host) and radii; `tube` runs along path, radii[0] wide, with
    branches to random places of its host; `core` is the inner part, radii[0] of the way out, of its host.
    inside names the host, which cuts the shape. count is how many there are, at least and at most.
    label 0 is a distractor. spread is the standard deviation of the value between cases.
    """

    name: str
    value: tuple[float, ...]
    radii: Point = (0.1, 0.1, 0.1)
    centre: Point | None = None
    kind: str = "ellipsoid"
    inside: str = ""
    path: tuple[Point, ...] = ()
    branches: int = 0
    count: tuple[int, int] = (1, 1)
    label: int = 0
    spread: float = 8.0


@dataclass(frozen=True)
class Recipe:
    """A task: ids start with prefix; fov is the field of view in mm; outside is the value beyond every shape.

    noise and texture are standard deviations; bias is the strength of the receive field (0: CT). stripped sets
    everything beyond the first shape to exactly 0, as skull stripping does.
    """

    prefix: str
    fov: Point
    outside: tuple[float, ...]
    shapes: tuple[Shape, ...]
    noise: float
    texture: float
    bias: float = 0.0
    stripped: bool = False


def _ct(name: str, value: float, centre: Point | None, radii: Point, **more: object) -> Shape:
    return Shape(name, (value,), radii, centre, **more)  # type: ignore[arg-type]


def _core(name: str, host: str, share: float, *value: float, **more: object) -> Shape:
    return Shape(name, value, (share, share, share), None, "core", host, **more)  # type: ignore[arg-type]


_TRUNK = (
    _ct("body", -95, (0, 0, 0), (0.93, 0.78, 1.6)),
    _core("wall", "body", 0.88, 55),
    _core("fat", "body", 0.76, -90),
    _ct("spine", 330, (0, -0.5, 0), (0.13, 0.13, 1.6), spread=60),
    _ct("kidney", 150, (0.36, -0.32, -0.3), (0.16, 0.15, 0.34), spread=15),
    _ct("kidney", 150, (-0.36, -0.32, -0.25), (0.16, 0.15, 0.34), spread=15),
    _ct("stomach", 45, (-0.22, 0.3, 0.25), (0.27, 0.2, 0.3)),
)
_LIVER = _ct("liver", 105, (0.36, 0.12, 0.18), (0.4, 0.46, 0.55), spread=10)
_SPLEEN = _ct("spleen", 112, (-0.56, -0.14, 0.25), (0.17, 0.3, 0.36), spread=10)
_SPINE = _ct("spine", 330, (0, -0.52, 0), (0.13, 0.13, 1.6), spread=60)
_DUCT = ((0.3, 0.0, -0.3), (0.2, 0.12, -0.1), (-0.05, 0.02, 0.0), (-0.35, -0.05, 0.12))
_ARCH = (
    *((0.5, -0.1, -0.7), (0.55, 0.0, 0.35), (0.15, 0.35, 0.3)),
    *((-0.2, 0.3, 0.35), (-0.55, 0.0, 0.4), (-0.5, -0.1, -0.6)),
)
_SINUS = ((0, 0.7, 0.3), (0, 0, 0.66), (0, -0.7, 0.3))
_AORTA = ((-0.12, -0.42, -0.9), (-0.1, -0.4, 0.4), (0.0, 0.0, 0.66))
_HORN = ((0.35, -0.8, 0.25), (0.3, 0, 0.1), (0.2, 0.7, 0.1))
_PORTAL = ((0.0, -0.25, -0.35), (0.1, 0.0, 0.0), (0.15, 0.25, 0.2))

# fmt: off
RECIPES: dict[str, Recipe] = {
    "Task01_BrainTumour": Recipe(
        "BRATS", (180, 190, 165), (0, 0, 0, 0),
        (
            Shape("brain", (52, 55, 55, 55), (0.8, 0.88, 0.78), (0, 0, 0), spread=4),
            _core("white", "brain", 0.72, 46, 67, 67, 43, spread=4),
            Shape("ventricle", (18, 25, 25, 92), (0.1, 0.34, 0.16), (0.13, 0, 0.08), spread=4),
            Shape("ventricle", (18, 25, 25, 92), (0.1, 0.34, 0.16), (-0.13, 0, 0.08), spread=4),
            Shape("spots", (74, 56, 56, 66), (0.08, 0.1, 0.07), None, inside="white", count=(2, 5), spread=5),
            Shape("vein", (52, 58, 88, 50), (0.05,) * 3, None, "tube", path=_SINUS),
            Shape("edema", (78, 50, 50, 77), (0.38, 0.42, 0.36), None, inside="white", label=1, spread=5),
            _core("rim", "edema", 0.68, 72, 50, 88, 70, label=3, spread=6),
            _core("necrosis", "edema", 0.42, 62, 36, 40, 82, label=2, spread=6),
        ),
        noise=6, texture=6, bias=0.12, stripped=True,
    ),
    "Task02_Heart": Recipe(
        "la", (270, 260, 190), (4,),
        (
            Shape("body", (48,), (0.95, 0.8, 1.6), (0, 0, 0), spread=4),
            Shape("lung", (12,), (0.32, 0.5, 0.85), (0.56, 0, 0), spread=3),
            Shape("lung", (12,), (0.28, 0.48, 0.85), (-0.6, 0, 0), spread=3),
            Shape("muscle", (42,), (0.44, 0.42, 0.52), (-0.1, 0.1, -0.1), spread=4),
            Shape("ventricle", (78,), (0.18, 0.22, 0.34), (-0.26, 0.16, -0.2), spread=5),
            Shape("ventricle", (76,), (0.18, 0.2, 0.32), (0.1, 0.26, -0.16), spread=5),
            Shape("aorta", (80,), (0.1,) * 3, None, "tube", path=_AORTA),
            Shape("atrium", (76,), (0.26, 0.2, 0.3), (-0.02, -0.16, 0.12), label=1, spread=5),
        ),
        noise=7, texture=5, bias=0.25,
    ),
    "Task03_Liver": Recipe(
        "liver", (350, 330, 300), (-1000,),
        (
            *_TRUNK, _SPLEEN, replace(_LIVER, label=1),
            _ct("cyst", 15, None, (0.09, 0.09, 0.1), inside="liver", count=(0, 2), label=1),
            _ct("cancer", 62, None, (0.19, 0.19, 0.2), inside="liver", count=(1, 2), label=2, spread=10),
        ),
        noise=20, texture=9,
    ),
    "Task04_Hippocampus": Recipe(
        "hippocampus", (40, 52, 42), (50,),
        (
            Shape("white", (70,), (0.4, 0.8, 0.35), (0.55, 0, 0.45), spread=4),
            Shape("white", (70,), (0.5, 0.9, 0.3), (-0.4, 0, -0.65), spread=4),
            Shape("fluid", (20,), (0.12,) * 3, None, "tube", path=_HORN, spread=4),
            Shape("gyrus", (62,), (0.2, 0.5, 0.18), (-0.6, 0.1, 0.4), spread=4),
            Shape("posterior", (64,), (0.26, 0.74, 0.25), (-0.02, 0, -0.02), label=2, spread=4),
            Shape("anterior", (66,), (0.5, 0.55, 0.5), (-0.02, 0.56, -0.02), inside="posterior", label=1, spread=4),
        ),
        noise=6, texture=5, bias=0.15,
    ),
    "Task05_Prostate": Recipe(
        "prostate", (130, 130, 96), (3, 3),
        (
            Shape("body", (38, 42), (1.6, 1.6, 1.6), (0, 0, 0), spread=4),
            Shape("muscle", (22, 36), (0.22, 0.5, 0.9), (0.72, 0, 0), spread=4),
            Shape("muscle", (22, 36), (0.22, 0.5, 0.9), (-0.72, 0, 0), spread=4),
            Shape("bladder", (88, 90), (0.42, 0.36, 0.36), (0, 0.3, 0.72), spread=5),
            Shape("rectum", (14, 10), (0.2, 0.18, 1.2), (0, -0.66, 0), spread=4),
            Shape("vesicle", (76, 66), (0.3, 0.12, 0.12), (0, -0.3, 0.55), spread=5),
            Shape("peripheral", (72, 66), (0.44, 0.38, 0.46), (0, -0.04, -0.06), label=1, spread=5),
            Shape("transition", (48, 48), (0.3, 0.26, 0.34), (0, 0.1, -0.02), inside="peripheral", label=2, spread=5),
            Shape("nodule", (62, 56), (0.09, 0.09, 0.1), None, inside="transition", count=(1, 3), label=2, spread=5),
        ),
        noise=6, texture=6, bias=0.25,
    ),
    "Task06_Lung": Recipe(
        "lung", (360, 310, 310), (-1000,),
        (
            _ct("body", -60, (0, 0, 0), (0.93, 0.8, 1.6)),
            _core("wall", "body", 0.92, 50),
            _SPINE,
            _ct("lung", -800, (0.44, 0, 0), (0.36, 0.54, 0.84), spread=30),
            _ct("lung", -800, (-0.46, 0, 0), (0.34, 0.54, 0.84), spread=30),
            _ct("heart", 60, (-0.14, 0.14, -0.25), (0.34, 0.32, 0.42)),
            Shape("vessels", (30,), (0.045,) * 3, None, "tube", "lung", ((0.2, -0.1, 0.1), (0.5, -0.1, 0.0)), 5),
            Shape("vessels", (30,), (0.045,) * 3, None, "tube", "lung", ((-0.2, -0.1, 0.1), (-0.5, -0.1, 0.0)), 5),
            _ct("cancer", 20, None, (0.2, 0.2, 0.2), inside="lung", label=1, spread=15),
        ),
        noise=25, texture=12,
    ),
    "Task07_Pancreas": Recipe(
        "pancreas", (350, 330, 240), (-1000,),
        (
            *_TRUNK, _LIVER, _SPLEEN,
            _ct("bowel", 60, None, (0.14, 0.13, 0.16), inside="fat", count=(2, 4)),
            Shape("pancreas", (92,), (0.17,) * 3, None, "tube", path=_DUCT, label=1, spread=10),
            _ct("cancer", 52, None, (0.19, 0.19, 0.2), inside="pancreas", label=2, spread=10),
        ),
        noise=18, texture=9,
    ),
    "Task08_HepaticVessel": Recipe(
        "hepaticvessel", (260, 240, 220), (-1000,),
        (
            _ct("body", -95, (0, 0, 0), (1.2, 0.95, 1.6)),
            _ct("spine", 330, (-0.5, -0.66, 0), (0.16, 0.16, 1.6), spread=60),
            _ct("stomach", 45, (-0.72, 0.25, 0.2), (0.24, 0.26, 0.4)),
            _ct("kidney", 165, (0.3, -0.62, -0.55), (0.2, 0.18, 0.4), spread=15),
            _ct("liver", 95, (0.1, 0.08, 0.05), (0.68, 0.64, 0.7), spread=8),
            Shape("vessel", (165,), (0.085,) * 3, None, "tube", "liver", _PORTAL, 6, label=1, spread=12),
            _ct("tumour", 55, None, (0.22, 0.2, 0.22), inside="liver", count=(1, 2), label=2, spread=10),
        ),
        noise=18, texture=9,
    ),
    "Task09_Spleen": Recipe(
        "spleen", (350, 330, 260), (-1000,),
        (
            *_TRUNK, _LIVER,
            _ct("bowel", 60, None, (0.14, 0.13, 0.16), inside="fat", count=(2, 4)),
            replace(_SPLEEN, label=1),
        ),
        noise=20, texture=9,
    ),
    "Task10_Colon": Recipe(
        "colon", (370, 330, 370), (-1000,),
        (
            *_TRUNK[:4],
            _ct("bowel", 45, None, (0.15, 0.13, 0.15), inside="fat", count=(4, 7)),
            Shape("colon", (48,), (0.17,) * 3, None, "tube", path=_ARCH, spread=8),
            _core("lumen", "colon", 0.66, -650, spread=120),
            _ct("cancer", 72, None, (0.24, 0.24, 0.24), inside="colon", label=1, spread=10),
        ),
        noise=18, texture=9,
    ),
}
# fmt: on
