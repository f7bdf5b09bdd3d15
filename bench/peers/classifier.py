"""The job's model in PyTorch, as one would serve it: evaluation mode, no gradients, one text at a
time and therefore unpadded. Two bugs of the original, dropout on while serving and labels in random
order, are not taken over: they would not make it slower."""

import os

import torch
from common import read_tokenizer
from transformers import BertForSequenceClassification


class Classifier:
    def __init__(self):
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        folder = os.environ["MODEL"]
        self.tokenizer = read_tokenizer(folder, int(os.environ["NUM_MAX_POSITIONS"]))
        self.model = BertForSequenceClassification.from_pretrained(folder).eval()
        self.names = [name for _, name in sorted(self.model.config.id2label.items())]

    @torch.inference_mode()
    def classify(self, text):
        ids = torch.tensor([self.tokenizer.encode(text).ids])
        probabilities = self.model(ids).logits[0].softmax(0).tolist()
        return dict(zip(self.names, probabilities))
