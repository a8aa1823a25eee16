# SPDX-License-Identifier: GPL-2.0
#
# How `make htmldocs` builds these pages. They are read on forges as well, which know
# no Sphinx: so a link is `text <page.rst#section>`__, which is made to fit here.

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.util import logging

project = "dmabuf-coherency"
html_title = project
html_theme_options = {
    "body_max_width": "none",
    "font_family": "sans-serif",
    "page_width": "75rem",
    "show_powered_by": False,
}
html_static_path = ["html.css"]
html_css_files = html_static_path
html_copy_source = False
html_show_copyright = False
html_use_index = False
highlight_language = "none"
pygments_style = "sphinx"
smartquotes = False

PAGE = re.compile(r"(?:([\w-]+)\.rst)?(?:#([\w-]+))?")


def local_links(doctree):
    for link in list(doctree.findall(nodes.reference)):
        target = link.get("refuri", "")
        if target and "://" not in target:
            yield link, target, PAGE.fullmatch(target)


def list_pages(app, docname, source):
    """The pages stand in the order in which the index has them."""
    if docname == "index":
        pages = re.findall(r"<([\w-]+)\.rst>`__", source[0])
        source[0] += "\n.. toctree::\n   :hidden:\n\n   " + "\n   ".join(pages)


def prepare(app, doctree):
    """A link to a file that is no page is a download. A picture may be wider than the screen."""
    for link, target, page in local_links(doctree):
        if not page:
            download = addnodes.download_reference("", "", *link.children, reftarget=target)
            link.replace_self(download)
    for picture in list(doctree.findall(nodes.image)):
        frame = nodes.container(classes=["picture"])
        picture.replace_self(frame)
        frame += picture


def link_pages(app, doctree, docname):
    for link, target, page in local_links(doctree):
        name, section = page[1] or docname, page[2]
        if name not in app.env.found_docs or (
            section and section not in app.env.get_doctree(name).ids
        ):
            logging.getLogger(__name__).warning("there is no %s", target, location=link)
        elif page[1]:
            uri = app.builder.get_relative_uri(docname, name)
            link["refuri"] = f"{uri}#{section}" if section else uri
        link["internal"] = True


def setup(app):
    app.connect("source-read", list_pages)
    # Before Sphinx gathers the downloads.
    app.connect("doctree-read", prepare, priority=400)
    app.connect("doctree-resolved", link_pages)
