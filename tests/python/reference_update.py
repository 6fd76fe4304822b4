"""Optimizer steps from recorded rollouts with transformers, the published loss and torch's AdamW: what `worker update`
is checked against. Nothing is packed and no prompt is shared: every completion is a sequence of its own.

usage: reference_update.py MODEL_DIR ROLLOUTS.jsonl OUT.json WEIGHTS.safetensors GRADIENTS.safetensors SETTINGS.json
SETTINGS: lr, loss, beta, kl, epsilon_low, epsilon_high, max_grad_norm, max_new_tokens, weight_decay;
steps (1), all from the same rollouts; importance_cap (none), against the lines' rollout_logprobs;
adapter (none): a PEFT folder, whose adapters are what trains; reference (initial): "base" is the model without them
Out, of the last step: {"loss", "kl", "grad_norm", "tokens", "token_loss"}, the last the mean absolute loss of a token.
"""
import json, sys, torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

folder, rollouts, out, weights, gradients, settings = sys.argv[1:]
s = json.load(open(settings))
model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
if s.get("adapter"):
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, s["adapter"], is_trainable=True).eval()
processor = AutoProcessor.from_pretrained(folder)
processor.image_processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
lines = [json.loads(line) for line in open(rollouts)]


def logprobs(r):
    images = [Image.open(x).convert("RGB") for x in r["images"]]
    turn = [dict(role="user", content=[*(dict(type="image") for _ in images), dict(type="text", text=r["prompt"])])]
    x = processor(text=[processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)], images=images or None, return_tensors="pt")
    c = torch.tensor([r["completion_ids"]])
    P = x["input_ids"].shape[1]
    extra = {k: v for k, v in x.items() if k not in ("input_ids", "attention_mask")}
    if "mm_token_type_ids" in extra:
        extra["mm_token_type_ids"] = torch.cat([extra["mm_token_type_ids"], torch.zeros_like(c)], 1)
    ids = torch.cat([x["input_ids"], c], 1)
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **extra).logits[:, P - 1:-1].float()
    return logits.log_softmax(-1).gather(2, c[..., None])[0, :, 0]


completions, tokens = len(lines), sum(len(r["completion_ids"]) for r in lines)
named = {n.replace(".default.", "."): p for n, p in model.named_parameters() if p.requires_grad}
adamw = torch.optim.AdamW(named.values(), lr=s["lr"], betas=(0.9, 0.999), eps=1e-8, weight_decay=s["weight_decay"])
for step in range(s.get("steps", 1)):
    adamw.zero_grad()
    loss_sum, kl_sum, absolute = 0.0, 0.0, 0.0
    for r in lines:
        logp = logprobs(r)
        old = torch.tensor(r["old_logprobs"]) if r.get("old_logprobs") else logp.detach()
        ratio = (logp - old).exp()
        loss = -torch.minimum(ratio * r["advantage"], ratio.clamp(1 - s["epsilon_low"], 1 + s["epsilon_high"]) * r["advantage"])
        if s.get("importance_cap"):
            loss = loss * torch.clamp((old - torch.tensor(r["rollout_logprobs"])).exp(), max=s["importance_cap"])
        if s["beta"]:
            # Without a recorded reference it is the policy before the first step.
            if not r.get("ref_logprobs"):
                assert step == 0 or "initial" in r
                if s.get("reference") == "base":
                    with torch.no_grad(), model.disable_adapter():
                        r.setdefault("initial", logprobs(r))
                r.setdefault("initial", logp.detach())
            delta = (torch.tensor(r["ref_logprobs"]) if r.get("ref_logprobs") else r["initial"]) - logp
            kl = dict(k1=-delta, k2=delta.square() / 2, k3=torch.expm1(delta) - delta)[s["kl"]]
            loss = loss + s["beta"] * kl
            kl_sum += kl.double().sum().item()
        absolute += loss.abs().double().sum().item()
        divisor = dict(sequence_mean=len(logp) * completions, token_mean=tokens, fixed_length=completions * s["max_new_tokens"])[s["loss"]]
        part = loss.sum() / divisor
        part.backward()
        loss_sum += part.item()
    trained = {n: p for n, p in named.items() if p.grad is not None}
    if step + 1 == s.get("steps", 1):
        save_file({n: p.grad.contiguous() for n, p in trained.items()}, gradients)
    norm = torch.nn.utils.clip_grad_norm_(trained.values(), s["max_grad_norm"] or float("inf")).item()
    adamw.step()

save_file({n: p.detach().contiguous() for n, p in trained.items()}, weights)
json.dump(dict(loss=loss_sum, kl=kl_sum / tokens, grad_norm=norm, tokens=tokens, token_loss=absolute / tokens), open(out, "w"))
