"""Writes the job's model as ONNX with weights of 8 bits.

usage: python bench/peers/export_onnx.py MODEL FOLDER

FOLDER gets model.onnx, model-int8.onnx, and labels, the names in the order of the logits.
"""

import sys
from pathlib import Path

import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import BertForSequenceClassification


class Logits(torch.nn.Module):
    """Ids to logits, of unpadded texts."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids, attention_mask=torch.ones_like(input_ids)).logits


def main():
    source, folder = map(Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    model = BertForSequenceClassification.from_pretrained(source, attn_implementation="eager")
    plain, quantized = folder / "model.onnx", folder / "model-int8.onnx"
    torch.onnx.export(
        Logits(model).eval(),
        (torch.randint(1000, 2000, (2, 16)),),
        plain,
        input_names=["input_ids"],
        output_names=["logits"],
        dynamic_shapes={"input_ids": {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=512)}},
        dynamo=True,
        external_data=False,
    )
    quantize_dynamic(plain, quantized, weight_type=QuantType.QInt8)
    names = [name for _, name in sorted(model.config.id2label.items())]
    (folder / "labels").write_text("\n".join(names) + "\n")


if __name__ == "__main__":
    main()
