"""Trains with PyTorch what the job trains, by the same recipe, and prints what it took as JSON.

usage: python bench/peers/train.py SIDE SPLIT

  SIDE   eager: as the original job does it: everything padded to NUM_MAX_POSITIONS, attention that
                stores its weights and drops out some, plain AdamW
         tuned: as one who knows PyTorch does it: reviews of like length together, padded to the
                longest; fused attention, which drops out nothing; fused AdamW. With TRAIN_BODY=0,
                as the job, each review's mean hidden state is computed once, and not timed, and a
                head on it is trained
  SPLIT  the split.json of a run of the job: the rows to train and to test on

All else is told by the job's own variables: MODEL, DATA, LR, SEED, ….
"""

import json
import os
import sys
import time

import torch
from common import clean, read_reviews, read_tokenizer
from transformers import BertForSequenceClassification

# In how many batches' worth of shuffled reviews those of like length are brought together.
GROUP_BATCHES = 50
TEST_BATCH_SIZE = 32


def variable(name, kind=float):
    return kind(os.environ[name])


def load_model(is_tuned, label_count):
    options = {"attn_implementation": "eager"}
    if is_tuned:
        options = {"attn_implementation": "sdpa", "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification.from_pretrained(
        os.environ["MODEL"], num_labels=label_count, dtype=torch.float32, **options
    )


class Head(torch.nn.Module):
    """The model's pooler and classifier, on features."""

    def __init__(self, model):
        super().__init__()
        self.pooler, self.dropout = model.bert.pooler.dense, model.dropout
        self.classifier = model.classifier

    def forward(self, features):
        return self.classifier(self.dropout(self.pooler(features).tanh()))


@torch.no_grad()
def mean_features(model, ids):
    """The mean of each review's hidden states."""
    model.eval()
    states = (model.bert(torch.tensor([example])).last_hidden_state for example in ids)
    return torch.cat([state.mean(dim=1) for state in states])


def make_optimizer(model, is_tuned):
    """AdamW, without decay on biases and normalisations."""
    decaying, other = [], []
    for name, parameter in model.named_parameters():
        is_other = name.endswith(".bias") or "LayerNorm" in name
        (other if is_other else decaying).append(parameter)
    groups = [
        {"params": decaying, "weight_decay": variable("WEIGHT_DECAY")},
        {"params": other, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=variable("LR"), fused=is_tuned or None)


def learning_rate_factor(step, steps):
    """Rises from 0 in a line, then falls to 0 in a line."""
    warmup = int(steps * variable("WARMUP_PCT") + 0.5)
    if step < warmup:
        return step / warmup
    return (steps - step) / max(1, steps - warmup)


def epoch_batches(lengths, batch_size, is_tuned, generator):
    """The examples of each batch of an epoch. The last is smaller where they don't come out even."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    if not is_tuned:
        return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    batches = []
    for at in range(0, len(order), GROUP_BATCHES * batch_size):
        group = sorted(order[at : at + GROUP_BATCHES * batch_size], key=lambda i: -lengths[i])
        batches += [group[at : at + batch_size] for at in range(0, len(group), batch_size)]
    mixed = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[index] for index in mixed]


def collate(examples, length=None):
    """Ids and mask of a batch, padded to a length or the longest one's. Without a mask where nothing
    is padded: attention without one is faster."""
    length = length or max(map(len, examples))
    ids = torch.zeros(len(examples), length, dtype=torch.long)
    mask = torch.zeros(len(examples), length, dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example)] = torch.tensor(example)
        mask[row, : len(example)] = 1
    return ids, None if bool(mask.all()) else mask


def train(model, logits_of, lengths, labels, is_tuned):
    """Trains, and returns the wall and CPU seconds of the steps and the last losses' mean."""
    batch_size = variable("BATCH_SIZE", int)
    epochs = variable("N_EPOCHS", int)
    max_norm = variable("MAX_NORM")
    labels = torch.tensor(labels)
    generator = torch.Generator().manual_seed(variable("SEED", int))
    optimizer = make_optimizer(model, is_tuned)
    steps = epochs * -(-len(lengths) // batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, steps)
    )
    losses = []
    model.train()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(epochs):
        for batch in epoch_batches(lengths, batch_size, is_tuned, generator):
            loss = torch.nn.functional.cross_entropy(logits_of(batch), labels[batch])
            loss.backward()
            if max_norm > 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            if sys.stderr.isatty():
                print(f"\r{len(losses)}/{steps} loss {losses[-1]:.3f} ", end="", file=sys.stderr)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    last = losses[-50:]
    return wall, cpu, sum(last) / len(last)


@torch.no_grad()
def predict(model, ids):
    """The numbers of the labels that the model gives."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    predicted = torch.zeros(len(ids), dtype=torch.long)
    for at in range(0, len(order), TEST_BATCH_SIZE):
        batch = order[at : at + TEST_BATCH_SIZE]
        input_ids, mask = collate([ids[i] for i in batch])
        predicted[batch] = model(input_ids, attention_mask=mask).logits.argmax(dim=1)
    return predicted


def main():
    side, split_path = sys.argv[1:]
    is_tuned = {"eager": False, "tuned": True}[side]
    torch.set_num_threads(variable("OMP_NUM_THREADS", int))
    torch.manual_seed(variable("SEED", int))
    with open(split_path, encoding="utf-8") as file:
        split = json.load(file)
    texts, words = read_reviews(os.environ["DATA"])
    names = sorted(set(words))
    tokenizer = read_tokenizer(os.environ["MODEL"], variable("NUM_MAX_POSITIONS", int))

    def examples(part):
        rows = split[part]
        encoded = tokenizer.encode_batch([clean(texts[row]) for row in rows])
        return [example.ids for example in encoded], [names.index(words[row]) for row in rows]

    model = load_model(is_tuned, len(names))
    ids, labels = examples("train")
    test_ids, test_labels = examples("test")
    lengths = [len(example) for example in ids]
    if variable("TRAIN_BODY", int) == 0:
        if not is_tuned:
            sys.exit("error: eager trains whole models only")
        head, features = Head(model), mean_features(model, ids)
        took = train(head, lambda batch: head(features[batch]), lengths, labels, is_tuned)
        head.eval()
        predicted = head(mean_features(model, test_ids)).argmax(dim=1)
    else:
        padded_length = None if is_tuned else variable("NUM_MAX_POSITIONS", int)

        def logits_of(batch):
            input_ids, mask = collate([ids[i] for i in batch], padded_length)
            return model(input_ids, attention_mask=mask).logits

        took = train(model, logits_of, lengths, labels, is_tuned)
        model.eval()
        predicted = predict(model, test_ids)
    wall, cpu, loss = took
    result = {
        "cpu_seconds": cpu,
        "seconds": wall,
        "samples": len(ids) * variable("N_EPOCHS", int),
        "loss": loss,
        "accuracy": (predicted == torch.tensor(test_labels)).double().mean().item(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
