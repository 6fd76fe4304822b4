"""Writes seeded pictures, gradients under noise, as PNG and JPEG.

usage: pictures.py FOLDER SEED WIDTHxHEIGHT...      writes FOLDER/0.png, 1.jpg, 2.png, …
"""
import os
import sys

import numpy as np
from PIL import Image

folder, seed, sizes = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
rng = np.random.default_rng(seed)
for number, size in enumerate(sizes):
    width, height = map(int, size.split("x"))
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1)
    noise = rng.integers(0, 256, (height, width, 3))
    picture = Image.fromarray(((2 * slopes + noise) // 3).astype(np.uint8))
    name = f"{number}.{'jpg' if number % 2 else 'png'}"
    picture.save(os.path.join(folder, name), **({"quality": 85} if number % 2 else {}))
