"""Finished scenes of a tracking that is not finished: kept beside its output until that is written.

results.json.scenes/run.json        what they were made of
results.json.scenes/SCENE.json      SHA-256 of what follows: the boxes of a scene, sample by sample, as the
                                    output will have them
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import orjson

from syncl.errors import SynclError, shown, system_errors_named
from syncl.files import atomic_write, parse_json
from syncl.locks import only_one
from syncl.runs.processes import Processes
from syncl.wording import counted

_RUN = "run.json"


@dataclass(frozen=True)
class SceneParts:
    """The folder of finished scenes.

    Attributes:
        folder: of a tracking's output.
        made_with: what the last digits depend on: sums are rounded as devices and threads divide them.
    """

    folder: Path
    made_with: Mapping[str, object] = field(default_factory=dict)

    def read(self, scene: str, samples: Sequence[str]) -> dict[str, bytes] | None:
        """The boxes of a finished scene, JSON text by sample; None if it is not finished.

        Raises:
            SynclError: the file is not what was written.
        """
        path = self._path(scene)
        if not path.is_file():
            return None
        with system_errors_named(path):
            digest, _, text = path.read_bytes().partition(b"\n")
        content = parse_json(text, str(path)) if digest == _digest(text) else None
        if not isinstance(content, dict) or list(content) != list(samples):
            raise SynclError(f"{path}: damaged: not this scene as it was written; delete it")
        return {sample: orjson.dumps(boxes) for sample, boxes in content.items()}

    def write(self, scene: str, boxes: Mapping[str, bytes]) -> None:
        """Keep a finished scene."""
        entries = (orjson.dumps(sample) + b":" + text for sample, text in boxes.items())
        text = b"{" + b",".join(entries) + b"}"
        atomic_write(self._path(scene), _digest(text) + b"\n" + text)

    def _path(self, scene: str) -> Path:
        return self.folder / f"scene-{quote(scene, safe='')}.json"


@contextmanager
def scene_parts(
    output: Path, origin: Mapping[str, object], resume: bool, overwrite: bool, processes: Processes
) -> Iterator[SceneParts]:
    """The finished scenes of an output, for as long as it is worked at; they are gone when that is done.

    Args:
        output: results file.
        origin: what its bytes follow from, as JSON values.
        resume: go on with scenes that an earlier call finished.
        overwrite: if not, those are removed.
        processes: those that share the work.

    Raises:
        SynclError: another process works at the same output; there are finished scenes, and neither `resume`
            nor `overwrite` is set; or they were made of something else, with the differences.
    """
    folder = _folder(output)
    with only_one(folder) if processes.is_main else nullcontext():
        if processes.is_main:
            _prepare(folder, origin, resume, overwrite)
        processes.meet()
        done = False
        try:
            yield SceneParts(folder, {name: origin[name] for name in ("device", "threads", "torch")})
            done = True
        finally:
            if processes.is_main and (done or not _finished(folder)):
                shutil.rmtree(folder, ignore_errors=True)


def finished_scenes(output: Path) -> int:
    """How many scenes of an output are finished that is not."""
    return _finished(_folder(output))


def _prepare(folder: Path, origin: Mapping[str, object], resume: bool, overwrite: bool) -> None:
    finished = _finished(folder)
    if finished and not resume and not overwrite:
        raise SynclError(
            f"{folder}: holds {counted(finished, 'scene')} that an earlier call finished; go on with "
            "--resume, or start anew with --overwrite"
        )
    path = folder / _RUN
    if finished and resume:
        known = parse_json(path)
        if not isinstance(known, dict):
            raise SynclError(f"{path}: damaged: no object; start anew with --overwrite, without --resume")
        changed = [
            f"{name} was {shown(known.get(name))}, is {shown(origin.get(name))}"
            for name in {**known, **origin}
            if known.get(name) != origin.get(name)
        ]
        if changed:
            raise SynclError(
                f"{folder}: the finished scenes are of another tracking: {'; '.join(changed)}. Track as "
                "then, or start anew with --overwrite, without --resume"
            )
        return
    with system_errors_named(folder):
        for old in folder.glob("scene-*.json"):
            old.unlink()
    atomic_write(path, orjson.dumps(origin, option=orjson.OPT_INDENT_2))


def _folder(output: Path) -> Path:
    return output.with_name(f"{output.name}.scenes")


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def _finished(folder: Path) -> int:
    return len(list(folder.glob("scene-*.json")))
