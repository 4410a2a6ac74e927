"""The repository's own pages as pages of the site, so that nothing is said twice.

Their links are to files of the repository. A page, a figure or a proof becomes a link of the site, a Coq source, a
configuration or a notebook a download; another file keeps its name and loses its link; and a link to a file that does
not exist stays as it is, for the build to fail on.
"""

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
DOWNLOADS = (".v", ".toml", ".ipynb", ".csv")

TOKENS = re.compile(
    r"^```.*?^```"
    r"|\$`(?P<formula>.+?)`\$"
    r"|(?P<image>!?)\[(?P<text>(?:!\[[^\]]*\]\([^)]*\)|[^\]])*)\]\((?P<target>[^)\s]+)\)"
    r"|`(?P<code>[^`]+)`",
    re.MULTILINE | re.DOTALL,
)
FIGURES = re.compile(r"^### (?:(?!^##).)*?!\[[^\]]*\]\(gallery/(fig_\w+)\.png", re.MULTILINE | re.DOTALL)
SHOWN = {f"figures/{name}.py": name for name in FIGURES.findall((ROOT / "figures/README.md").read_text("utf-8"))}


def write(folder: Path) -> None:
    """Every page of `PAGES` into `folder`."""
    for source, name in PAGES.items():
        (folder / f"{name}.md").write_text(translated(source, folder), encoding="utf-8")


def translated(source: str, folder: Path) -> str:
    """A page as the site wants it, with a place to link to for each figure."""
    text = (ROOT / source).read_text(encoding="utf-8")
    if source == "figures/README.md":
        text = FIGURES.sub(lambda section: f"({section[1]})=\n{section[0]}", text)
    text = translate(text, (ROOT / source).parent, folder)
    if source == "proofs/CLAIMS.md":
        text += "\n".join(["", "```{toctree}", ":hidden:", "", *PROOFS, "```", ""])
    return text


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
