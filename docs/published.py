"""The repository's own pages and notebooks as pages of the site, so that nothing is said twice.

Their links are to files of the repository. A page, a notebook, a figure or a proof becomes a link of the site, a Coq
source or a configuration a download; another file keeps its name and loses its link; and a link to a file that does not
exist stays as it is, for the build to fail on.
"""

import base64
import json
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "figures/README.md": "gallery",
    "toymodel/remedies/README.md": "remedies",
    "examples/README.md": "sweeps",
    "notebooks/README.md": "notebooks",
    "proofs/CLAIMS.md": "claims",
    "proofs/README.md": "proofs",
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
}
PROOFS = sorted((path.stem for path in (ROOT / "proofs").glob("T*.md")), key=lambda label: int(label[1:]))
PAGES |= {f"proofs/{label}.md": label for label in PROOFS}
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
PAGES |= {f"notebooks/{name}.ipynb": name for name in NOTEBOOKS}
DOWNLOADS = (".v", ".toml", ".csv")

TOKENS = re.compile(
    r"^```.*?^```"
    r"|\$`(?P<formula>.+?)`\$"
    r"|(?P<image>!?)\[(?P<text>(?:!\[[^\]]*\]\([^)]*\)|[^\]])*)\]\((?P<target>[^)\s]+)\)"
    r"|`(?P<code>[^`]+)`",
    re.MULTILINE | re.DOTALL,
)
BADGE = re.compile(r"\[!\[.*?\]\(.*?\)\]\((.*?)\)")  # an image that is a link
FIGURES = re.compile(r"^### (?:(?!^##).)*?!\[[^\]]*\]\(gallery/(fig_\w+)\.png", re.MULTILINE | re.DOTALL)
SHOWN = {f"figures/{name}.py": name for name in FIGURES.findall((ROOT / "figures/README.md").read_text("utf-8"))}


def write(folder: Path) -> None:
    """Every page of `PAGES` into `folder`."""
    for source, name in PAGES.items():
        (folder / f"{name}.md").write_text(translated(source, folder), encoding="utf-8")


def translated(source: str, folder: Path) -> str:
    """A page as the site wants it, with a place to link to for each figure."""
    text = (ROOT / source).read_text(encoding="utf-8")
    if source.endswith(".ipynb"):
        text = from_notebook(text, PAGES[source], folder)
    if source == "figures/README.md":
        text = FIGURES.sub(lambda section: f"({section[1]})=\n{section[0]}", text)
    text = translate(text, (ROOT / source).parent, folder)
    if children := {"proofs/CLAIMS.md": PROOFS, "notebooks/README.md": NOTEBOOKS}.get(source):
        text += "\n".join(["", "```{toctree}", ":hidden:", "", *children, "```", ""])
    return text


def from_notebook(text: str, name: str, folder: Path) -> str:
    """A notebook as Markdown: its words, its code and what that printed; its pictures are written into `folder`."""
    blocks, heading = [], name
    for number, cell in enumerate(json.loads(text)["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            heading = [heading, *re.findall(r"^#+ (.*)", source, re.MULTILINE)][-1]
            source = re.sub(r"\$\$(.+?)\$\$", r"```math\n\1\n```", source, flags=re.DOTALL)
            source = re.sub(r"\$([^$`]+)\$", r"$`\1`$", source)
            blocks.append(
                BADGE.sub(rf"{{download}}`This notebook <../../notebooks/{name}.ipynb>` · [in Colab](\1)", source)
            )
        elif "%pip" not in source:
            blocks.append(f"```python\n{source}\n```")
            for place, output in enumerate(cell["outputs"]):
                if png := output.get("data", {}).get("image/png"):
                    (folder / f"{name}_{number}_{place}.png").write_bytes(base64.b64decode("".join(png)))
                    blocks.append(f"![{heading}]({name}_{number}_{place}.png)")
                else:
                    printed = "".join(output["text"] if "text" in output else output["data"]["text/plain"])
                    blocks.append(f"```text\n{printed.rstrip()}\n```")
    return "\n\n".join(blocks)


def translate(text: str, here: Path, folder: Path) -> str:
    """Links, images and formulas of a text from the folder `here`, for a page in `folder`."""

    def one(token: re.Match[str]) -> str:
        if token["formula"]:
            return f"{{math}}`{' '.join(token['formula'].split())}`"
        if token["target"]:
            return _link(token["image"], translate(token["text"], here, folder), token["target"], here, folder)
        if token["code"] and re.fullmatch(r"toymodel(\.\w+)+", token["code"]):
            return f"{{py:obj}}`{token['code']}`"
        return token[0]

    return TOKENS.sub(one, text)


def _link(image: str, text: str, target: str, here: Path, folder: Path) -> str:
    path, hash_, fragment = target.partition("#")
    file = Path(os.path.normpath(here / path))
    name = file.relative_to(ROOT).as_posix() if path and file.is_relative_to(ROOT) else ""
    here_too = name in SHOWN and here == ROOT / "figures"  # the gallery offers the script itself
    if not image and name in SHOWN and not here_too:
        return f"[{text}](#{SHOWN[name]})"
    if not image and name in PAGES:
        return f"[{text}]({PAGES[name]}.md{hash_}{fragment})"
    if not name or not file.exists():
        return f"{image}[{text}]({target})"
    if image or here_too or file.suffix in DOWNLOADS:
        return f"{image}[{text}]({os.path.relpath(file, folder)})"
    return text
