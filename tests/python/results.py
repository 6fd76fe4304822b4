"""PRPO beside VisualQuality-R1 on the quickstart's model and data: the table of docs/results.md.

usage: results.py BIN [--seeds 1 2 3] [--output runs/results] [--document docs/results.md] [--set key=value …]

BIN: the folder of coordinator and worker. Every run is made once and kept in --output; a run that is there whole is not
made again. Beside each trained row stand the SFT start (what the runs start from, before their first step) and the
untrained model. Differences are from paired resampling over the same pictures (coordinator evaluate --against).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys

HOSTS = "configs/hosts/local.yaml"
# Row, recipe, what is set.
ROWS = [
    ("PRPO", "configs/quickstart.yaml", []),
    ("VisualQuality-R1", "configs/small_visualquality_r1.yaml", []),
    ("PRPO, two stages", "configs/small_two_stage.yaml", []),
]
START, UNTRAINED = "SFT start", "untrained"
BEGIN, END = "<!-- results: made by `make results` -->", "<!-- results: end -->"


def run(command):
    print("results:", " ".join(command), flush=True)
    ran = subprocess.run(command, text=True, stdout=subprocess.PIPE)
    if ran.returncode:
        sys.exit(f"results: {' '.join(command)} ended with {ran.returncode}")
    return ran.stdout


def finished(folder):
    path = os.path.join(folder, "summary.json")
    return os.path.exists(path) and json.load(open(path))["outcome"] == "finished"


def train(binary, recipe, folder, seed, sets):
    if not finished(folder):
        shutil.rmtree(folder, ignore_errors=True)
        arguments = [f"run.seed={seed}", *sets]
        run([f"{binary}/coordinator", "--nodes", HOSTS, "--recipe", recipe, "--output", folder,
             *(word for value in arguments for word in ("--set", value))])
    return folder


def answers(folder, first):
    """The test answers before the first step, or after the last: id to (label, predictions), and the share in format."""
    names = sorted(name for name in os.listdir(os.path.join(folder, "completions")) if name.endswith("-test.jsonl"))
    lines = [json.loads(line) for line in open(os.path.join(folder, "completions", names[0 if first else -1]))]
    found = {}
    for line in lines:
        mos, kept = found.setdefault(line["sample_id"], (line["mos"], []))
        score = line["predicted"]
        # As the coordinator counts: an answer that is broken or off the scale is no score.
        if line["format"] and score is not None and 1 <= score <= 5:
            kept.append(score)
    return found, sum(line["format"] for line in lines) / len(lines)


def write(folder, name, found):
    labels, scores = os.path.join(folder, "labels.txt"), os.path.join(folder, f"{name}.txt")
    plain = lambda sample: sample.replace(" ", "_") + ".png"
    with open(labels, "w") as file:
        file.writelines(f"{plain(sample)} {mos!r}\n" for sample, (mos, _) in sorted(found.items()))
    with open(scores, "w") as file:
        kept = ((sample, values) for sample, (_, values) in sorted(found.items()) if values)
        file.writelines(f"{plain(sample)} {statistics.fmean(values)!r}\n" for sample, values in kept)
    return labels, scores


def evaluate(binary, labels, scores, against=None):
    if os.path.getsize(scores) == 0:
        return None
    more = ["--against", against] if against and os.path.getsize(against) else []
    command = [f"{binary}/coordinator", "evaluate", "--labels", labels, "--predictions", scores, *more, "--json"]
    return json.loads(run(command))


def shown(values, digits=3):
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    mean = statistics.fmean(values)
    return f"{mean:.{digits}f}" + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", default="runs/results")
    parser.add_argument("--document", default="docs/results.md")
    parser.add_argument("--set", action="append", default=[], help="laid over every recipe, e.g. for a short try")
    args = parser.parse_args()
    os.makedirs(args.output, exist_ok=True)

    scored = {}  # (row, seed) to (labels, scores, share in format, answered share)
    for seed in args.seeds:
        for number, (row, recipe, sets) in enumerate(ROWS):
            folder = train(args.bin, recipe, os.path.join(args.output, f"{number}-seed{seed}"), seed, sets + args.set)
            rows = [(row, False)] + ([(START, True)] if number == 0 else [])
            for name, first in rows:
                found, form = answers(folder, first)
                files = write(folder, "before" if first else "after", found)
                scored[name, seed] = (*files, form, sum(bool(v) for _, v in found.values()) / len(found))
        # Fresh weights under the same recipe and tokenizer; one step, because a stage has one at least.
        model = os.path.join(args.output, f"untrained-seed{seed}-model")
        if not os.path.isdir(model):
            run([f"{args.bin}/worker", "init", "--model-config", "configs/quickstart/model", "--output", model,
                 "--seed", str(seed), "--dtype", "float32"])
        folder = os.path.join(args.output, f"untrained-seed{seed}")
        sets = [f"model.path={model}", "stages.prpo.steps=1", "optimizer.warmup_steps=0", *args.set]
        found, form = answers(train(args.bin, ROWS[0][1], folder, seed, sets), True)
        files = write(folder, "before", found)
        scored[UNTRAINED, seed] = (*files, form, sum(bool(v) for _, v in found.values()) / len(found))

    names = [UNTRAINED, START] + [row for row, _, _ in ROWS]
    numbers = {key: evaluate(args.bin, labels, scores) for key, (labels, scores, _, _) in scored.items()}
    lines = [
        f"Test pictures, drawn answers (temperature 1, three a picture, mean of those in the format), seeds "
        f"{', '.join(map(str, args.seeds))}: mean ± standard deviation over seeds. **Labels are proxies (KADID-10k's "
        "mean opinion of a distortion's type and level, on our own photographs) and the models are tiny: the table "
        "compares ways of training, and says nothing of how good either is on people's scores.**",
        "",
        "| | SRCC | PLCC | KRCC | RMSE | in the format | answered |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        of = [numbers[name, seed] for seed in args.seeds]
        column = lambda key: shown([n and n[key] for n in of])
        form, answered = (shown([scored[name, seed][i] for seed in args.seeds]) for i in (2, 3))
        cells = " | ".join([*map(column, ["srcc", "plcc", "krcc", "rmse"]), form, answered])
        lines.append(f"| {name} | {cells} |")
    lines += ["", "SRCC's difference over the pictures that both answer, 95 % interval of 1,000 paired resamples, a seed "
              "each:", "", "| | " + " | ".join(f"seed {seed}" for seed in args.seeds) + " |",
              "|---|" + "---|" * len(args.seeds)]
    pairs = [(row, START) for row, _, _ in ROWS] + [("PRPO", row) for row, _, _ in ROWS[1:]]
    for one, other in pairs:
        cells = []
        for seed in args.seeds:
            result = evaluate(args.bin, *scored[one, seed][:2], against=scored[other, seed][1])
            of = ((result or {}).get("against") or {}).get("srcc")
            cells.append(f"{of['difference']:+.3f} [{of['low']:+.3f}, {of['high']:+.3f}]" if of else "–")
        lines.append(f"| {one} − {other} | {' | '.join(cells)} |")
    table = "\n".join(lines)
    print(table)
    text = open(args.document).read()
    if BEGIN not in text or END not in text:
        sys.exit(f"results: {args.document} has no place for the table, expected the lines {BEGIN} and {END}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    with open(args.document, "w") as file:
        file.write(f"{before}{BEGIN}\n{table}\n{END}{after}")


if __name__ == "__main__":
    main()
