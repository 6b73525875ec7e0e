"""How a block of another width joins the segmenter: mapper, block, norm, mapper, residual."""

from __future__ import annotations

from torch import Tensor, nn

from mvl.config import SegmenterConfig, Size3


class BlockAdapter(nn.Module):
    """Two linear "dimension mappers" around a block that maps (B, N, L) to (B, N, L).

    A last LLM block can amplify its input 400-fold, so its output is normalised before it is mapped back. The block
    arrives ready-made, frozen or not; this module neither loads nor freezes it. With mapper_lora = r the mappers keep
    their initial values and learn low-rank changes of rank r. Source: arXiv 2410.02458 (v3 for LoRA on the mappers);
    the norms are this project's choice.
    """

    def __init__(self, block: nn.Module, config: SegmenterConfig) -> None:
        super().__init__()
        width, block_width = config.width, int(block.width)  # type: ignore[arg-type]
        self.residual = config.residual
        self.norm_in = nn.LayerNorm(width)
        self.map_in = nn.Linear(width, block_width)
        self.block = block
        self.norm_out = nn.LayerNorm(block_width)
        self.map_out = nn.Linear(block_width, width)
        if config.mapper_lora:
            self._learn_by_lora(config.mapper_lora)

    def forward(self, x_BND: Tensor, grid: Size3) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        mapped_BNL = self.block(self.map_in(self.norm_in(x_BND)))
        out_BND = self.map_out(self.norm_out(mapped_BNL))
        return x_BND + out_BND if self.residual else out_BND

    def _learn_by_lora(self, rank: int) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        # PEFT freezes whatever it does not adapt, the norms and a block that is to be trained among it.
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=["map_in", "map_out"]), self)
        mappers = {*self.map_in.parameters(), *self.map_out.parameters()}
        for parameter in learning:
            parameter.requires_grad_(parameter not in mappers)
