"""Write small PyTorch files, weights from a seed, into the folder given; runs in the torch toolchain."""

import json
import sys
import zipfile
from pathlib import Path

import torch
from torch import nn
from torch._export.serde.schema import SCHEMA_VERSION
from torch._export.serde.serialize import serialize

sys.path.insert(0, str(Path(__file__).parent))
import torch_net

FOLDER = Path(sys.argv[1])
IMAGE, IDS = torch.zeros(1, 3, 16, 16), torch.zeros(1, 7, dtype=torch.int64)


def made(build):
    torch.manual_seed(0)
    network = build()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
    return network.eval()


def exported(name, network, sample, **options):
    torch.export.save(torch.export.export(network, sample, **options), FOLDER / f"{name}.pt2")


residual = made(torch_net.Residual)
torch.jit.script(residual).save(FOLDER / "residual.script.pt")
torch.jit.trace(residual, (IMAGE,)).save(FOLDER / "residual.trace.pt")
exported("residual", residual, (IMAGE,))
torch.save(residual.state_dict(), FOLDER / "residual.pth")
torch.save(residual.state_dict(), FOLDER / "residual.before16.pth", _use_new_zipfile_serialization=False)
wrapped = {f"module.{name}": value for name, value in residual.state_dict().items()}
torch.save({"epoch": 3, "state_dict": wrapped}, FOLDER / "checkpoint.pth")
torch.save(residual, FOLDER / "object.pt")

attention = made(torch_net.Attention)
exported("attention", attention, (IDS,))
torch.jit.trace(torch_net.Residual().eval(), (IMAGE,))

recurrent = made(torch_net.Recurrent)
torch.jit.script(recurrent).save(FOLDER / "recurrent.pt")
sound = made(torch_net.Sound)
torch.jit.script(sound).save(FOLDER / "sound.pt")
scalars = made(torch_net.Scalars)
sample = (torch.zeros(1, 6), torch.tensor(1.0), torch.ones(1, 6, dtype=torch.bool), torch.zeros(1, dtype=torch.int32))
exported("scalars", scalars, sample)


class Named(nn.Module):
    def forward(self, x):
        return {"twice": x * 2, "half": x / 2}


torch.jit.trace(Named(), (torch.zeros(1, 4),), strict=False).save(FOLDER / "named.pt")

branch = made(torch_net.Branch)
torch.jit.script(branch).save(FOLDER / "branch.pt")
torch.save(branch.state_dict(), FOLDER / "branch.pth")
exported("counter", torch_net.Counter(), (torch.zeros(1, 4),))
torch.save(torch_net.Counter().state_dict(), FOLDER / "counter.pth")
exported("noisy", torch_net.Noisy(), (torch.zeros(1, 4),))
torch.save(made(torch_net.sized).state_dict(), FOLDER / "sized.pth")
exported("training", torch_net.Residual().train(), (IMAGE,))

batch = torch.export.Dim("batch", min=2, max=64)
exported("dynamic", residual, (torch.zeros(4, 3, 16, 16),), dynamic_shapes=({0: batch},))
open_ids = ({0: batch, 1: torch.export.Dim("length", min=2, max=32)},)
exported("open", attention, (torch.zeros(4, 7, dtype=torch.int64),), dynamic_shapes=open_ids)

# As PyTorch 2.7 laid it out.
artifact = serialize(torch.export.export(residual, (IMAGE,)))
with zipfile.ZipFile(FOLDER / "older.pt2", "w") as archive:
    archive.writestr("version", ".".join(map(str, SCHEMA_VERSION)))
    archive.writestr("serialized_exported_program.json", artifact.exported_program)
    archive.writestr("serialized_state_dict.pt", artifact.state_dict)
    archive.writestr("serialized_constants.pt", artifact.constants)
    archive.writestr("serialized_example_inputs.pt", artifact.example_inputs)

# What would execute when PyTorch itself loads it: a function of Python, called as an operator is.
with zipfile.ZipFile(FOLDER / "residual.pt2") as good, zipfile.ZipFile(FOLDER / "hostile.pt2", "w") as bad:
    for name in good.namelist():
        data = good.read(name)
        if name.endswith("models/model.json"):
            program = json.loads(data)
            program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.getcwd"
            data = json.dumps(program).encode()
        bad.writestr(name, data)
