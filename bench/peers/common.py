"""What the peers and the scripts that compare with them have in common."""

import argparse
import csv
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent


def fail(message):
    sys.exit(f"error: {message}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def read_reviews(path):
    """The texts and the labels of a CSV file, in its order."""
    csv.field_size_limit(1 << 30)
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        names = ("text", "label") if "text" in reader.fieldnames else ("review", "sentiment")
        rows = [tuple(row[name] for name in names) for row in reader]
    return [text for text, _ in rows], [label for _, label in rows]


def clean(text):
    """A text as the job trains on it: without HTML's line breaks, and with single blanks."""
    return " ".join(text.replace("<br />", " ").split())


def read_tokenizer(folder, max_positions):
    """A model's tokenizer. What its file says about truncation and padding doesn't count: the one of
    the base weights would cut at 128."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_positions)
    return tokenizer


def environment(threads, **variables):
    """The environment of a process that computes on so many threads."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        # Nobody's path of compute is left to chance: what has the fix asks for it.
        "LD_PRELOAD": "",
        **{name: str(value) for name, value in variables.items()},
    }


def build_mkl_fix(folder):
    """The library to load for MKL's fast path on AMD."""
    library = Path(folder) / "mkl_fix.so"
    source = PEERS / "mkl_fix.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
    return library


def processor():
    """What this machine computes with."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return os.uname().machine


def warn_if_busy():
    """Threads that wait for each other, as the peers' do, suffer most from other programs."""
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"warning: other programs run here (load {load:.1f})", file=sys.stderr)


def end_on_signals():
    """Ends as if by itself when told to: what was started is stopped, and folders are removed."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def assignment(text):
    """NAME=VALUE, for argparse."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} isn't NAME=VALUE")
    return name, value
