"""A hook of mkdocs: README and CONTRIBUTING become pages, and what they link to outside docs/ becomes part of the site.

So that one Markdown file serves both the repository and the site, links in it are those of the repository. Here every
link of a page is turned into the path that its file has in the site. A link to a file that does not exist is a warning,
which the strict build makes an error.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}  # in the repository: in the site

_log = logging.getLogger("mkdocs.hooks.site_files")
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def site_path(repository_path: str) -> str:
    """Where a file of the repository lies in the site."""
    return PAGES.get(repository_path, repository_path.removeprefix("docs/"))


def targets(markdown: str, source: str) -> list[str]:
    """The files that a page links to, as paths in the repository. `source` is the page's own."""
    prose = "".join(part for part in _FENCE.split(markdown) if not part.startswith("```"))
    links = (match.group(2).partition("#")[0] for match in _LINK.finditer(prose))
    folder = posixpath.dirname(source)
    return [posixpath.normpath(posixpath.join(folder, link)) for link in links if link and ":" not in link]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and every file outside docs/ that some page links to."""
    for name, path in PAGES.items():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / name)))
    for page in list(files.documentation_pages()):
        source = Path(str(page.abs_src_path))
        for target in targets(source.read_text(encoding="utf-8"), source.relative_to(ROOT).as_posix()):
            path = site_path(target)
            if files.get_file_from_path(path) is None and (ROOT / target).is_file():
                files.append(File.generated(config, path, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Links of the repository as links of the site."""
    source = Path(str(page.file.abs_src_path)).relative_to(ROOT).as_posix()
    here = posixpath.dirname(page.file.src_uri)

    def rewrite(match: re.Match[str]) -> str:
        path, mark, anchor = match.group(2).partition("#")
        if not path or ":" in path:
            return match.group()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if not (ROOT / target).is_file():
            _log.warning("%s links to %s, which is not a file of the repository", source, target)
        return f"{match.group(1)}{posixpath.relpath(site_path(target), here or '.')}{mark}{anchor}{match.group(3)}"

    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(rewrite, part) for part in parts)
