# Copyright (c) 2026 The rocm.madengine authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as the OCI specifications have them: references, digests, blobs, and the store that is an image layout.

Imports `core`. Open `image` first, then `store`.
"""
