"""Writes LoRA adapters over a checkpoint with PEFT, B not 0, so that every gradient shows.

usage: make_adapter.py MODEL_DIR OUT_DIR RANK ALPHA TARGET…     (a list of names; one TARGET alone: PEFT's text, all-linear or a pattern)
stdout: {"parameters", "modules"}
"""
import json, sys, torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2_5_VLForConditionalGeneration

folder, out, rank, alpha, *targets = sys.argv[1:]
torch.manual_seed(0)
model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
model = get_peft_model(model, LoraConfig(r=int(rank), lora_alpha=float(alpha), target_modules=targets[0] if len(targets) == 1 else targets))
adapters = {n: p for n, p in model.named_parameters() if p.requires_grad}
with torch.no_grad():
    for name, p in adapters.items():
        if "lora_B" in name:
            p.normal_(0, 0.1)
model.save_pretrained(out)
print(json.dumps(dict(parameters=sum(p.numel() for p in adapters.values()), modules=len(adapters) // 2)))
