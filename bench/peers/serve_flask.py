"""The book's server: Flask, of which gunicorn starts as many as the bench says, each with a model."""

from classifier import Classifier
from flask import Flask, jsonify, request

classifier = Classifier()
app = Flask(__name__)


@app.post("/inference")
def inference():
    return jsonify(classifier.classify(request.get_json()["text"]))


@app.get("/readyz")
def readyz():
    return {}
