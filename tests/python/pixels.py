"""Compares our pixels with Pillow's and our patches with transformers': bit for bit, over formats, modes and sizes.

usage: pixels.py PROGRAM [PHOTOS...]
  PROGRAM   target/release/examples/pixels (cargo build --release -p vision --example pixels)
  PHOTOS    picture files or folders to compare besides the generated ones

Exit code 1 if anything differs by more than a level, or by one level on more than 1 % of the values.
"""
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

Image.MAX_IMAGE_PIXELS = None


def generated(folder):
    """Pictures in every mode and format that Pillow writes and we read."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:97, 0:131]
    smooth = np.stack([x * 255 / 130, y * 255 / 96, (x + y) % 256], -1)
    base = Image.fromarray((smooth * 0.7 + rng.integers(0, 77, smooth.shape)).astype(np.uint8))
    noise = Image.fromarray(rng.integers(0, 256, (61, 45, 3), dtype=np.uint8))
    alpha = base.convert("RGBA")
    alpha.putalpha(Image.fromarray(rng.integers(0, 256, (97, 131), dtype=np.uint8)))
    palette = base.quantize(37)
    see_through = base.quantize(16)
    see_through.info["transparency"] = 3
    paths = []

    def save(image, name, **options):
        path = os.path.join(folder, name)
        image.save(path, **options)
        paths.append(path)

    for name, image in [("base", base), ("noise", noise)]:
        for subsampling in (0, 1, 2):
            for quality in (5, 30, 75, 95, 100):
                save(image, f"{name}_{subsampling}_{quality}.jpg", quality=quality, subsampling=subsampling)
        save(image, f"{name}_progressive.jpg", progressive=True, quality=80)
        save(image, f"{name}_optimised.jpg", optimize=True, quality=60)
        save(image, f"{name}_restart.jpg", restart_marker_blocks=3)
        save(image.convert("L"), f"{name}_grey.jpg")
        save(image.convert("CMYK"), f"{name}_cmyk.jpg")
        save(image, f"{name}_rgb.jpg", keep_rgb=True)
        for size in [(1, 1), (2, 3), (8, 8), (15, 17), (16, 1), (1, 33)]:
            save(image.crop((0, 0, *size)), f"{name}_{size[0]}x{size[1]}.jpg", subsampling=2)
        save(image, f"{name}.png")
        save(image, f"{name}.bmp")
        save(image, f"{name}.tif")
        save(image, f"{name}_lzw.tif", compression="tiff_lzw")
        save(image, f"{name}_lossless.webp", lossless=True)
        for quality in (10, 80):
            save(image, f"{name}_{quality}.webp", quality=quality)
        save(image, f"{name}.gif")
        for mode in ("1", "L", "LA", "P", "RGBA"):
            save(image.convert(mode), f"{name}_{mode}.png")
    save(alpha, "alpha.png")
    save(alpha, "alpha_lossless.webp", lossless=True, exact=True)
    save(alpha, "alpha.webp", quality=70)
    save(palette, "palette.png")
    save(palette, "palette.gif")
    save(palette, "palette.bmp")
    save(see_through, "see_through.png", transparency=3)
    save(see_through, "see_through.gif", transparency=3)
    save(base, "colour_key.png", transparency=tuple(int(v) for v in np.asarray(base)[0, 0]))
    save(palette.convert("L"), "grey.tif")
    save(base.convert("L"), "grey.bmp")
    save(base.quantize(4), "bits2.png", bits=2)
    save(base.quantize(16), "bits4.png", bits=4)
    exif = Image.Exif()
    exif[0x0112] = 6
    save(base, "rotated_by_exif.jpg", exif=exif)
    save(base, "named_wrongly.png", format="JPEG")
    return paths


def photographs(arguments):
    for argument in arguments:
        if os.path.isdir(argument):
            for folder, _, names in sorted(os.walk(argument)):
                yield from (os.path.join(folder, name) for name in sorted(names))
        else:
            yield argument


def readable(path):
    try:
        with Image.open(path) as image:
            image.convert("RGB")
        return path.lower().rsplit(".", 1)[-1] in ("jpg", "jpeg", "png", "bmp", "gif", "tif", "webp")
    except Exception:
        return False


def requests(paths, folder):
    """(request line, output file, the reference's values and shape as a function)"""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    draw = random.Random(2)
    for number, path in enumerate(paths):
        image = Image.open(path).convert("RGB")
        # What is left of a palette's transparency makes the processor paint pixels of that colour white.
        image.info.pop("transparency", None)

        def pixels(image):
            return lambda: ((image.width, image.height), np.asarray(image))

        out = os.path.join(folder, f"{number}.decode")
        yield f"decode\t{path}\t{out}", out, pixels(image)
        sizes = [(draw.randint(1, 300), draw.randint(1, 300)) for _ in range(3)]
        sizes += [(image.width, draw.randint(1, 200)), (draw.randint(1, 200), image.height)]
        if image.width * image.height < 40_000:
            sizes += [(image.width * 3, image.height * 2)]
        for width, height in sizes:
            out = os.path.join(folder, f"{number}.{width}x{height}")
            resized = image.resize((width, height), Image.Resampling.BICUBIC)
            yield f"resize\t{path}\t{width}\t{height}\t{out}", out, pixels(resized)
        if max(image.size) > 200 * min(image.size):
            continue
        for low, high in [(3136, 200_704), (3136, 12_845_056), (50_176, 100_352)]:
            if number % 7 and high > 10**7:
                continue

            def cut(image=image, low=low, high=high):
                processor = Qwen2VLImageProcessorPil(min_pixels=low, max_pixels=high)
                result = processor(images=[image], return_tensors="np")
                _, rows, columns = (int(v) for v in result["image_grid_thw"][0])
                return (columns, rows), result["pixel_values"].astype(np.float32)

            out = os.path.join(folder, f"{number}.{low}.{high}.patches")
            yield f"patches\t{path}\t{low}\t{high}\t{out}", out, cut


def main():
    program, arguments = sys.argv[1], sys.argv[2:]
    counts, failures = {}, []
    with tempfile.TemporaryDirectory() as folder:
        paths = generated(folder) + [path for path in photographs(arguments) if readable(path)]
        process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for line, out, reference in requests(paths, folder):
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline().strip()
            shape, expected = reference()
            what = line.split("\t")[0]
            name = line.replace("\t", " ").replace(folder + "/", "")
            count = counts.setdefault(what, [0, 0])
            count[0] += 1
            if answer != f"{shape[0]} {shape[1]}":
                failures.append(f"{name}: {answer}, expected {shape}")
                continue
            found = np.fromfile(out, np.uint8 if expected.dtype == np.uint8 else np.float32)
            os.remove(out)
            if np.array_equal(found, expected.reshape(-1)):
                count[1] += 1
                continue
            level = 1.0 if expected.dtype == np.uint8 else 1.001 / 255 / 0.2613
            difference = np.abs(found.astype(np.float64) - expected.reshape(-1).astype(np.float64))
            share, largest = float((difference > 0).mean()), float(difference.max())
            verdict = "DIFFERS" if largest > level or share > 0.01 else "close"
            print(f"{verdict} {name}: largest difference {largest:.4g}, {100 * share:.2f} % of the values")
            if verdict == "DIFFERS":
                failures.append(name)
        process.stdin.close()
        process.wait()
    for what, (total, equal) in counts.items():
        print(f"{what}: {equal} of {total} bit-equal")
    for failure in failures:
        print("FAILED", failure)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
