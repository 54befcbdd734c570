"""What mkdocs calls while it builds: adds the pages that are made from the code."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pages import api_pages, commands_page, page_of_source, recipes_page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add recipes, commands and the API's pages to those that lie in docs/."""
    made = {"recipes.md": recipes_page(), "commands.md": commands_page()}
    made |= {f"api/{name}": text for name, text in api_pages().items()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Send links to the source, which a reader of the repository follows, to the pages made from it."""
    del page, config, files
    return re.sub(r"(?<=\]\()\.\./src/syncl/([^)#]*)", lambda link: page_of_source(link[1]), markdown)
