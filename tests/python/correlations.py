"""scipy's and numpy's agreement of predictions with labels: the reference of tests/tests/evaluate.rs.

usage: correlations.py PAIRS    a prediction and a label a line; prints {"srcc", "plcc", "krcc", "rmse", "fitted"}
"""
import json
import sys

import numpy as np
from scipy import optimize, stats

x, y = np.loadtxt(sys.argv[1]).T


def curve(x, b1, b2, b3, b4):
    return (b1 - b2) / (1 + np.exp(-(x - b3) / np.abs(b4))) + b2


start = [y.max(), y.min(), x.mean(), x.std() / 4]
beta, _ = optimize.curve_fit(curve, x, y, p0=start, maxfev=20000, ftol=1e-14, xtol=1e-14)
print(
    json.dumps(
        {
            "srcc": stats.spearmanr(x, y).statistic,
            "plcc": stats.pearsonr(x, y).statistic,
            "krcc": stats.kendalltau(x, y).statistic,
            "rmse": float(np.sqrt(np.mean((x - y) ** 2))),
            "fitted": stats.pearsonr(curve(x, *beta), y).statistic,
        }
    )
)
