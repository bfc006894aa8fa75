# SPDX-License-Identifier: GPL-3.0-or-later
"""What two kinds of Docker daemon keep of an image on their disks, written small."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any, Dict, List, Mapping

from helpers.images import Image, chain_ids, digest


def classic(root: Path, image: Image) -> str:
    """Write *image* as overlay2 keeps it below *root*; return its id."""
    images = root / "image" / "overlay2"
    _write(images / "imagedb" / "content" / "sha256" / digest(image.config)[7:], image.config)
    for number, (chain_id, layer) in enumerate(zip(chain_ids(image.diff_ids), image.layers)):
        place = images / "layerdb" / "sha256" / chain_id[7:]
        cache_id = f"{number:064x}"
        _write(place / "cache-id", cache_id.encode())
        _write(place / "size", str(len(layer)).encode())
        entries = split(layer, root / "overlay2" / cache_id / "diff")
        _write(place / "tar-split.json.gz", gzip.compress(b"".join(json.dumps(each).encode() + b"\n" for each in entries)))
    return digest(image.config)


def split(layer: bytes, diff: Path) -> List[Dict[str, Any]]:
    """Unpack a tar below *diff* and return its tar-split: all but the files' content."""
    diff.mkdir(parents=True, exist_ok=True)
    entries: List[Dict[str, Any]] = []
    done = 0
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        for info in archive:
            entries.append({"type": 2, "payload": base64.b64encode(layer[done : info.offset_data]).decode(), "position": len(entries)})
            entry: Dict[str, Any] = {"type": 1, "name": info.name, "size": info.size, "payload": None, "position": len(entries)}
            try:
                info.name.encode()
            except UnicodeEncodeError:
                entry["name_raw"] = base64.b64encode(os.fsencode(entry.pop("name"))).decode()
            entries.append(entry if info.size else {key: value for key, value in entry.items() if key != "size"})
            done = info.offset_data
            if info.isreg():
                _write(Path(os.fsdecode(os.path.join(os.fsencode(diff), os.fsencode(info.name)))), layer[done : done + info.size])
                done += info.size
    entries.append({"type": 2, "payload": base64.b64encode(layer[done:]).decode(), "position": len(entries)})
    return entries


def containerd(root: Path, image: Image, is_gzip: bool = False, has_index: bool = False) -> str:
    """Write *image* into a containerd content store below *root*; return its id there."""
    blobs = root / "io.containerd.content.v1.content" / "blobs" / "sha256"
    kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if is_gzip else "")
    layers = [gzip.compress(layer) if is_gzip else layer for layer in image.layers]
    manifest = json.dumps(
        {
            "config": {"digest": digest(image.config)},
            "layers": [{"mediaType": kind, "digest": digest(each), "size": len(each)} for each in layers],
        }
    ).encode()
    attestation = json.dumps({"layers": []}).encode()
    note = {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    index = {"manifests": [{"digest": digest(manifest)}, {"digest": "sha256:" + "f" * 64}, {"digest": digest(attestation), **note}]}
    for data in (*layers, image.config, manifest, attestation, json.dumps(index).encode()):
        _write(blobs / digest(data)[7:], data)
    return digest(json.dumps(index).encode() if has_index else manifest)


def content(root: Path, blobs: Mapping[str, bytes]) -> None:
    """Write blobs, by their digests, into a containerd content store below *root*."""
    for name, data in blobs.items():
        _write(root / "io.containerd.content.v1.content" / "blobs" / "sha256" / name[7:], data)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
