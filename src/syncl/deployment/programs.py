"""What runs a step: ONNX Runtime on an exported file. The extra `export` brings it."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from syncl.errors import SynclError

CPU = ("CPUExecutionProvider",)
LEAST_OPSET = 18
_STANDARD = {"", "ai.onnx"}
# Of loggers that tell of operators of torchvision, which nothing here uses, and of opsets, which are checked.
_LOUD = ("torch.onnx._internal.exporter._registration", "onnxscript.version_converter")


class Program(Protocol):
    """A step as a function of named tensors (`deployment.step`)."""

    def __call__(self, given: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """What the step tells, of what it is given."""
        ...


class OnnxProgram:
    """An ONNX file in ONNX Runtime.

    Args:
        path: the file.
        providers: names of execution providers, the preferred one first.

    Raises:
        SynclError: onnxruntime is not installed, does not have a provider, or cannot read the file.
    """

    def __init__(self, path: Path, providers: Sequence[str] = CPU) -> None:
        need("onnxruntime")
        import onnxruntime

        known = onnxruntime.get_available_providers()
        unknown = [name for name in providers if name not in known]
        if unknown or not providers:
            raise SynclError(
                f"--providers: {', '.join(unknown) or 'none'} is not in this onnxruntime, which has "
                f"{', '.join(known)}; onnxruntime-gpu has CUDAExecutionProvider"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Warnings of graph optimisations tell nobody anything.
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=list(providers))
        except Exception as error:  # onnxruntime has no common class of its own errors.
            raise SynclError(f"{path}: onnxruntime cannot run it ({error})") from error
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def __call__(self, given: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """See `Program`."""
        handed = {name: given[name].cpu().numpy() for name in self._inputs}
        told = self._session.run(self._outputs, handed)
        return {name: torch.from_numpy(array) for name, array in zip(self._outputs, told)}


def need(*packages: str) -> None:
    """Make sure that packages of the extra `export` are there.

    Raises:
        SynclError: naming the first that is not.
    """
    for package in packages:
        if find_spec(package) is None:
            raise SynclError(f"{package} is not installed: pip install 'syncl[export]'")


def check_opset(opset: int) -> None:
    """Make sure that files of this opset of ONNX can be written.

    Raises:
        SynclError: they are invalid, or nobody here knows of it; or onnx is not installed.
    """
    if opset < LEAST_OPSET:
        raise SynclError(
            f"--opset {opset}: below {LEAST_OPSET} files are invalid; choose {LEAST_OPSET} or more"
        )
    need("onnx")
    import onnx

    known = onnx.defs.onnx_opset_version()
    if opset > known:
        raise SynclError(f"--opset {opset}: this onnx knows those up to {known}; choose one of these")


def write_onnx(
    program: torch.export.ExportedProgram,
    inputs: Sequence[str],
    outputs: Sequence[str],
    opset: int,
    path: Path,
) -> int:
    """Write an exported program as an ONNX file of standard operators, and say how many nodes it has.

    Args:
        program: of named tensors.
        inputs: their names, in order.
        outputs: the same.
        opset: of ONNX.
        path: the file.

    Raises:
        SynclError: onnx or onnxscript is not installed, or the file would need what not every runtime has:
            operators of no standard set, float64, or shapes that are not fixed; or it came out of another
            opset, which torch writes where it cannot convert.
    """
    need("onnx", "onnxscript")
    import onnx

    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=list(outputs),
            external_data=False,
            verbose=False,
        )
    if made is None:
        raise SynclError("torch.onnx.export made no program")
    made.save(str(path), external_data=False)
    written = onnx.load(path)
    (came_out,) = {entry.version for entry in written.opset_import if entry.domain in _STANDARD}
    if came_out != opset:
        raise SynclError(f"--opset {opset}: torch does not convert to it; {came_out} is what it wrote")
    graph = written.graph
    foreign = {node.domain for node in graph.node} - _STANDARD
    values = [*graph.input, *graph.output, *graph.value_info]
    doubles = [value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE]
    doubles += [weight.name for weight in graph.initializer if weight.data_type == onnx.TensorProto.DOUBLE]
    loose = [
        value.name
        for value in (*graph.input, *graph.output)
        if any(not size.HasField("dim_value") for size in value.type.tensor_type.shape.dim)
    ]
    for problem, found in (("operators of", foreign), ("float64 in", doubles), ("no fixed shape of", loose)):
        if found:
            raise SynclError(
                f"{path.name}: has {problem} {', '.join(sorted(found)[:5])}; report this, please"
            )
    return len(graph.node)
