"""Execute notebooks and compare what they show with what is in them: `make notebooks`. `--update` keeps what is new.

Processors round differently: a number may differ by one unit of its last decimal, and freely below `ROUND_OFF`; whole
numbers and words may not. A picture must have the same size and nearly the same pixels. Nothing else of a run is kept:
no counts, no times, nothing that went to stderr.
"""

import argparse
import base64
import io
import re
import resource
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image, ImageChops, ImageStat
from traitlets.config import Config

#: Where Colab finds notebooks and package. No account can have this name: set yours, and `make notebooks UPDATE=1`.
REPOSITORY = "your_account/toymodel"
ADDRESS = re.compile(r"(github(?:\.com)?/)[\w.-]+/[\w.-]+(?=/blob|')")

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)")
TERMINAL = re.compile(r"\x1b\[[\d;]*m")  # Rich's colours
ROUND_OFF = Decimal("1e-9")
PIXELS = 0.1  # mean difference of two pictures, in 255 levels: that of one curve that moves is larger
COLOURS = 256  # of a picture


def executed(notebook: NotebookNode) -> NotebookNode:
    """The notebook with the outputs of a run.

    Raises:
      CellExecutionError: a cell raises.
    """
    found = nbformat.from_dict(notebook)
    config = Config({"KernelManager": {"transport_encryption": "auto"}})  # without, a kernel writes a warning
    options = {"record_timing": False, "startup_timeout": 600, "config": config}
    NotebookClient(found, resources={"metadata": {"path": str(Path(__file__).parent)}}, **options).execute()
    found.metadata = nbformat.from_dict(METADATA)
    for cell in found.cells:
        cell.source, cell.metadata = ADDRESS.sub(rf"\1{REPOSITORY}", cell.source), {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = _kept(cell.outputs)
    return found


def _kept(outputs: list[NotebookNode]) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if output.output_type == "stream" and kept and "text" in kept[-1]:
            kept[-1].text += output.text  # it comes in pieces, by chance
        elif output.output_type == "stream":
            kept.append(output)
        elif png := output.data.get("image/png"):
            small = io.BytesIO()
            _image(png).quantize(COLOURS, dither=Image.Dither.NONE).save(small, "png", optimize=True)
            data = {"image/png": base64.b64encode(small.getvalue()).decode()}
            kept.append(nbformat.v4.new_output("display_data", data))
        else:
            data = {"text/plain": TERMINAL.sub("", output.data["text/plain"])}
            kept.append(nbformat.v4.new_output("display_data", data))
    return kept


def _image(png: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")


def parts(cell: NotebookNode) -> list[tuple[str, str]]:
    """The kind and the content of each output."""
    return [("text", out.text) if "text" in out else next(iter(out.data.items())) for out in cell.get("outputs", [])]


def differences(kept: NotebookNode, found: NotebookNode) -> Iterator[str]:
    """What is not the same in two runs of a notebook, a sentence each."""
    for number, (old, new) in enumerate(zip(kept.cells, found.cells, strict=True)):
        if old.source != new.source:
            yield f"cell {number}: {old.source!r} does not lead to {REPOSITORY}."
        kinds = [[kind for kind, _ in parts(cell)] for cell in (old, new)]
        if kinds[0] != kinds[1]:
            yield "cell {}: it showed {}, and now {}.".format(number, *kinds)
            continue
        for (kind, before), (_, after) in zip(parts(old), parts(new), strict=True):
            if told := (_of_pictures if kind == "image/png" else _of_texts)(before, after):
                yield f"cell {number}: {told}"


def _of_texts(before: str, after: str) -> str:
    old, new = before.splitlines(), after.splitlines()
    for was, now in zip(old, new, strict=False):
        if not _same(*(NUMBER.split(" ".join(line.replace("−", "-").split())) for line in (was, now))):
            return f"it printed\n  {was}\nand now\n  {now}"
    return "" if len(old) == len(new) else f"it printed {len(old)} lines, and now {len(new)}."


def _same(old: list[str], new: list[str]) -> bool:
    """Whether two lines, words and numbers in turn, have the same words and nearly the same numbers."""
    return old[::2] == new[::2] and all(map(_close, map(Decimal, old[1::2]), map(Decimal, new[1::2])))


def _close(old: Decimal, new: Decimal) -> bool:
    last = max(old.as_tuple().exponent, new.as_tuple().exponent)
    return abs(old - new) <= (max(ROUND_OFF, Decimal(1).scaleb(last)) if last < 0 else 0)


def _of_pictures(before: str, after: str) -> str:
    old, new = _image(before), _image(after)
    if old.size != new.size:
        return f"its picture had {old.size} pixels, and now {new.size}."
    mean = max(ImageStat.Stat(ImageChops.difference(old, new)).mean)
    return f"its picture differs by {mean:.2f} of 255 levels, more than {PIXELS}." if mean > PIXELS else ""


def main() -> int:
    """The exit status: 1 where a notebook stops or shows something else than it did."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--update", action="store_true", help="keep what they show now")
    options, wrong = parser.parse_args(), False
    for path in options.notebooks:
        kept, problems, began = nbformat.read(path, as_version=4), [], resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            found = executed(kept)
            if options.update:
                nbformat.write(found, path)
            else:
                problems += differences(kept, found)
        except CellExecutionError as error:
            problems.append(f"it stops: {error}")
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = used.ru_utime + used.ru_stime - began.ru_utime - began.ru_stime
        print(f"{path.name}: {len(problems)} differences, {seconds:.0f} seconds of CPU", flush=True)
        for problem in problems:
            print(f"{path.name}, {problem}", file=sys.stderr)
        wrong |= bool(problems)
    if wrong:
        print("If this is meant: `make notebooks UPDATE=1`, and look at the pictures.", file=sys.stderr)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
