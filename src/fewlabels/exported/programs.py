"""The network as one file that runs without fewlabels: ONNX, or a program of torch.export."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fewlabels.exported.network import IMAGES, LOGITS, ExportedNetwork, check, metadata, noise
from fewlabels.runs.trained import TrainedModel
from fewlabels.system.files import make_folder_of, write_atomically
from fewlabels.types import UserError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

METADATA = "fewlabels.json"  # the extra file in a program of torch.export


def write_onnx(trained: TrainedModel, path: Path) -> None:
    """Write an ONNX file that takes any number of images.

    Raises:
        UserError: a package is missing, the network cannot be exported, or computes something else then.
        FileError: the disk refused.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch needs it, and says so in many lines
    except ImportError as error:
        raise UserError(f"--onnx needs the package {error.name}: pip install 'fewlabels[onnx]'") from error
    program = _program(trained)
    try:
        found = torch.onnx.export(
            program, input_names=[IMAGES], output_names=[LOGITS], dynamo=True, external_data=False, verbose=False
        )
        assert found is not None
        model = found.model_proto
    except Exception as error:
        raise UserError(f"this network cannot be written as ONNX ({_words(error)})") from error
    onnx.helper.set_model_props(model, metadata(trained))
    content = model.SerializeToString()
    session: Any = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    check(trained, lambda images: torch.from_numpy(session.run([LOGITS], {IMAGES: images.numpy()})[0]))
    make_folder_of(path)
    write_atomically(path, lambda file: file.write(content))


def write_pt2(trained: TrainedModel, path: Path) -> None:
    """Write a program of torch.export (.pt2) that takes any number of images.

    Raises:
        UserError: the network cannot be exported, or computes something else then.
        FileError: the disk refused.
    """
    content = io.BytesIO()
    torch.export.save(_program(trained), content, extra_files={METADATA: json.dumps(metadata(trained))})
    content.seek(0)
    module = torch.export.load(content).module()

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = module(images)
        return logits

    check(trained, run)
    make_folder_of(path)
    write_atomically(path, lambda file: file.write(content.getvalue()))


def _program(trained: TrainedModel) -> ExportedProgram:
    network = ExportedNetwork(trained).eval()
    try:
        with torch.no_grad():
            return torch.export.export(
                network, (noise(trained, 2),), dynamic_shapes={IMAGES: {0: torch.export.Dim("batch", min=1)}}
            )
    except Exception as error:
        raise UserError(f"this network cannot be exported by torch ({_words(error)})") from error


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
