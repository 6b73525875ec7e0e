"""Where a NIfTI header puts its voxels, and what is odd about it.

NIfTI-1 has three answers: the sform (any affine), the qform (a rotation and the voxel sizes `pixdim`), and `pixdim`
alone. The first that is there counts, as in nibabel (https://nifti.nimh.nih.gov/nifti-1, "method 1, 2, 3").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import nibabel as nib

#: Axes farther than this from right angles are told of: rounding in a header gives less.
_SHEAR_DEGREES = 0.5
#: Voxel sizes of two parts of a header that differ by more than this part are told of.
_SIZE_TOLERANCE = 0.01
#: The volume of a voxel over the product of its edges: below this its axes lie in a plane.
_FLAT = 1e-6


class Geometry(NamedTuple):
    """affine (4, 4), voxel index to mm, RAS+; faults: why it is none; notices: what a user should know of it."""

    affine: np.ndarray
    faults: tuple[str, ...]
    notices: tuple[str, ...]


def geometry_of(header: nib.Nifti1Header, pixdim: tuple[float, ...]) -> Geometry:
    """The geometry of a checked header; pixdim are its three voxel sizes as they stood in the file."""
    from nibabel.spatialimages import HeaderDataError

    has_sform, has_qform = bool(header["sform_code"]), bool(header["qform_code"])
    faults, notices = [], []
    if not all(size > 0 for size in pixdim):
        text = f"voxel size (pixdim) is {_sizes(pixdim)}"
        if has_sform:
            notices.append(f"{text}; the sform is used instead")
        else:
            faults.append(f"{text}; each must be above 0, and a flip belongs into the sform or qform")
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        affine = np.asarray(header.get_base_affine(), dtype=np.float64)
        faults.append(f"qform is no rotation ({error}); save the image with a valid affine")
    faults += _affine_faults(affine)
    if not has_sform and not has_qform:
        notices.append("has neither sform nor qform, so left and right are a guess")
    if not faults:
        notices += _affine_notices(affine, pixdim)
    return Geometry(affine, tuple(faults), tuple(notices))


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Voxel size in millimetres along the three array axes of an affine (4, 4)."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def shear_of(affine: np.ndarray) -> float:
    """Degrees by which two array axes miss a right angle, at most."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.abs(axes.T @ axes)[np.triu_indices(3, 1)]
    return float(np.degrees(np.arcsin(min(1.0, cosines.max()))))


def _affine_faults(affine: np.ndarray) -> list[str]:
    if not np.isfinite(affine).all():
        return ["affine holds NaN or infinity; save the image with a valid affine"]
    spacing = spacing_of(affine)
    edges = float(np.prod(spacing))
    if not edges or abs(np.linalg.det(affine[:3, :3])) < _FLAT * edges:
        return [f"affine has no volume (voxel size {_sizes(spacing)}); save it with three independent axes, none 0 mm"]
    return []


def _affine_notices(affine: np.ndarray, pixdim: tuple[float, ...]) -> list[str]:
    notices, spacing = [], spacing_of(affine)
    if all(size > 0 for size in pixdim) and not np.allclose(spacing, pixdim, rtol=_SIZE_TOLERANCE, atol=0):
        sizes = f"{_sizes(spacing)} by the sform and {_sizes(pixdim)} by pixdim"
        notices.append(f"voxel size is {sizes}; the sform is used")
    if (shear := shear_of(affine)) > _SHEAR_DEGREES:
        notices.append(
            f"axes are sheared by {shear:.1f}°; voxels are counted right, but distances in mm take right angles"
        )
    return notices


def _sizes(spacing: tuple[float, ...]) -> str:
    return " × ".join(f"{size:.4g}" for size in spacing) + " mm"
