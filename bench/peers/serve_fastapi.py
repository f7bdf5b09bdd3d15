"""The original's server: FastAPI, which computes one text after the other on all threads."""

from classifier import Classifier
from fastapi import FastAPI
from pydantic import BaseModel

classifier = Classifier()
app = FastAPI()


class Sentence(BaseModel):
    text: str


@app.post("/inference")
async def inference(sentence: Sentence):
    return classifier.classify(sentence.text)


@app.get("/readyz")
async def readyz():
    return {}
