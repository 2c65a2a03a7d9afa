"""The clients that people have, against a server at the given address: `clients.py http://127.0.0.1:8080`.

Loads every model of `models/` into a slot of its name and compares what the clients get with `pipelines.json`, what the
pipelines of transformers answered. Started by `run`.
"""
import json
import sys
import urllib.request
from pathlib import Path

import numpy as np
from huggingface_hub import InferenceClient
from tritonclient import http as triton

HERE = Path(__file__).parent
BASE = sys.argv[1].rstrip("/")
GOLDEN = json.loads((HERE / "pipelines.json").read_text())
TEXTS = GOLDEN["texts"]


def near(got, expected, what):
    assert abs(got - expected) < 1e-4, f"{what}: {got} instead of {expected}"


def post(path, body):
    request = urllib.request.Request(BASE + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))


def load(name, folder):
    body = json.dumps({"parameters": {"path": str(folder.resolve())}}).encode()
    address = f"{BASE}/v2/repository/models/{name}/load"
    urllib.request.urlopen(urllib.request.Request(address, body, {"Content-Type": "application/json"}))


def scores(rows):
    return {row["label"]: row["score"] for row in rows}


def same_scores(got, expected, what):
    assert got.keys() == expected.keys(), f"{what}: {got} instead of {expected}"
    for label in expected:
        near(got[label], expected[label], f"{what} {label}")


def hugging_face(name, answers):
    client = InferenceClient(model=f"{BASE}/models/{name}")
    if "labels" in answers:
        for text, expected in zip(TEXTS, answers["labels"]):
            got = client.text_classification(text)
            same_scores({e.label: e.score for e in got}, scores(expected), name)
            assert [e.score for e in got] == sorted((e.score for e in got), reverse=True)
            assert len(client.text_classification(text, top_k=1)) == 1
    for key, multi in [("zero_shot", False), ("zero_shot_multi", True)]:
        for text, expected in zip(TEXTS, answers.get(key, [])):
            got = client.zero_shot_classification(text, GOLDEN["labels"], multi_label=multi)
            same_scores({e.label: e.score for e in got}, dict(zip(expected["labels"], expected["scores"])), f"{name} {key}")
    for strategy in ["none", "simple", "first", "average", "max"]:
        for text, expected in zip(TEXTS, answers.get(strategy, [])):
            got = client.token_classification(text, aggregation_strategy=strategy)
            label = (lambda e: e.entity) if strategy == "none" else (lambda e: e.entity_group)
            key = "entity" if strategy == "none" else "entity_group"
            assert [(label(e), e.word, e.start, e.end) for e in got] == \
                [(e[key], e["word"], e["start"], e["end"]) for e in expected], f"{name} {strategy} {text}"
            for g, e in zip(got, expected):
                near(g.score, e["score"], f"{name} {strategy}")
    for text, expected in zip(TEXTS, answers.get("features", [])):
        got = client.feature_extraction(text)
        assert np.abs(got - np.array(expected, dtype="float32")).max() < 1e-4, name
    if "features" in answers:
        similar = client.sentence_similarity(TEXTS[0], other_sentences=[TEXTS[0], TEXTS[4]])
        near(similar[0], 1.0, name)
        assert similar[1] < 0.9999, similar


def open_inference(name, answers):
    client = triton.InferenceServerClient(BASE.removeprefix("http://"))
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(name)
    assert client.get_model_metadata(name)["inputs"][0]["name"] == "TEXT"
    if "labels" not in answers:
        return
    tensor = triton.InferInput("TEXT", [len(TEXTS)], "BYTES")
    for binary in (True, False):
        tensor.set_data_from_numpy(np.array([t.encode() for t in TEXTS], dtype=object), binary_data=binary)
        reply = client.infer(name, [tensor], outputs=[
            triton.InferRequestedOutput("LABEL", binary_data=binary), triton.InferRequestedOutput("SCORE", binary_data=binary)])
        for label, score, expected in zip(reply.as_numpy("LABEL"), reply.as_numpy("SCORE"), answers["labels"]):
            label = label.decode() if isinstance(label, bytes) else label
            assert label == expected[0]["label"], f"{name}: {label} instead of {expected[0]}"
            near(float(score), expected[0]["score"], f"{name} over tritonclient")


def others():
    """Shapes without a client of their own: text-embeddings-inference, vLLM."""
    folder = HERE / "models/bert-sentiment"
    load("sentiment", folder)
    answers = GOLDEN["models"]["bert-sentiment"]
    predicted = post("/predict", {"inputs": [[t] for t in TEXTS]})
    classified = post("/classify", {"input": TEXTS})
    labels = ["negative", "neutral", "positive"]
    for i, expected in enumerate(answers["labels"]):
        same_scores(scores(predicted[i]), scores(expected), "/predict")
        same_scores(dict(zip(labels, classified["data"][i]["probs"])), scores(expected), "/classify")
        assert classified["data"][i]["label"] == expected[0]["label"]


def main():
    for folder in sorted((HERE / "models").iterdir()):
        load(folder.name, folder)
    index = {m["name"]: m["state"] for m in triton.InferenceServerClient(BASE.removeprefix("http://")).get_model_repository_index()}
    for name, answers in GOLDEN["models"].items():
        assert index[name] == "READY"
        hugging_face(name, answers)
        open_inference(name, answers)
        print(f"ok  {name}")
    others()
    client = triton.InferenceServerClient(BASE.removeprefix("http://"))
    client.unload_model("bert-ner")
    assert not client.is_model_ready("bert-ner")
    client.load_model("bert-ner")
    assert client.is_model_ready("bert-ner")
    print("ok  load, unload, /predict, /classify")


if __name__ == "__main__":
    main()
