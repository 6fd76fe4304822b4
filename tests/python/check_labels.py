"""`coordinator evaluate` on every label file of a folder, with made-up predictions in published form, against scipy.

usage: check_labels.py COORDINATOR FOLDER

Predictions are "path score" lines; of a video the path is its mosaic's (name_0.png). The columns are read here anew.
Fails where a number is more than 1e-9 from scipy's (after the fit 1e-6, and 1e-4 where it has no finite best curve).
"""

import json
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
from scipy import optimize, stats


def curve(x, b1, b2, b3, b4):
    return (b1 - b2) / (1 + np.exp(-(x - b3) / np.abs(b4))) + b2


def labels(path):
    text = open(path, encoding="utf-8-sig").read()
    if path.endswith(".jsonl"):
        entries = [json.loads(line) for line in text.splitlines() if line.strip()]
        return [(e["image"][0], float(e["conversations"][1]["value"])) for e in entries]
    found = []
    for line in text.splitlines():
        if not line.strip():
            continue
        if "," in line:
            name, mos = line.rsplit(",", 1)
            found.append((name.strip(), float(mos)))
            continue
        columns = line.split()
        if len(columns) == 2:
            found.append((columns[0], float(columns[1])))
        elif len(columns) == 4:
            found.append((columns[1], float(columns[2])))
        else:
            try:
                found.append((columns[0], float(columns[1])))
            except ValueError:
                found.append((columns[1], float(columns[2])))
    return found


def main(coordinator, folder):
    random.seed(7)
    for name in sorted(os.listdir(folder)):
        pairs = labels(os.path.join(folder, name))
        scored = [(path, mos, round(min(5, max(1, 0.7 * mos + 0.8 + random.gauss(0, 0.4))), 2)) for path, mos in pairs]
        with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
            for path, _, score in scored:
                stem, extension = os.path.splitext(path)
                file.write(f"{stem + '_0.png' if extension == '.mp4' else path} {score}\n")
        command = [coordinator, "evaluate", "--labels", os.path.join(folder, name), "--predictions", file.name, "--json"]
        ran = subprocess.run(command, capture_output=True, text=True)
        os.unlink(file.name)
        if ran.returncode or ran.stderr:
            sys.exit(f"{name}: exit code {ran.returncode}: {ran.stderr}")
        ours = json.loads(ran.stdout)
        y = np.array([mos for _, mos, _ in scored])
        x = np.array([score for _, _, score in scored])
        theirs = {
            "srcc": stats.spearmanr(x, y)[0],
            "plcc": stats.pearsonr(x, y)[0],
            "krcc": stats.kendalltau(x, y)[0],
            "rmse": float(np.sqrt(np.mean((x - y) ** 2))),
        }
        apart = max(abs(ours[key] - value) for key, value in theirs.items())
        if ours["missing"] or ours["matched"] != len(pairs) or apart > 1e-9:
            sys.exit(f"{name}: {apart} from scipy, {ours['matched']} of {len(pairs)} matched")
        fit = "failed"
        if "plcc" in ours["fit"]:
            start = [y.max(), y.min(), x.mean(), x.std() / 4]
            beta, _ = optimize.curve_fit(curve, x, y, start, maxfev=100_000, ftol=1e-14, xtol=1e-14)
            fit = abs(ours["fit"]["plcc"] - stats.pearsonr(curve(x, *beta), y)[0])
            # Without a bend in the data the best curve has an end at infinity: both stop somewhere on the way.
            if fit > (1e-6 if max(abs(beta[0]), abs(beta[1])) < 100 else 1e-4):
                sys.exit(f"{name}: {fit} from scipy after the fit")
        print(f"{name}: {len(pairs)} labels, {apart:.1e} from scipy at most, fit {fit}")


if __name__ == "__main__":
    main(*sys.argv[1:])
