"""TRL's GRPOTrainer on the benchmark's pictures: seconds a step, and of these the update's.

usage: peer_trl.py MODEL_DIR PICTURES_FOLDER OUT.json [--samples 8] [--responses 6] [--tokens 128] [--steps 4] [--threads 2] [--beta 0] [--dtype bfloat16]
Out: {"step": [seconds], "update": [seconds], "peak_bytes"}; the first step, which warms up, is left out.
"""
import argparse, json, tempfile, time
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoProcessor, GenerationConfig, Qwen2_5_VLForConditionalGeneration, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

a = argparse.ArgumentParser()
a.add_argument("model"); a.add_argument("pictures"); a.add_argument("out")
for name, value in dict(samples=8, responses=6, tokens=128, steps=4, threads=2).items():
    a.add_argument(f"--{name}", type=int, default=value)
a.add_argument("--beta", type=float, default=0.0); a.add_argument("--dtype", default="bfloat16"); a.add_argument("--prompt", default="Rate the picture.")
a = a.parse_args()
torch.set_num_threads(a.threads)
model = Qwen2_5_VLForConditionalGeneration.from_pretrained(a.model, dtype=getattr(torch, a.dtype))
processor = AutoProcessor.from_pretrained(a.model)
pads = processor.tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|video_pad|>", "<|vision_pad|>"])
end = model.generation_config.eos_token_id
rows = [dict(prompt=[dict(role="user", content=a.prompt)], image=Image.open(f"{a.pictures}/{i}.png").convert("RGB")) for i in range(a.samples)]
marks = dict(step=[], update=[])


class Clock(GRPOTrainer):
    """Marks when an update begins and ends: what is between is forward, backward and the optimizer."""

    def _generate_and_score_completions(self, inputs):
        out = super()._generate_and_score_completions(inputs)
        self.drawn = time.perf_counter()
        return out


class Marks(TrainerCallback):
    def on_step_begin(self, *_, **__):
        self.begun = time.perf_counter()

    def on_step_end(self, *_, **__):
        now = time.perf_counter()
        marks["step"].append(now - self.begun)
        marks["update"].append(now - trainer.drawn)


def reward(completions, **_):
    return [float(i % 5) for i in range(len(completions))]


batch = a.samples * a.responses
with tempfile.TemporaryDirectory() as folder:
    config = GRPOConfig(
        output_dir=folder, max_steps=a.steps + 1, per_device_train_batch_size=batch, num_generations=a.responses, max_completion_length=a.tokens,
        beta=a.beta, temperature=1.0, top_k=50, learning_rate=1e-6, logging_steps=1000, save_strategy="no", report_to=[], use_cpu=True,
        bf16=False, gradient_checkpointing=False, loss_type="grpo", dataloader_pin_memory=False,
        generation_kwargs=dict(min_new_tokens=a.tokens, eos_token_id=end, suppress_tokens=pads))
    trainer = Clock(model=model, processing_class=processor, reward_funcs=reward, args=config, train_dataset=Dataset.from_list(rows * (a.steps + 1)), callbacks=[Marks()])
    trainer.train()
with open("/proc/self/status") as f:
    peak = next(int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM"))
json.dump(dict(step=marks["step"][1:], update=marks["update"][1:], peak_bytes=peak), open(a.out, "w"))
