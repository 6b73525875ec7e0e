"""The shared 3D ViT segmenter that every frozen block is plugged into.

Shape suffixes used throughout: B batch, C image channels, K classes with background, X Y Z voxels, N tokens,
D segmenter width, L width of the LLM block, U V W the token grid (N = U * V * W).
"""
