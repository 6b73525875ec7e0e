"""A backbone of one's own: one file and the entry point in pyproject.toml. `pip install ./examples/plug_in` adds it."""

from backbones.spec import BackboneSpec

ROWS = (
    BackboneSpec(
        name="my-gpt2",
        family="gpt2",  # a family that is there already; a new architecture adds FAMILY = Family(...) to this file
        repo="someone/my-gpt2",
        width=64,
        layers=2,
        layer=1,
        licence="MIT",
        config={"n_embd": 64, "n_layer": 2, "n_head": 4},
    ),
)
