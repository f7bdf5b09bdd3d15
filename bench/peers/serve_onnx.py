"""What one would reach for to serve on a CPU: ONNX Runtime with weights of 8 bits, behind FastAPI."""

import os
from pathlib import Path

import numpy
import onnxruntime
from common import read_tokenizer
from fastapi import FastAPI
from pydantic import BaseModel


class Classifier:
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
        model = Path(os.environ["ONNX_MODEL"])
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self.names = (model.parent / "labels").read_text().split()
        self.tokenizer = read_tokenizer(
            os.environ["MODEL"], int(os.environ["NUM_MAX_POSITIONS"])
        )

    def classify(self, text):
        ids = numpy.array([self.tokenizer.encode(text).ids], dtype=numpy.int64)
        (logits,) = self.session.run(["logits"], {"input_ids": ids})
        shares = numpy.exp(logits[0] - logits[0].max())
        return dict(zip(self.names, (shares / shares.sum()).tolist()))


class Sentence(BaseModel):
    text: str


classifier = Classifier()
app = FastAPI()


@app.post("/inference")
async def inference(sentence: Sentence):
    return classifier.classify(sentence.text)


@app.get("/readyz")
async def readyz():
    return {}
