"""Short clips of the setup's videos at seven bit rates, with proxy labels: VMAF brought to [1, 5].

usage: make_videos.py VIDEOS OUT

VIDEOS: the folder that `make setup` fills. OUT gets one-second clips and train.txt, validation.txt, test.txt
("ref dis mos"); a source video is in one of them alone. The ffmpeg is imageio-ffmpeg's, which has libvmaf. A folder that
is whole is left as it is.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

import imageio_ffmpeg

# Source, list, seconds that are used, width and height of the clips.
SOURCES = [
    ("bikes.mp4", "train", 10, 320, 136),
    ("carphone_pristine.mp4", "validation", 4, 176, 144),
    ("bigbuckbunny.mp4", "test", 5, 320, 180),
]
CRF = [18, 23, 28, 33, 38, 43, 48]


def ffmpeg(*arguments):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(f"{' '.join(command)}: {ran.stderr[-500:]}")
    return ran.stderr


def vmaf(clip, pristine):
    """Mean VMAF of a clip against what it was made from, both at 1080 lines, for which the model was trained."""
    up = "scale=-2:1080:flags=bicubic,format=yuv420p"
    graph = f"[0:v]{up},setpts=PTS-STARTPTS[a];[1:v]{up},setpts=PTS-STARTPTS[b];[a][b]libvmaf=n_threads=2:n_subsample=3"
    said = ffmpeg("-i", clip, "-i", pristine, "-lavfi", graph, "-f", "null", "-")
    return float(re.search(r"VMAF score: ([0-9.]+)", said).group(1))


def main(videos, out):
    done = os.path.join(out, "made.json")
    if os.path.exists(done):
        return
    os.makedirs(os.path.join(out, "clips"), exist_ok=True)
    lists = {}
    for source, part, seconds, width, height in SOURCES:
        stem = source.split(".")[0].split("_")[0]
        for start in range(seconds):
            with tempfile.TemporaryDirectory() as scratch:
                pristine = os.path.join(scratch, "pristine.mkv")
                ffmpeg("-ss", str(start), "-t", "1", "-i", os.path.join(videos, source), "-an", "-vf",
                       f"scale={width}:{height}:flags=bicubic,format=yuv420p", "-c:v", "ffv1", pristine)
                for crf in CRF:
                    name = f"clips/{stem}{start:02}_q{crf}.mp4"
                    clip = os.path.join(out, name)
                    ffmpeg("-i", pristine, "-an", "-c:v", "libx264", "-preset", "medium", "-crf", str(crf), clip)
                    score = 1 + 4 * max(0.0, min(100.0, vmaf(clip, pristine))) / 100
                    lists.setdefault(part, []).append(f"{stem}{start:02}.mp4 {name} {score:.4f}\n")
    for part, lines in lists.items():
        with open(os.path.join(out, f"{part}.txt"), "w") as file:
            file.writelines(lines)
    with open(done, "w") as file:
        json.dump({part: len(lines) for part, lines in lists.items()}, file)
    print(f"videos made: {({part: len(lines) for part, lines in lists.items()})} clips in {out}, labels are VMAF, a proxy")


if __name__ == "__main__":
    main(*sys.argv[1:])
