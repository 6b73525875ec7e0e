"""Between tensors as bytes and torch's tensors. The only place that knows the names of dtypes on both sides."""

from __future__ import annotations

import torch
from torch import Tensor

from backbones.errors import WeightsError
from backbones.safetensors_file import Raw

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def as_tensor(raw: Raw) -> Tensor:
    """A view of the bytes, without a copy unless they lie at an address that the dtype does not allow."""
    dtype = DTYPES[raw.dtype]
    if not len(raw.data):
        return torch.empty(raw.shape, dtype=dtype)
    if torch.frombuffer(raw.data, dtype=torch.uint8).data_ptr() % dtype.itemsize:
        return torch.frombuffer(bytearray(raw.data), dtype=dtype).reshape(raw.shape)
    return torch.frombuffer(raw.data, dtype=dtype).reshape(raw.shape)


def as_raw(tensor: Tensor) -> Raw:
    """The tensor's bytes, copied: the tensor may be a map of a file that is about to go."""
    if tensor.dtype not in NAMES:
        raise WeightsError(f"a tensor of type {tensor.dtype} cannot be read; what works: bf16, fp16 or fp32")
    copy = torch.empty(tensor.shape, dtype=tensor.dtype)
    copy.copy_(tensor.detach())
    return Raw(NAMES[tensor.dtype], tuple(tensor.shape), copy.reshape(-1).view(torch.uint8).numpy().data)
