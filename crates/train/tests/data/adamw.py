"""Writes adamw.json: weights after steps of torch.optim.AdamW (torch 2.13.0, CPU, foreach=False)."""
import json, pathlib, torch
torch.manual_seed(7)
cases = []
for lr, weight_decay, betas, eps in [(1e-3, 0.0, (0.9, 0.999), 1e-8), (1e-2, 0.1, (0.8, 0.95), 1e-6)]:
    p = torch.nn.Parameter(torch.randn(6))
    case = dict(lr=lr, weight_decay=weight_decay, betas=betas, eps=eps, start=p.tolist(), gradients=[], weights=[])
    o = torch.optim.AdamW([p], lr=lr, weight_decay=weight_decay, betas=betas, eps=eps, foreach=False)
    for step in range(5):
        p.grad = torch.randn(6) * torch.tensor([1, 1e-3, 1e-6, 10, 0, 1e-9])
        case["gradients"].append(p.grad.tolist()); o.step(); case["weights"].append(p.tolist())
    case["exp_avg"], case["exp_avg_sq"] = (o.state[p][k].tolist() for k in ("exp_avg", "exp_avg_sq"))
    cases.append(case)
pathlib.Path(__file__).with_name("adamw.json").write_text(json.dumps(cases, indent=1) + "\n")
