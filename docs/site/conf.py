# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Sphinx makes a site of what antsibull-docs wrote: `make docs`. It is built without a network, so it looks up nothing."""

from __future__ import annotations

from typing import Any, Optional

from docutils import nodes

project = "rocm.madengine"
copyright = "2026, the rocm.madengine authors"
html_title = "rocm.madengine"
extensions = ["sphinx_antsibull_ext"]
highlight_language = "none"
html_theme = "alabaster"
html_theme_options = {"fixed_sidebar": True, "page_width": "1100px"}
html_sidebars = {"**": ["about.html", "searchfield.html", "localtoc.html", "relations.html"]}
html_show_sphinx = False
html_copy_source = False
html_use_index = False
default_role = "any"

# The labels of Ansible's own documentation that antsibull-docs refers to; any other that leads nowhere fails the build.
ANSIBLE = "https://docs.ansible.com/projects/ansible/latest/"
ELSEWHERE = {
    "common_return_values": "reference_appendices/common_return_values.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
    "action_plugins": "plugins/action.html",
}


def elsewhere(app: Any, env: Any, node: Any, text: Any) -> Optional[nodes.reference]:
    """Return the link for a label that is none of ours, or None if it is nobody's."""
    place = ELSEWHERE.get(node["reftarget"])
    return nodes.reference("", "", text, refuri=ANSIBLE + place, internal=False) if place else None


def setup(app: Any) -> None:
    app.connect("missing-reference", elsewhere)
