"""BERT and its medical offspring: encoders, bidirectional as they come, with norms after each half."""

from __future__ import annotations

from backbones.family import Family, plain_parameters
from backbones.spec import BackboneSpec

FAMILY = Family(
    name="bert",
    module="transformers.models.bert.modeling_bert",
    configuration="BertConfig",
    model="BertPreTrainedModel",
    layer="BertLayer",
    rotary="",
    keys={"hidden_size": "width", "num_attention_heads": "heads", "intermediate_size": "ffn"},
    parameters=plain_parameters,
    prefixes=("bert.encoder.layer.{i}.", "encoder.layer.{i}."),
    ignored=(),
    renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},  # as TensorFlow has them
)


def _row(name: str, repo: str, licence: str, citation: str, source: str) -> BackboneSpec:
    """A model of BERT-base's shape, whose settings are the defaults of BertConfig."""
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    return BackboneSpec(
        name=name,
        family="bert",
        repo=repo,
        width=768,
        layers=12,
        layer=11,
        licence=licence,
        config=sizes,
        citation=citation,
        source=source,
    )


ROWS = (
    _row(
        "bert-base",
        "google-bert/bert-base-uncased",
        licence="Apache-2.0",
        citation="Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, arXiv 1810.04805",
        source="defaults of transformers' BertConfig; licence on the hub's page",
    ),
    _row(
        "biobert",
        "dmis-lab/biobert-v1.1",
        licence="Apache-2.0",
        citation="Lee et al., BioBERT: a pre-trained biomedical language representation model, arXiv 1901.08746",
        source="public copy of config.json; licence of the authors' repository, not seen on the hub's page",
    ),
    _row(
        "clinicalbert",
        "emilyalsentzer/Bio_ClinicalBERT",
        licence="MIT",
        citation="Alsentzer et al., Publicly Available Clinical BERT Embeddings, arXiv 1904.03323",
        source="public copy of the sizes; licence on the hub's page",
    ),
)
